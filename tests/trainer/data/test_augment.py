import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.train_config import Augmentation
from trainer.data.augment import View, random_view, whole


@given(seed=st.integers(0, 10_000), zoom=st.floats(1, 3), height=st.integers(20, 90), width=st.integers(20, 90))
def test_a_random_view_stays_inside_its_image(seed, zoom, height, width):
    view = random_view((height, width), (32, 64), Augmentation(scale=(1, zoom)), np.random.default_rng(seed))
    assert view.x >= 0
    assert view.y >= 0
    assert view.x + view.width <= width
    assert view.y + view.height <= height


@given(mirrored=st.booleans(), x=st.integers(2, 20), y=st.integers(2, 20), side=st.integers(4, 30))
def test_boxes_go_where_the_pixels_go(mirrored, x, y, side):
    image = np.zeros((64, 64, 3), np.uint8)
    image[y : y + side, x : x + side] = 255
    view = View(0, 0, 64, 64, 128, 128, mirrored)
    x1, y1, x2, y2 = view.corners(np.array([[x, y, side, side]]))[0]
    rows, columns = np.nonzero(view.image(image)[..., 0] > 127)
    assert abs(columns.min() - x1) <= 1
    assert abs(columns.max() + 1 - x2) <= 1
    assert abs(rows.min() - y1) <= 1
    assert abs(rows.max() + 1 - y2) <= 1


def test_masks_keep_their_labels():
    mask = np.random.default_rng(0).choice([0, 3, 255], (50, 70)).astype(np.uint8)
    assert set(np.unique(whole((50, 70), (32, 32)).mask(mask))) <= {0, 3, 255}
