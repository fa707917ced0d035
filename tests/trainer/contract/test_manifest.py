"""Manifest rows: any row survives its JSON, any other line becomes a problem that names the line."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.contract.errors import Problem
from trainer.contract.manifest import Row, is_uri, read_manifest

GOOD = {
    "sample_id": "a-1",
    "source-ref": "a.png",
    "sha256": "0" * 64,
    "captured_at": "2026-01-07T12:00:00Z",
    "licence": "CC0-1.0",
    "origin": "x",
}

finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-6, max_value=1e6)
text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
points = st.lists(st.tuples(finite, finite), min_size=2, max_size=4)
sha256s = st.text("0123456789abcdef", min_size=64, max_size=64)
boxes = st.fixed_dictionaries(
    {"category": text, "bbox": st.tuples(finite, finite, positive, positive)}, optional={"ignore": st.booleans()}
)
tracks = st.fixed_dictionaries(
    {"track_id": text, "hz": positive, "observed": st.integers(1, 2), "points": points}, optional={"category": text}
)
rows = st.fixed_dictionaries(
    {
        "sample_id": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}", fullmatch=True),
        "source-ref": text,
        "sha256": sha256s,
        "captured_at": st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
        "licence": text,
        "origin": text,
    },
    optional={
        "captured_at_source": st.sampled_from(["recorded", "assigned"]),
        "attributes": st.dictionaries(text, st.one_of(text, st.booleans(), st.integers(-(2**62), 2**62), finite)),
        "boxes": st.lists(boxes, max_size=3),
        "semantic-ref": text,
        "semantic-sha256": sha256s,
        "lanes": st.lists(points, max_size=2),
        "tracks": st.lists(tracks, max_size=2),
    },
).map(Row.model_validate)
lenient = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)


def read(path: Path, content: bytes) -> tuple[list[tuple[int, Row]], list[Problem]]:
    path.write_bytes(content)
    problems: list[Problem] = []
    return list(read_manifest(path, problems)), problems


def read_row(path: Path, **changes: object) -> tuple[list[tuple[int, Row]], list[Problem]]:
    return read(path, json.dumps({**GOOD, **changes}).encode())


@lenient
@given(row=rows)
def test_any_row_survives_its_json(row, tmp_path):
    line = json.dumps(row.to_json(), ensure_ascii=False, allow_nan=False).encode()
    assert b"\n" not in line
    assert read(tmp_path / "m", line + b"\n") == ([(1, row)], [])


@lenient
@given(garbage=st.binary(min_size=1, max_size=60))
def test_garbage_between_good_rows_never_crashes_and_is_named_by_its_line(garbage, tmp_path):
    garbage = garbage.replace(b"\n", b"")
    good = json.dumps(GOOD).encode()
    numbered, problems = read(tmp_path / "m", b"\n".join([good, garbage, good, b""]))
    assert [number for number, _ in numbered] == [1, 3]
    assert {problem.line for problem in problems} == (set() if not garbage or garbage.isspace() else {2})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@lenient
@given(field=st.sampled_from([*GOOD, "attributes", "boxes", "lanes", "tracks", "extra"]), value=json_values)
def test_any_json_value_in_any_field_is_a_row_or_a_problem_that_names_the_field(field, value, tmp_path):
    line = json.dumps({**GOOD, field: value}).encode("utf-8", "surrogatepass")
    numbered, problems = read(tmp_path / "m", line)
    assert bool(numbered) != bool(problems)
    for problem in problems:
        assert problem.line == 1
        assert problem.field is None or problem.field.split(".")[0] == field


def test_blank_lines_are_passed_over_and_still_counted(tmp_path):
    good = json.dumps(GOOD)
    numbered, problems = read(tmp_path / "m", f"\n  \n{good}\r\n".encode())
    assert [number for number, _ in numbered] == [3]
    assert problems == []


def test_a_line_that_is_no_json_is_shown_with_what_the_parser_says(tmp_path):
    _, (problem,) = read(tmp_path / "m", b'{"sample_id": "a",\n')
    assert '{"sample_id": "a",' in problem.found
    assert problem.expected == "one JSON object on each line"


def test_an_unknown_field_is_named(tmp_path):
    _, (problem,) = read_row(tmp_path / "m", weather="clear")
    assert problem.field == "weather"
    assert "misspelt" in problem.expected


@pytest.mark.parametrize("field", sorted(GOOD))
def test_each_missing_field_is_named(tmp_path, field):
    _, (problem,) = read(tmp_path / "m", json.dumps({k: v for k, v in GOOD.items() if k != field}).encode())
    assert (problem.field, problem.found) == (field, "nothing")


def test_all_wrong_fields_of_a_row_are_reported(tmp_path):
    _, problems = read_row(tmp_path / "m", sha256="short", licence="", boxes=[{"category": "car", "bbox": [0, 0, 1]}])
    assert {problem.field for problem in problems} == {"sha256", "licence", "boxes.0.bbox.3"}


@pytest.mark.parametrize("sample_id", ["", "a.b", "a/b", "../a", "a b", "-a", "a\n", "ä", "a" * 129])
def test_a_sample_id_that_could_not_be_a_shard_key_is_refused(tmp_path, sample_id):
    _, (problem,) = read_row(tmp_path / "m", sample_id=sample_id)
    assert problem.field == "sample_id"


@pytest.mark.parametrize("bbox", [[0, 0, 0, 5], [0, 0, 5, -1]])
def test_a_box_without_an_area_is_refused(tmp_path, bbox):
    _, (problem,) = read_row(tmp_path / "m", boxes=[{"category": "car", "bbox": bbox}])
    assert problem.field is not None
    assert problem.field.startswith("boxes.0.bbox")


def test_times_become_utc():
    local = datetime(2026, 1, 5, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    row = Row.model_validate({**GOOD, "captured_at": local})
    assert row.captured_at == local
    assert row.to_json()["captured_at"] == "2026-01-04T23:30:00Z"


@pytest.mark.parametrize(
    "moment", ["2026-01-05T00:00:00", "yesterday", "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"]
)
def test_a_time_without_zone_or_beyond_utc_is_refused(tmp_path, moment):
    _, (problem,) = read_row(tmp_path / "m", captured_at=moment)
    assert problem.field == "captured_at"


def test_absent_labels_and_empty_ones_are_told_apart():
    assert not Row.model_validate(GOOD).has_label("boxes")
    empty = Row.model_validate({**GOOD, "boxes": []})
    assert empty.has_label("boxes")
    assert empty.to_json()["boxes"] == []


@pytest.mark.parametrize(("reference", "expected"), [("s3://b/a.png", True), ("a/b.png", False), ("C:/a.png", False)])
def test_uris_are_told_from_paths(reference, expected):
    assert is_uri(reference) is expected


def test_a_long_line_that_is_no_json_does_not_push_the_reason_out_of_the_report(tmp_path):
    _, (problem,) = read(tmp_path / "m", b'{"sample_id": "' + b"a" * 1000 + b'"},\n')
    assert "trailing characters" in str(problem)
