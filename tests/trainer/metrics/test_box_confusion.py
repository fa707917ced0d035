import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainer.metrics.box_confusion import box_confusion, confused_pairs

CAR, PERSON = 0, 1
NOTHING = np.zeros((0, 4))


def pairs(found, truth):
    """``found``: box, score, class; ``truth``: box, class, ignored."""
    boxes, scores, classes = (np.array(part) for part in zip(*found, strict=True)) if found else (NOTHING, [], [])
    objects, kinds, crowd = (np.array(part) for part in zip(*truth, strict=True)) if truth else (NOTHING, [], [])
    given = confused_pairs(
        np.array(boxes, float), np.array(scores, float), np.array(classes, int),
        np.array(objects, float), np.array(kinds, int), np.array(crowd, bool),
    )  # fmt: skip
    return sorted(map(tuple, given.tolist()))


def test_hits_confusions_misses_and_inventions_each_have_their_pair():
    here, there, nowhere, corner = (0, 0, 10, 10), (50, 0, 10, 10), (90, 90, 5, 5), (0, 80, 10, 10)
    found = [(here, 0.9, CAR), (there, 0.8, PERSON), (nowhere, 0.5, CAR), (corner, 0.29, CAR)]
    truth = [(here, CAR, False), (there, CAR, False), (corner, CAR, False)]
    assert pairs(found, truth) == sorted([(CAR, CAR), (CAR, PERSON), (-1, CAR), (CAR, -1)])
    matrix = box_confusion([np.array([(CAR, CAR), (CAR, PERSON), (-1, CAR), (CAR, -1)])], ("car", "person"))
    assert matrix.classes == ("car", "person", "background")
    assert matrix.counts == ((1, 1, 1), (0, 0, 0), (1, 0, 0))


def test_an_object_is_found_once_and_by_the_surest():
    box = (0, 0, 10, 10)
    assert pairs([(box, 0.6, PERSON), (box, 0.7, CAR)], [(box, CAR, False)]) == [(-1, PERSON), (CAR, CAR)]


def test_what_overlaps_by_less_than_half_is_another_thing():
    assert pairs([((0, 0, 10, 10), 0.9, CAR)], [((0, 0, 10, 20.1), CAR, False)]) == [(-1, CAR), (CAR, -1)]
    assert pairs([((0, 0, 10, 10), 0.9, CAR)], [((0, 0, 10, 20), CAR, False)]) == [(CAR, CAR)]


def test_an_ignored_region_is_neither_missed_nor_found_wrongly():
    assert pairs([((5, 5, 10, 10), 0.9, CAR)], [((0, 0, 100, 100), PERSON, True)]) == []
    assert pairs([], []) == []


def brute_force(found, truth):
    """The same rule, one object and detection at a time."""

    def iou(a, b):
        width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
        height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
        common = max(width, 0) * max(height, 0)
        return common / (a[2] * a[3] + b[2] * b[3] - common)

    left, said = list(truth), []
    for box, score, kind in sorted(found, key=lambda one: -one[1]):
        if score >= 0.3:
            near = sorted((one for one in left if iou(box, one[0]) >= 0.5), key=lambda one: -iou(box, one[0]))
            said.append((near[0][1] if near else -1, kind))
            if near:
                left.remove(near[0])
    return sorted(said + [(kind, -1) for _, kind, _ in left])


box = st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(4, 12), st.integers(4, 12))


@given(
    found=st.lists(st.tuples(box, st.floats(0, 1), st.integers(0, 2)), max_size=6, unique_by=lambda one: one[1]),
    truth=st.lists(st.tuples(box, st.integers(0, 2), st.just(False)), max_size=6),
)
def test_every_image_is_paired_as_a_loop_over_its_boxes_would(found, truth):
    assert pairs(found, truth) == brute_force(found, truth)
