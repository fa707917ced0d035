"""COCO's detection metrics of boxes from what each image adds to them, so that they can be resampled by image.

The protocol is that of cocodataset.org (pycocotools' ``COCOeval``), to which the tests compare: greedy matching by
score, at most 100 detections an image and class, precision made monotone and read off at 101 recalls.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trainer.metrics.coco import NAMES
from trainer.metrics.statistics import mean_of_defined, ratio

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = 100
AREAS = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])
"""All, small, medium and large, in pixels of area."""
ALL, BY_SIZE = 0, {"s": 1, "m": 2, "l": 3}


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class in one image, best first, and what each area range counts of them.

    ``scores`` D; ``hit`` and ``ignored`` A×T×D; ``truths`` A: objects to be found.
    """

    scores: np.ndarray
    hit: np.ndarray
    ignored: np.ndarray
    truths: np.ndarray


def match(boxes: np.ndarray, scores: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> ClassMatches:
    """Match the detections of one class in one image with its objects.

    ``boxes`` D×4 and ``truth`` G×4 as x y w h, ``scores`` D, ``crowd`` G: regions that neither hit nor miss.
    """
    areas = boxes[:, 2:].prod(axis=1), truth[:, 2:].prod(axis=1)
    return match_overlaps(box_overlap(boxes, truth, crowd), scores, *areas, crowd)


def match_overlaps(
    overlap: np.ndarray, scores: np.ndarray, areas: np.ndarray, truth_areas: np.ndarray, crowd: np.ndarray
) -> ClassMatches:
    """As :func:`match`, from the D×G ``overlap`` of boxes or masks and their areas (D, G)."""
    order = np.argsort(-scores, kind="stable")[:MOST]
    overlap, scores = overlap[order], scores[order]
    skipped = crowd | _outside(truth_areas)  # A×G
    shape = (len(AREAS), len(THRESHOLDS), len(scores))
    hit, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    taken = np.zeros((len(AREAS), len(THRESHOLDS), len(crowd)), bool)
    least = np.minimum(THRESHOLDS, 1 - 1e-10)[None, :, None]
    for number in np.flatnonzero(overlap.max(axis=1, initial=0.0) >= least.min()):
        free = (overlap[number] >= least) & (~taken | crowd)
        wanted = free & ~skipped[:, None, :]
        # An object that counts goes before any that is ignored; of equal overlaps COCO takes the last.
        candidates = np.where(wanted.any(axis=2, keepdims=True), wanted, free)
        best = len(crowd) - 1 - np.where(candidates, overlap[number], -1.0)[:, :, ::-1].argmax(axis=2)
        found = candidates.any(axis=2)
        area, threshold = np.nonzero(found)
        chosen = best[found]
        taken[area, threshold, chosen] = True
        hit[area, threshold, number] = True
        ignored[area, threshold, number] = skipped[area, chosen]
    ignored |= ~hit & _outside(areas[order])[:, None, :]
    return ClassMatches(scores, hit & ~ignored, ignored, (~skipped).sum(axis=1))


def _outside(areas: np.ndarray) -> np.ndarray:
    """A×N: whose area is not in the range."""
    return np.asarray((areas < AREAS[:, :1]) | (areas > AREAS[:, 1:]))


def box_overlap(boxes: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """D×G intersection over union; over the detection's own area where the object is a crowd."""
    low = np.maximum(boxes[:, None, :2], truth[None, :, :2])
    high = np.minimum(boxes[:, None, :2] + boxes[:, None, 2:], truth[None, :, :2] + truth[None, :, 2:])
    common = (high - low).clip(min=0).prod(axis=2)
    own, theirs = boxes[:, 2:].prod(axis=1)[:, None], truth[:, 2:].prod(axis=1)[None, :]
    return np.asarray(ratio(common, np.where(crowd, own, own + theirs - common)))


class CocoStatistics:
    """The matches of each image by class number; an image without objects or detections of a class has no entry."""

    def __init__(self, images: Sequence[dict[int, ClassMatches]], classes: Sequence[str]) -> None:
        self.classes, self._size = list(classes), len(images)
        self._by_class = [_Pooled(images, number) for number in range(len(self.classes))]

    def __len__(self) -> int:
        return self._size

    def metrics(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """COCO's twelve numbers, and ``AP/<class>`` and ``AP50/<class>``."""
        draws = len(counts)
        precision = {area: [one.precision(area, counts) for one in self._by_class] for area in range(len(AREAS))}
        recall = {
            (area, most): [one.recall(area, most, counts) for one in self._by_class]
            for area, most in [(ALL, 1), (ALL, 10), *((area, MOST) for area in range(len(AREAS)))]
        }

        def averaged(values: Sequence[np.ndarray]) -> np.ndarray:
            return mean_of_defined([value.mean(axis=0) for value in values], draws)

        values = [averaged(precision[ALL]), *(mean_of_defined([p[t] for p in precision[ALL]], draws) for t in (0, 5))]
        values += [averaged(precision[area]) for area in BY_SIZE.values()]
        values += [averaged(recall[ALL, most]) for most in (1, 10, MOST)]
        values += [averaged(recall[area, MOST]) for area in BY_SIZE.values()]
        found = dict(zip(NAMES, values, strict=True))
        for name, one in zip(self.classes, precision[ALL], strict=True):
            found |= {f"AP/{name}": one.mean(axis=0), f"AP50/{name}": one[0]}
        return found

    def curve(self, number: int, threshold: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Precision (monotone, at ``RECALLS``) of a class at one of ``THRESHOLDS``, and the score reached there.

        NaN where the class has no objects; the score is 0 beyond the last recall.
        """
        return self._by_class[number].curve(threshold)


class _Pooled:
    """The detections of one class in all images, best first."""

    def __init__(self, images: Sequence[dict[int, ClassMatches]], number: int) -> None:
        found = [(place, one[number]) for place, one in enumerate(images) if number in one]
        self.truths = np.zeros((len(AREAS), len(images)))
        for place, one in found:
            self.truths[:, place] = one.truths
        shape = (len(AREAS), len(THRESHOLDS), 0)
        scores = np.concatenate([np.zeros(0), *(one.scores for _, one in found)])
        order = np.argsort(-scores, kind="stable")
        self.scores = scores[order]
        ranks = [np.arange(len(one.scores)) for _, one in found]
        places = [np.full(len(one.scores), place) for place, one in found]
        self.rank = np.concatenate([np.zeros(0, int), *ranks])[order]
        self.image = np.concatenate([np.zeros(0, int), *places])[order]
        self.hit = np.concatenate([np.zeros(shape, bool), *(one.hit for _, one in found)], axis=2)[..., order]
        self.ignored = np.concatenate([np.zeros(shape, bool), *(one.ignored for _, one in found)], axis=2)[..., order]

    def recall(self, area: int, most: int, counts: np.ndarray) -> np.ndarray:
        """T×B: objects found among the best ``most`` detections of each image."""
        hits = self.hit[area] & (self.rank < most)
        by_image = np.stack([np.bincount(self.image[own], minlength=counts.shape[1]) for own in hits])
        truths = counts @ self.truths[area]
        return ratio(by_image @ counts.T, np.broadcast_to(truths, (len(THRESHOLDS), len(counts))))

    def precision(self, area: int, counts: np.ndarray) -> np.ndarray:
        """T×B: the mean over ``RECALLS`` of the monotone precision."""
        truths = counts @ self.truths[area]
        result = np.full((len(THRESHOLDS), len(counts)), np.nan)
        if not truths.any():
            return result
        for threshold, (hits, weights) in enumerate(self._weighted(area, counts)):
            result[threshold] = _mean_precision(hits, weights, truths)
        return result

    def _weighted(self, area: int, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each threshold B×K: how many hits, and how many detections, there are down to each of K hits."""
        # What comes after the last hit changes nothing.
        last = 1 + int(np.flatnonzero(self.hit[area].any(axis=0)).max(initial=-1))
        image, kept = self.image[:last], (~self.ignored[area, :, :last]).astype(np.float64)
        shared = (counts[:, image] * kept[0]).cumsum(axis=1)
        for hit, change in zip(map(np.flatnonzero, self.hit[area]), kept - kept[0], strict=True):
            weights = shared[:, hit]
            if len(other := np.flatnonzero(change)):
                more = np.pad((counts[:, image[other]] * change[other]).cumsum(axis=1), ((0, 0), (1, 0)))
                weights += more[:, np.searchsorted(other, hit, side="right")]
            yield counts[:, image[hit]].cumsum(axis=1), weights

    def curve(self, threshold: int) -> tuple[np.ndarray, np.ndarray]:
        counts = np.ones((1, self.truths.shape[1]))
        truths = counts @ self.truths[ALL]
        if not truths.any():
            return np.full(len(RECALLS), np.nan), np.zeros(len(RECALLS))
        hits, weights = list(self._weighted(ALL, counts))[threshold]
        reached = np.searchsorted(hits[0] / truths[0], RECALLS)
        scores = np.append(self.scores[self.hit[ALL, threshold]], 0.0)
        return np.append(_monotone(hits, weights)[0], 0.0)[reached], scores[reached]


def _mean_precision(hits: np.ndarray, weights: np.ndarray, truths: np.ndarray) -> np.ndarray:
    """B values from ``hits`` and ``weights`` (B×K) and the objects ``truths`` (B), NaN without objects."""
    # Each hit's precision stands for the recalls between the hit before it and itself.
    reached = _recalls_reached(hits / np.maximum(truths, 1)[:, None])
    total = np.einsum("bk,bk->b", np.diff(reached, axis=1, prepend=0), _monotone(hits, weights))
    return np.where(truths > 0, total / len(RECALLS), np.nan)


def _monotone(hits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """B×K: the best precision at each hit or any later one."""
    precision = hits / (weights + np.spacing(1))
    return np.asarray(np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1])


def _recalls_reached(recall: np.ndarray) -> np.ndarray:
    """How many of ``RECALLS`` are at most ``recall`` (0…1), compared as floating point numbers as COCO does."""
    place = np.floor(recall * (len(RECALLS) - 1))
    place -= place * RECALLS[1] > recall  # linspace multiplies likewise
    place += (place + 1) * RECALLS[1] <= recall
    return np.asarray(place + 1)
