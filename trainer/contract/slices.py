"""``slices.yaml``: named parts of the data, chosen by what a row says of itself, and what is asked of each.

.. code-block:: yaml

    labels:                        # what the ids in the masks mean, and which box categories there are
      semantic: {classes: [road, sky, vehicle], ignore_id: 255}
      boxes: [vehicle, pedestrian]
    slices:
      - name: night
        where: {attributes.time_of_day: night}
        targets: {segmentation/mIoU: 0.5}
        allowed_regression: 0.02
        safety_critical: true
      - name: crowds in rain
        where: {attributes.weather: [rain, fog], labels.boxes.pedestrian: {min: 3}}
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
    model_validator,
)

from trainer.contract.errors import ContractError, Problem, problems_of
from trainer.contract.eval_report import OVERALL
from trainer.contract.manifest import LABEL_FIELDS, Row
from trainer.contract.yaml_io import read_yaml

SLICES_FILE = "slices.yaml"

Scalar = str | bool | int | FiniteFloat


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Range(_Model):
    """A number from ``min`` to ``max``, both included; an open end has no bound."""

    min: FiniteFloat | None = None
    max: FiniteFloat | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> "Range":
        if self.min is None and self.max is None:
            raise ValueError("a range needs min, max or both")
        return self

    def holds(self, value: Any) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class Not(_Model):
    """Anything but these values."""

    none_of: tuple[Scalar, ...] = Field(alias="not")

    @field_validator("none_of", mode="before")
    @classmethod
    def _as_list(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]

    def holds(self, value: Any) -> bool:
        return not any(_same(value, candidate) for candidate in self.none_of)


Condition = Range | Not | tuple[Scalar, ...] | Scalar


class Slice(_Model):
    """A named predicate over rows and what is asked of a model on the rows that fulfil it.

    ``where`` maps a field to a condition; all must hold. Fields: ``attributes.<name>`` and
    ``labels.<boxes|semantic|lanes|tracks>``, the number of labels (for the mask: 0 or 1), or
    ``labels.boxes.<category>``, the number of boxes of one category; boxes to be ignored do not count. Conditions: a
    value, a list of values, ``{min: , max: }``, ``{not: value or list}``.

    ``targets`` maps a metric (``<task>/<metric>``) to the least value that passes; ``allowed_regression`` is how
    much worse than production a metric may be; both count for a gate only with ``min_samples`` samples.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$")]
    where: dict[str, Condition] = {}
    targets: dict[str, FiniteFloat] = {}
    allowed_regression: Annotated[FiniteFloat, Field(ge=0)] = 0.02
    safety_critical: bool = False
    min_samples: Annotated[int, Field(ge=1)] = 10

    @field_validator("where")
    @classmethod
    def _known_fields(cls, where: dict[str, Condition]) -> dict[str, Condition]:
        for field in where:
            kind, _, rest = field.partition(".")
            label, _, category = rest.partition(".")
            known_label = label in LABEL_FIELDS and (not category or label == "boxes")
            if not rest or not (kind == "attributes" or (kind == "labels" and known_label)):
                raise ValueError(
                    f"'{field}' is neither attributes.<name> nor labels.<{'|'.join(LABEL_FIELDS)}>"
                    " nor labels.boxes.<category>"
                )
        return where

    @model_validator(mode="after")
    def _all_is_everything(self) -> "Slice":
        if self.name == OVERALL and self.where:
            raise ValueError(f"'{OVERALL}' is the whole split in every report: give a part of it another name")
        return self

    def holds(self, row: Row) -> bool:
        return all(_holds(condition, value_of(row, field)) for field, condition in self.where.items())


def distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    """``names`` if none is given twice.

    Raises:
        ValueError: says which are.
    """
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"given more than once: {repeated}")
    return names


class SemanticLabels(_Model):
    """What the values of a mask mean: ``classes[i]`` is the name of value ``i``; ``ignore_id`` is not scored."""

    classes: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(distinct)]
    ignore_id: Annotated[int, Field(ge=0, le=255)] = 255


class Labels(_Model):
    """The label map of a delivery; what is not declared is not checked."""

    semantic: SemanticLabels | None = None
    boxes: Annotated[tuple[str, ...], AfterValidator(distinct)] | None = None


class Slices(_Model):
    """The whole of ``slices.yaml``."""

    labels: Labels = Labels()
    slices: tuple[Slice, ...] = ()

    @field_validator("slices")
    @classmethod
    def _distinct(cls, slices: tuple[Slice, ...]) -> tuple[Slice, ...]:
        distinct(tuple(one.name for one in slices))
        return slices

    @model_validator(mode="after")
    def _declared_categories(self) -> "Slices":
        """A misspelt category would make a slice that is always empty, and a gate on it that never decides."""
        prefix, known = "labels.boxes.", self.labels.boxes
        if known is None:
            return self
        for one in self.slices:
            for field in one.where:
                if field.startswith(prefix) and field.removeprefix(prefix) not in known:
                    raise ValueError(f"slice '{one.name}': '{field}' is not of labels.boxes {list(known)}")
        return self


def value_of(row: Row, field: str) -> Any:
    """What ``row`` says for ``field``; ``None`` where it says nothing."""
    kind, _, rest = field.partition(".")
    if kind == "attributes":
        return row.attributes.get(rest)
    label, _, category = rest.partition(".")
    labels = getattr(row, LABEL_FIELDS[label])
    if labels is None:
        return None
    if label == "semantic":
        return 1
    if label == "boxes":
        return sum(not box.ignore and category in ("", box.category) for box in labels)
    return len(labels)


def _holds(condition: Condition, value: Any) -> bool:
    if isinstance(condition, Range | Not):
        return condition.holds(value)
    candidates = condition if isinstance(condition, tuple) else (condition,)
    return any(_same(value, candidate) for candidate in candidates)


def _same(value: Any, candidate: Any) -> bool:
    return value == candidate and isinstance(value, bool) == isinstance(candidate, bool)


def parse_slices(value: Any, name: str = "slices.yaml") -> Slices:
    """``value`` as :class:`Slices`.

    Raises:
        ContractError: names each field that is wrong.
    """
    if not isinstance(value, Mapping):
        problem = Problem(name, repr(value), "a mapping with the key 'slices'")
        raise ContractError(f"{name} is not usable", [problem])
    try:
        return Slices.model_validate(value)
    except ValidationError as error:
        raise ContractError(f"{name} is not usable", problems_of(error, name)) from None


def read_slices(path: Path) -> Slices:
    return parse_slices(read_yaml(path), str(path))
