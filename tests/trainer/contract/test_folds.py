"""Folds are those of scikit-learn where nothing must stay together, and never split what must."""

import csv
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)

from trainer.contract.cross_validation_settings import CrossValidation
from trainer.contract.errors import ContractError
from trainer.contract.folds import folds_of, is_non_empty
from trainer.contract.manifest import Row

BOX = {"category": "car", "bbox": (0, 0, 4, 4)}


def row(number: int, empty: bool = False, **attributes) -> Row:
    return Row.model_validate(
        {
            "sample_id": f"s{number}",
            "source-ref": f"images/{number}.png",
            "sha256": f"{number:064x}",
            "captured_at": "2026-01-05T12:00:00Z",
            "attributes": attributes,
            "boxes": [] if empty else [BOX],
            "licence": "CC0-1.0",
            "origin": "test",
        }
    )


def cut(rows: list[Row], train: int | None = None, **asked):
    return folds_of(rows, len(rows) if train is None else train, ["boxes"], CrossValidation(**asked))


REGIONS = ["munich", "arles", "zagreb", "berlin", "oslo", "lyon", "turin", "graz"]
ROWS = [row(number, empty=number % 3 == 0, region=REGIONS[number % (8 if number % 3 else 4)]) for number in range(60)]
REGION = [one.attributes["region"] for one in ROWS]
FULL = [number % 3 != 0 for number in range(60)]
BLANK = [0] * 60


@pytest.mark.parametrize(
    ("method", "reference"),
    [
        ("kfold", KFold(4).split(BLANK)),
        ("stratified", StratifiedKFold(4, shuffle=True, random_state=42).split(BLANK, FULL)),
        ("shuffle", StratifiedShuffleSplit(4, test_size=0.25, random_state=42).split(BLANK, FULL)),
        ("region", GroupKFold(4, shuffle=True, random_state=42).split(BLANK, groups=REGION)),
        ("region-stratified", StratifiedGroupKFold(4, shuffle=True, random_state=42).split(BLANK, FULL, REGION)),
    ],
)
def test_the_folds_are_those_of_scikit_learn(method, reference):
    folds = cut(ROWS, folds=4, method=method)
    for fold, (train, val) in enumerate(reference):
        assert folds.train(fold) == tuple(sorted(train.tolist()))
        assert folds.val[fold] == tuple(sorted(val.tolist()))
    assert len(folds.val) == 4
    assert folds.test == ()


def test_another_stratum_is_an_attribute_of_the_rows():
    rows = [row(number, weather="rain" if number < 12 else "dry") for number in range(48)]
    folds = cut(rows, folds=4, method="stratified", stratum="weather")
    assert [Counter(rows[number].attributes["weather"] for number in val) for val in folds.val] == [
        {"rain": 3, "dry": 9}
    ] * 4


def test_none_leaves_train_and_val_as_they_are():
    folds = cut(ROWS, train=50)
    assert folds.val == (tuple(range(50, 60)),)
    assert folds.train(0) == tuple(range(50))


def test_a_random_test_is_cut_first_and_from_the_pooled_samples_alone():
    folds = cut(ROWS, folds=3, method="kfold", test={"method": "random", "share": 0.2})
    ((_, test),) = ShuffleSplit(1, test_size=0.2, random_state=42).split(BLANK)
    assert folds.test == tuple(sorted(test.tolist()))
    rest = [number for number in range(60) if number not in folds.test]
    expected = [tuple(rest[place] for place in val) for _, val in KFold(3).split(rest)]
    assert list(folds.val) == expected
    from_train = cut(ROWS, train=50, test={"method": "random", "share": 0.2})
    assert len(from_train.test) == 10
    assert max(from_train.test) < 50
    assert from_train.val == (tuple(range(50, 60)),)


def test_whole_regions_or_named_samples_can_be_held_out():
    named = cut(ROWS, folds=3, method="kfold", test={"method": "region", "values": ["oslo", "graz"]})
    assert {REGION[number] for number in named.test} == {"oslo", "graz"}
    assert not {REGION[number] for number in named.train(1)} & {"oslo", "graz"}
    drawn = cut(ROWS, folds=3, method="kfold", test={"method": "region", "share": 0.3})
    there = {REGION[number] for number in drawn.test}
    assert there
    assert len(drawn.test) == sum(region in there for region in REGION)
    samples = cut(ROWS, folds=3, method="kfold", test={"method": "sample", "values": ["s7", "s3"]})
    assert samples.test == (3, 7)


@pytest.mark.parametrize("method", ["kfold", "stratified", "shuffle", "region", "region-stratified"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_near_duplicates_and_regions_are_on_one_side_of_every_fold(method, data):
    # Enough groups are left to cut: each region has a sample, and few near-duplicates tie regions together; where
    # regions do not count, eight samples are alone and the others are near-duplicates as they come.
    regions = [*range(8), *data.draw(st.lists(st.integers(0, 7), min_size=16, max_size=32))]
    if "region" in method:
        linked = data.draw(st.dictionaries(st.integers(0, len(regions) - 1), st.sampled_from("abc"), max_size=8))
        groups = [linked.get(number) for number in range(len(regions))]
    else:
        size = len(regions) - 8
        groups = [None] * 8 + data.draw(st.lists(st.sampled_from([*"abcde", None]), min_size=size, max_size=size))
    duplicates = [{} if group is None else {"dup_group": group} for group in groups]
    rows = [row(number, number % 2 == 0, region=f"r{regions[number]}", **one) for number, one in enumerate(duplicates)]
    asked = {"folds": 2, "method": method, "test": {"method": "random", "share": 0.2}}
    folds = cut(rows, **asked)
    for fold, val in enumerate(folds.val):
        parts = [set(folds.train(fold)), set(val), set(folds.test)]
        assert sum(map(len, parts)) == len(rows) == len(set.union(*parts))
        keys = [[("dup", groups[number]) for number in part if groups[number]] for part in parts]
        if "region" in method:
            keys[:2] = [keys[side] + [("region", regions[number]) for number in parts[side]] for side in (0, 1)]
        assert not set(keys[0]) & set(keys[1])
        assert not set(keys[2]) & {key for key in keys[0] + keys[1] if key[0] == "dup"}
    if method != "shuffle":
        assert sorted(number for val in folds.val for number in val) == sorted({*range(len(rows))} - {*folds.test})


def test_images_of_the_same_bytes_are_near_duplicates():
    rows = [row(number) for number in range(12)]
    rows = [one.model_copy(update={"sha256": rows[number % 6].sha256}) for number, one in enumerate(rows)]
    folds = cut(rows, folds=3, method="kfold")
    assert all({number % 6 for number in val} == {number - 6 for number in val if number > 5} for val in folds.val)


def test_fewer_groups_than_folds_are_refused_with_their_names():
    with pytest.raises(ContractError, match="at least 9") as caught:
        cut(ROWS, folds=9, method="region")
    assert "munich" in str(caught.value)


def test_a_row_without_the_attribute_is_named_with_the_field():
    rows = [*ROWS[:8], row(99)]
    with pytest.raises(ContractError) as caught:
        cut(rows, folds=2, method="region")
    (problem,) = caught.value.problems
    assert "s99" in problem.file
    assert problem.field == "attributes.region"


def test_what_is_to_be_held_out_must_be_there():
    with pytest.raises(ContractError, match="atlantis"):
        cut(ROWS, folds=2, method="kfold", test={"method": "region", "values": ["oslo", "atlantis"]})


def test_a_sample_is_empty_without_labels_of_the_tasks():
    assert is_non_empty(row(1), ["boxes"])
    assert not is_non_empty(row(1), ["lanes", "semantic"])
    assert not is_non_empty(row(1, empty=True), ["boxes", "lanes"])


def test_sequences_of_camvid_as_regions_stay_whole(real_data):
    with open(real_data / "camvid" / "manifest.csv") as stream:
        cells = list(csv.DictReader(stream))
    rows = [row(number, sequence=cell["sequence"]) for number, cell in enumerate(cells)]
    sequences = [cell["sequence"] for cell in cells]
    folds = cut(rows, folds=len(set(sequences)), method="region", group="sequence")
    assert sorted(len({sequences[number] for number in val}) for val in folds.val) == [1] * len(set(sequences))
    for fold, val in enumerate(folds.val):
        assert not {sequences[number] for number in val} & {sequences[number] for number in folds.train(fold)}


def test_near_duplicates_of_real_fog_images_stay_together(real_data):
    with open(real_data / "dawn_fog" / "manifest.csv") as stream:
        cells = list(csv.DictReader(stream))
    groups = [cell["dup_group"] for cell in cells]
    assert len(set(groups)) < len(groups)
    rows = [row(number, dup_group=group) for number, group in enumerate(groups)]
    folds = cut(rows, folds=5, method="stratified")
    for fold, val in enumerate(folds.val):
        assert not {groups[number] for number in val} & {groups[number] for number in folds.train(fold)}
    assert sum(map(len, folds.val)) == len(rows)
