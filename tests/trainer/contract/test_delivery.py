"""A delivery that breaks a rule is refused, in one report that names file, line and field."""

import json
import shutil
import zlib

import cv2
import numpy as np
import pytest

from trainer.contract import delivery
from trainer.contract.delivery import FILES, DeliveryReader, count_labels, file_digests, read_delivery
from trainer.contract.errors import ContractError


def test_a_good_delivery_is_read_whole(kit):
    seen = []
    read = read_delivery(kit.write(), progress=lambda done, total: seen.append((done, total)))
    assert {split: len(rows) for split, rows in read.rows.items()} == {"train": 2, "val": 2, "test": 2}
    assert count_labels(row for _, row in read.all_rows()) == {"car": 6, "semantic": 6}
    assert seen == [(done, 6) for done in range(1, 7)]


def test_a_box_to_be_ignored_is_no_object_but_its_category_is_there(kit):
    kit.rows["train"][0]["boxes"][0]["ignore"] = True
    kit.slices = {}
    kit.rows["val"][0]["boxes"] = [{"category": "tram", "bbox": [1, 1, 2, 2], "ignore": True}]
    counts = count_labels(row for _, row in read_delivery(kit.write()).all_rows())
    assert counts == {"car": 4, "tram": 0, "semantic": 6}
    assert "tram" in counts


def test_facts_tell_size_luma_and_the_masks_digest(kit):
    row = kit.rows["train"][0]
    kit.replace_image(row, cv2.imencode(".png", np.full((24, 32, 3), (0, 0, 200), np.uint8))[1].tobytes())
    mask_sha256 = row.pop("semantic-sha256")
    facts = read_delivery(kit.write()).facts["train-0"]
    assert (facts.width, facts.height) == (32, 24)
    assert facts.luma_mean == pytest.approx(0.299 * 200)  # ITU-R BT.601, a red picture
    assert facts.luma_std == pytest.approx(0, abs=1e-9)
    assert facts.semantic_sha256 == mask_sha256


def test_the_digest_follows_the_masks_bytes_even_where_rows_do_not_name_them(kit):
    row = kit.rows["train"][0]
    del row["semantic-sha256"]
    before = read_delivery(kit.write()).digest
    assert read_delivery(kit.root).digest == before
    kit.put(row["semantic-ref"], cv2.imencode(".png", np.ones((24, 32), np.uint8))[1].tobytes())
    assert read_delivery(kit.root).digest != before


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(kit, name):
    root = kit.write()
    (root / name).unlink()
    with pytest.raises(ContractError, match=name):
        read_delivery(root)


@pytest.mark.parametrize("reference", ["../outside.png", "images/../../outside.png", "/etc/outside.png"])
@pytest.mark.parametrize("field", ["source-ref", "semantic-ref"])
def test_a_path_that_leaves_the_root_is_refused(kit, only, reference, field):
    shutil.copy(kit.root / kit.rows["train"][0][field], kit.root.parent / "outside.png")
    kit.rows["train"][1][field] = reference
    problem = only(kit.problems())
    assert (problem.file, problem.line) == (str(kit.root / "golden_train.manifest"), 2)
    assert problem.field == field
    assert reference in problem.found
    assert "inside" in problem.expected


def test_a_link_that_leaves_the_root_is_refused(kit, only):
    row = kit.rows["val"][0]
    shutil.move(kit.root / row["source-ref"], kit.root.parent / "outside.png")
    (kit.root / row["source-ref"]).symlink_to(kit.root.parent / "outside.png")
    problem = only(kit.problems())
    assert (problem.line, problem.field) == (1, "source-ref")
    assert "inside" in problem.expected


def test_a_link_that_stays_inside_the_root_is_followed(kit):
    row = kit.rows["val"][0]
    shutil.move(kit.root / row["source-ref"], kit.root / "kept.png")
    (kit.root / row["source-ref"]).symlink_to(kit.root / "kept.png")
    read_delivery(kit.write())


@pytest.mark.parametrize("reference", ["a\0b.png", "x" * 300 + ".png", "images/loop.png", "images"])
def test_a_path_that_cannot_be_one_is_a_problem_and_no_crash(kit, only, reference):
    (kit.root / "images/loop.png").symlink_to("loop.png")
    kit.rows["test"][0]["source-ref"] = reference
    problem = only(kit.problems())
    assert (problem.line, problem.field) == (1, "source-ref")


def test_a_uri_is_refused_before_it_is_taken_for_a_path(kit, only):
    kit.rows["train"][0]["source-ref"] = "s3://bucket/frame.png"
    assert "s3://bucket/frame.png" in only(kit.problems()).found


def test_a_sample_id_repeated_in_one_split_is_refused(kit, only):
    kit.rows["train"][1]["sample_id"] = "train-0"
    problem = only(kit.problems())
    assert (problem.line, problem.field) == (2, "sample_id")
    assert "'train-0', also at golden_train.manifest:1" in problem.found


def test_a_sample_id_in_two_splits_is_refused(kit, only):
    kit.rows["test"][1]["sample_id"] = "train-0"
    problem = only(kit.problems())
    assert (problem.file, problem.line) == (str(kit.root / "golden_test.manifest"), 2)
    assert "golden_train.manifest:1" in problem.found


def test_the_same_image_in_two_splits_is_refused_under_another_name(kit, only):
    shutil.copy(kit.root / "images/train-1.png", kit.root / "images/test-0.png")
    kit.rows["test"][0]["sha256"] = kit.rows["train"][1]["sha256"]
    problem = only(kit.problems())
    assert (problem.file, problem.line, problem.field) == (str(kit.root / "golden_test.manifest"), 1, "sha256")
    assert "golden_train.manifest:2" in problem.found


def test_a_missing_image_is_refused(kit, only):
    (kit.root / "images/val-1.png").unlink()
    problem = only(kit.problems())
    assert (problem.line, problem.field, problem.expected) == (2, "source-ref", "a file that exists")


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"], ids=["empty", "text", "header"])
def test_a_corrupt_image_is_refused(kit, only, content):
    kit.replace_image(kit.rows["train"][0], content)
    problem = only(kit.problems())
    assert (problem.line, problem.field) == (1, "source-ref")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp"])
@pytest.mark.parametrize("share", [0.5, 0.97])
def test_an_image_that_was_cut_off_is_refused(kit, only, suffix, share):
    picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    content = cv2.imencode(suffix, picture)[1].tobytes()
    row = kit.rows["train"][0]
    row["source-ref"] = f"images/cut{suffix}"
    kit.replace_image(row, content[: int(len(content) * share)])
    assert only(kit.problems()).field == "source-ref"


def test_other_bytes_than_the_row_says_are_refused(kit, only):
    kit.put("images/train-0.png", (kit.root / "images/train-1.png").read_bytes())
    assert only(kit.problems()).field == "sha256"


def test_another_mask_than_the_row_says_is_refused(kit, only):
    kit.put("images/train-0-mask.png", (kit.root / "images/train-1-mask.png").read_bytes())
    assert only(kit.problems()).field == "semantic-sha256"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_box_that_is_not_finite_is_refused(kit, only, number):
    root = kit.write()
    manifest = root / "golden_train.manifest"
    manifest.write_text(manifest.read_text().replace("[1.0, ", f"[{number}, ", 1))
    with pytest.raises(ContractError) as caught:
        read_delivery(root)
    problem = only(caught.value.problems)
    assert (problem.file, problem.line, problem.field) == (str(manifest), 1, "boxes.0.bbox.0")


@pytest.mark.parametrize("bbox", [[25, 0, 10, 5], [0, 20, 5, 10], [-3, 0, 5, 5], [0, -3, 5, 5]])
def test_a_box_beyond_the_image_is_refused(kit, only, bbox):
    kit.rows["train"][1]["boxes"].append({"category": "car", "bbox": bbox})
    problem = only(kit.problems())
    assert (problem.line, problem.field) == (2, "boxes.1.bbox")
    assert "32×24" in problem.expected


def test_a_box_of_a_category_that_the_delivery_does_not_declare_is_refused(kit, only):
    kit.rows["train"][1]["boxes"][0]["category"] = "zeppelin"
    problem = only(kit.problems())
    assert (problem.line, problem.field) == (2, "boxes.0.category")
    assert "'zeppelin'" in problem.found
    assert "car" in problem.expected


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_empty_split_is_refused(kit, only, split):
    kit.rows[split] = []
    problem = only(kit.problems())
    assert problem.file == str(kit.root / f"golden_{split}.manifest")
    assert problem.found == "no rows"


def test_a_time_in_the_future_is_refused(kit, only):
    kit.rows["train"][0]["captured_at"] = "2999-01-01T00:00:00Z"
    assert only(kit.problems()).field == "captured_at"


@pytest.mark.parametrize(
    ("mask", "word"),
    [
        (np.zeros((24, 30), np.uint8), "30×24"),
        (np.full((24, 32), 7, np.uint8), "[7]"),
        (np.zeros((24, 32, 3), np.uint8), "(24, 32, 3)"),
        (np.zeros((24, 32), np.uint16), "uint16"),
    ],
    ids=["another size", "an unknown value", "colour", "16 bits"],
)
def test_a_mask_that_does_not_fit_is_refused(kit, only, mask, word):
    row = kit.rows["val"][1]
    row["semantic-sha256"] = kit.put(row["semantic-ref"], cv2.imencode(".png", mask)[1].tobytes())
    problem = only(kit.problems())
    assert (problem.line, problem.field) == (2, "semantic-ref")
    assert word in problem.found


def test_the_ignore_value_may_stand_in_a_mask(kit):
    row = kit.rows["val"][1]
    mask = np.full((24, 32), 255, np.uint8)
    row["semantic-sha256"] = kit.put(row["semantic-ref"], cv2.imencode(".png", mask)[1].tobytes())
    read_delivery(kit.write())


def test_everything_that_is_wrong_comes_in_one_report(kit):
    kit.rows["train"][0]["weather"] = "clear"
    kit.rows["train"].append({**kit.rows["train"][1], "sample_id": "train-1"})
    kit.rows["val"] = []
    (kit.root / "images/test-0.png").unlink()
    kit.replace_image(kit.rows["test"][1], b"nothing")
    kit.slices = {"slices": [{"name": "a", "wher": {}}]}
    found = {(problem.file.rpartition("/")[2], problem.line, problem.field) for problem in kit.problems()}
    assert found == {
        ("golden_train.manifest", 1, "weather"),
        ("golden_train.manifest", 3, "sample_id"),
        ("golden_val.manifest", None, None),
        ("golden_test.manifest", 1, "source-ref"),
        ("golden_test.manifest", 2, "source-ref"),
        ("slices.yaml", None, "slices.0.wher"),
    }


def test_the_report_says_how_many_problems_and_shows_a_hundred(kit):
    row = kit.rows["train"][0]
    kit.rows["train"] = [{**row, "sample_id": f"s{number}", "sha256": "no"} for number in range(130)]
    with pytest.raises(ContractError) as caught:
        read_delivery(kit.write())
    assert len(caught.value.problems) >= 130
    text = str(caught.value)
    assert f"{len(caught.value.problems)} problems" in text
    assert text.count("field 'sha256'") == 100
    assert f"and {len(caught.value.problems) - 100} more" in text


def test_without_images_the_rows_are_still_checked(kit):
    shutil.rmtree(kit.root / "images")
    assert read_delivery(kit.write(), check_images=False).facts == {}
    (kit.root / "golden_train.manifest").write_text("{}\n")
    with pytest.raises(ContractError, match="sample_id"):
        read_delivery(kit.root, check_images=False)


def test_a_slices_file_that_is_not_utf8_is_a_problem(kit):
    root = kit.write()
    (root / "slices.yaml").write_bytes(b"slices: [\xff]")
    with pytest.raises(ContractError, match=r"slices\.yaml"):
        read_delivery(root)


@pytest.mark.parametrize(
    ("suffix", "options"), [(".png", [cv2.IMWRITE_PNG_BILEVEL, 1]), (".jpg", []), (".bmp", [])], ids=str
)
def test_a_mask_whose_grey_levels_are_not_its_labels_is_refused(kit, only, suffix, options):
    """A PNG of one bit is decoded to 0 and 255, which is the ignore value: class 1 would be gone without a word."""
    mask = np.full((24, 32), 1, np.uint8) if options else np.zeros((24, 32), np.uint8)
    row = kit.rows["train"][0]
    row["semantic-sha256"] = kit.put(row["semantic-ref"], cv2.imencode(suffix, mask, options)[1].tobytes())
    problem = only(kit.problems())
    assert (problem.field, problem.expected) == ("semantic-ref", "a PNG of one grey channel of 8 bits")


def test_an_image_too_large_to_decode_is_a_problem_and_no_crash(kit, only):
    content = bytearray(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes())
    content[16:24] = (100_000).to_bytes(4, "big") * 2  # width and height in the header
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    kit.replace_image(kit.rows["train"][0], bytes(content))
    assert only(kit.problems()).field == "source-ref"


def test_a_manifest_that_grows_while_it_is_read_is_refused_and_says_so(kit, only):
    root = kit.write()
    manifest = root / "golden_train.manifest"
    reader = iter(DeliveryReader(root, check_images=False))
    next(reader)
    row = {**kit.rows["train"][0], "sample_id": "late", "sha256": "1" * 64}
    with open(manifest, "a") as stream:
        stream.write(json.dumps(row) + "\n")
    with pytest.raises(ContractError) as caught:
        list(reader)
    problem = only(caught.value.problems)
    assert problem.file == str(manifest)
    assert "at its beginning" in problem.found
    assert "nobody writes to" in problem.expected


def test_a_delivery_is_read_sample_by_sample_and_its_version_is_known_at_the_end(kit):
    reader = DeliveryReader(kit.write())
    samples = list(reader)
    assert [(one.split, one.line) for one in samples] == [(s, n) for s in ("train", "val", "test") for n in (1, 2)]
    assert [one.content for one in samples[:2]] == (kit.root / "golden_train.manifest").read_bytes().splitlines(True)
    assert reader.files == file_digests(kit.root)
    assert reader.digest == read_delivery(kit.root).digest


def test_rows_that_repeat_an_id_or_an_image_are_found_among_many(kit):
    """More rows than are ever looked at one by one; the same image twice in one split is no mistake."""
    template = kit.rows["train"][0]
    kit.rows["train"] = [{**template, "sample_id": f"a{number}", "sha256": f"{number:064x}"} for number in range(500)]
    kit.rows["train"] += [{**template, "sample_id": "a7"}, {**template, "sample_id": "twin", "sha256": f"{3:064x}"}]
    kit.rows["val"][1]["sample_id"] = "a9"
    kit.rows["test"][0]["sha256"] = f"{11:064x}"
    with pytest.raises(ContractError) as caught:
        read_delivery(kit.write(), check_images=False)
    found = {(problem.file.rpartition("/")[2], problem.line, problem.field) for problem in caught.value.problems}
    assert found == {
        ("golden_train.manifest", 501, "sample_id"),
        ("golden_val.manifest", 2, "sample_id"),
        ("golden_test.manifest", 1, "sha256"),
    }


def test_images_are_decoded_a_few_ahead_of_the_reader_and_not_all_at_once(kit, monkeypatch):
    monkeypatch.setattr(delivery, "DECODED_AHEAD", 2)
    looked: list[str] = []
    check = delivery.check_sample
    monkeypatch.setattr(delivery, "check_sample", lambda *given: looked.append(given[3].sample_id) or check(*given))
    reader = iter(DeliveryReader(kit.write()))
    next(reader)
    assert len(looked) <= 3
    list(reader)
    assert len(looked) == 6
