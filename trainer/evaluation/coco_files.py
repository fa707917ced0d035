"""COCO's ground truth and result lists, checked before they are scored (cocodataset.org)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    StrictFloat,
    StrictInt,
    TypeAdapter,
    ValidationError,
)

from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.metrics.coco import IouType

Number = StrictInt | StrictFloat
Box = tuple[Number, Number, Number, Number]


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class _Image(_Model):
    id: StrictInt


class _SizedImage(_Image):
    height: StrictInt
    width: StrictInt


class _Category(_Model):
    id: StrictInt
    name: str


class _Annotation(_Model):
    """``area`` decides which of APs, APm and APl the object counts for; without it COCO's code fails."""

    id: StrictInt
    image_id: StrictInt
    category_id: StrictInt
    area: Annotated[Number, Field(ge=0)]
    iscrowd: StrictBool | Annotated[StrictInt, Field(ge=0, le=1)] = 0


class _BoxAnnotation(_Annotation):
    bbox: Box


class _Rle(_Model):
    """``size`` is (height, width); ``counts`` is compressed, or lists the runs."""

    size: tuple[StrictInt, StrictInt]
    counts: str | list[StrictInt]


Polygon = Annotated[list[Number], Field(min_length=6)]


class _MaskAnnotation(_Annotation):
    segmentation: Annotated[list[Polygon], Field(min_length=1)] | _Rle


class _BoxTruth(_Model):
    images: Annotated[list[_Image], Field(min_length=1)]
    categories: list[_Category]
    annotations: list[_BoxAnnotation]


class _MaskTruth(_Model):
    images: Annotated[list[_SizedImage], Field(min_length=1)]
    categories: list[_Category]
    annotations: list[_MaskAnnotation]


class _Result(_Model):
    image_id: StrictInt | StrictFloat
    category_id: StrictInt | StrictFloat
    score: FiniteFloat = Field(strict=True)


class _BoxResult(_Result):
    bbox: Box


class _Mask(_Model):
    """Compressed RLE; ``size`` is (height, width)."""

    size: tuple[StrictInt, StrictInt]
    counts: str


class _MaskResult(_Result):
    segmentation: _Mask


class _FullResult(_BoxResult, _MaskResult):
    """Both: scored by its mask, its size taken from its box, as COCO's own ``loadRes`` does."""


def checked_iou_type(truth_path: Path, truth: Any, results_path: Path, results: Any, asked: IouType | None) -> IouType:
    """What to compare by: as asked, or by what the first result has. COCO too takes the kind of all from the first.

    Raises:
        ContractError: a file is not in COCO's format, or a result is of an unknown image or category.
    """
    first = results[0] if isinstance(results, list) and results and isinstance(results[0], dict) else {}
    chosen: IouType = asked or ("segm" if "segmentation" in first else "bbox")
    _validate(_MaskTruth if chosen == "segm" else _BoxTruth, truth, truth_path)
    problems = [*_repeated(truth, truth_path), *_uncategorised(truth, truth_path)]
    if chosen == "segm":
        problems += _missized(truth, truth["annotations"], truth_path, "annotations.")
    if problems:
        raise ContractError("the ground truth is refused", problems)
    masked, boxed = "segmentation" in first, "bbox" in first
    kind = (_FullResult if boxed else _MaskResult) if masked else _BoxResult
    _validate(list[kind], results, results_path)  # type: ignore[valid-type]
    if unknown := list(_unknown(truth, results, results_path, masked)):
        raise ContractError("predictions are refused", unknown)
    return chosen


def _validate(kind: Any, value: Any, path: Path) -> None:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ContractError(f"{path} is not in COCO's format", problems_of(error, str(path))) from None


def _repeated(truth: dict[str, Any], path: Path) -> Iterator[Problem]:
    for key, field in (("images", "id"), ("categories", "id"), ("categories", "name"), ("annotations", "id")):
        seen: set[int | str] = set()
        for number, one in enumerate(truth[key]):
            if one[field] in seen:
                yield Problem(str(path), str(one[field]), "one that is used once", field=f"{key}.{number}.{field}")
            seen.add(one[field])


def _uncategorised(truth: dict[str, Any], path: Path) -> Iterator[Problem]:
    categories = {one["id"] for one in truth["categories"]}
    for number, one in enumerate(truth["annotations"]):
        if one["category_id"] not in categories:
            field = f"annotations.{number}.category_id"
            yield Problem(str(path), str(one["category_id"]), "a category of this file", field=field)


def _unknown(truth: dict[str, Any], results: Sequence[dict[str, Any]], path: Path, masked: bool) -> Iterator[Problem]:
    images = {one["id"] for one in truth["images"]}
    categories = {one["id"] for one in truth["categories"]}
    if masked:
        yield from _missized(truth, results, path)
    for number, one in enumerate(results):
        if one["image_id"] not in images:
            found = str(one["image_id"])
            yield Problem(str(path), found, "an image of the ground truth", field=f"{number}.image_id")
        if one["category_id"] not in categories:
            found = str(one["category_id"])
            yield Problem(str(path), found, "a category of the ground truth", field=f"{number}.category_id")


def _missized(
    truth: dict[str, Any], masks: Sequence[dict[str, Any]], path: Path, prefix: str = ""
) -> Iterator[Problem]:
    """Masks in runs whose size is not that of their image, where that is known."""
    sizes = {one["id"]: [one["height"], one["width"]] for one in truth["images"] if "height" in one and "width" in one}
    for number, one in enumerate(masks):
        size, mask = sizes.get(one["image_id"]), one["segmentation"]
        if size is None or isinstance(mask, list):
            continue
        if list(mask["size"]) != size:
            expected = f"the image's height and width, {size}"
            yield Problem(str(path), str(mask["size"]), expected, field=f"{prefix}{number}.segmentation.size")
        elif isinstance(mask["counts"], list) and sum(mask["counts"]) != size[0] * size[1]:
            found, expected = f"runs of {sum(mask['counts'])} pixels", f"{size[0] * size[1]}, those of the image"
            yield Problem(str(path), found, expected, field=f"{prefix}{number}.segmentation.counts")
