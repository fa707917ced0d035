"""From nuScenes' boxes in space to pixels, as its development kit projects them.

``nuscenes/nuscenes.py`` (``get_sample_data``), ``utils/data_classes.py`` (``Box.corners``) and
``utils/geometry_utils.py`` (``view_points``, ``box_in_image`` with ``BoxVisibility.ANY``) of nuscenes-devkit.
"""

from itertools import product

import numpy as np
import numpy.typing as npt

from trainer.contract.manifest import Point
from trainer.data.readers.category_map import BBox
from trainer.data.readers.nuscenes_tables import Annotation, CalibratedSensor, Pose
from trainer.data.readers.pictures import clipped

Array = npt.NDArray[np.float64]

IN_FRONT = 0.1
"""Metres in front of the camera that each corner of a box has to be."""
SEEN = 1.0
"""Metres in front of the camera from which on a point can be visible."""


class Camera:
    """One image: where the vehicle and its camera stood when it was taken, and its ``size`` (width, height)."""

    def __init__(self, vehicle: Pose, sensor: CalibratedSensor, size: tuple[int, int]) -> None:
        self.poses = [(np.array(pose.translation), rotation_matrix(pose)) for pose in (vehicle, sensor)]
        self.intrinsic = np.array(sensor.camera_intrinsic)
        self.size = size

    def bbox(self, annotation: Annotation) -> BBox | None:
        """The part of the image that holds the corners of the box in pixels; None unless one is to be seen."""
        points = self._points(corners(annotation))
        if not (points[:, 2] > IN_FRONT).all() or not self._visible(points).any():
            return None
        pixels = self._pixels(points)
        (left, top), (right, bottom) = pixels.min(axis=0).tolist(), pixels.max(axis=0).tolist()
        return clipped((left, top, right, bottom), self.size)

    def pixel(self, annotation: Annotation) -> Point | None:
        """Where the centre of the box is in the image; None where it is not to be seen."""
        points = self._points(np.array([annotation.translation]))
        if not self._visible(points)[0]:
            return None
        x, y = self._pixels(points)[0].tolist()
        return x, y

    def _points(self, points: Array) -> Array:
        """Points of the global frame (N×3) in the camera's: x to the right, y down, z to the front."""
        for translation, rotation in self.poses:
            points = (points - translation) @ rotation  # the transpose undoes a rotation, and rows hold the points
        return points

    def _pixels(self, points: Array) -> Array:
        projected: Array = points @ self.intrinsic.T
        return projected[:, :2] / projected[:, 2:]

    def _visible(self, points: Array) -> npt.NDArray[np.bool_]:
        visible = points[:, 2] > SEEN
        pixels = self._pixels(np.where(visible[:, None], points, 1.0))
        return visible & (pixels > 0).all(axis=1) & (pixels < self.size).all(axis=1)


def corners(annotation: Annotation) -> Array:
    """The corners of a box (8×3) in the global frame: x along its length, y along its width, z up."""
    width, length, height = annotation.size
    signs = np.array(list(product((-1, 1), repeat=3)))
    turned: Array = signs * np.array([length, width, height]) / 2 @ rotation_matrix(annotation).T
    return turned + annotation.translation


def rotation_matrix(pose: Pose) -> Array:
    """The matrix (3×3) of a unit quaternion (w, x, y, z), to be multiplied with columns."""
    w, x, y, z = pose.rotation
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
