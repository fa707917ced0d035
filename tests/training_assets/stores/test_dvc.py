"""DVC, for real: what is pinned comes back byte for byte, and what cannot be pinned is said."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.contract.errors import ContractError
from training_assets.stores.dvc import DvcError, DvcStore, default_executable

REPOSITORY = Path(__file__).parents[3]
OLD, NEW = "1a" * 32, "2b" * 32
pytestmark = pytest.mark.skipif(not default_executable().is_file(), reason="needs DVC: make setup")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "delivery"
    (root / "images").mkdir(parents=True)
    (root / "golden_train.manifest").write_text('{"sample_id": "a"}\n')
    for number in range(5):
        (root / "images" / f"ü {number}.png").write_bytes(os.urandom(500))
    (root / "images" / "twin.png").write_bytes((root / "images" / "ü 0.png").read_bytes())
    (root / "empty.txt").touch()
    return root


@pytest.fixture
def store(tmp_path: Path) -> DvcStore:
    return DvcStore(tmp_path / "store")


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def no_dvc(store: DvcStore) -> DvcStore:
    return DvcStore(store.root, store.root / "no" / "dvc")


@pytest.mark.slow
def test_an_older_version_comes_back_byte_for_byte_after_the_delivery_changed(
    store: DvcStore, source: Path, tmp_path: Path
) -> None:
    before = content(source)
    old = store.pin(source, OLD)
    assert (old.files, old.bytes) == (len(before), sum(map(len, before.values())))
    assert old.dvc_hash.endswith(".dir")
    (source / "images" / "ü 0.png").write_bytes(b"another picture")
    (source / "images" / "ü 1.png").unlink()
    (source / "golden_train.manifest").write_text('{"sample_id": "b"}\n')
    after = content(source)
    assert store.pin(source, NEW).dvc_hash != old.dvc_hash
    assert store.versions() == [OLD, NEW]
    store.restore(OLD, tmp_path / "deep" / "old")
    store.restore(NEW[:6], tmp_path / "new")
    assert content(tmp_path / "deep" / "old") == before
    assert content(tmp_path / "new") == after
    assert content(source) == after
    assert not list(tmp_path.rglob(".*-*")), "a restore leaves nothing beside what it restores"


@pytest.mark.slow
def test_a_version_that_is_pinned_is_not_pinned_again_unless_the_remote_lost_a_file(
    store: DvcStore, source: Path, tmp_path: Path
) -> None:
    pin = store.pin(source, OLD)
    assert no_dvc(store).pin(source, OLD) == pin
    lost = next(path for path in (store.root / "dvc-remote").rglob("*") if path.is_file() and path.suffix != ".dir")
    lost.unlink()
    with pytest.raises(DvcError, match="make setup"):
        no_dvc(store).pin(source, OLD)
    assert store.pin(source, OLD) == pin
    store.restore(OLD, tmp_path / "out")
    assert content(tmp_path / "out") == content(source)


@pytest.mark.slow
def test_the_remote_holds_each_content_once_and_the_store_can_be_moved(
    store: DvcStore, source: Path, tmp_path: Path
) -> None:
    store.pin(source, OLD)
    stored = [path for path in (store.root / "dvc-remote").rglob("*") if path.is_file()]
    assert len(stored) == len(set(content(source).values())) + 1  # and the list of files
    store.root.rename(tmp_path / "moved")
    DvcStore(tmp_path / "moved").restore(OLD, tmp_path / "out")
    assert content(tmp_path / "out") == content(source)


@pytest.mark.slow
def test_a_damaged_remote_is_an_error_and_leaves_nothing(store: DvcStore, source: Path, tmp_path: Path) -> None:
    store.pin(source, OLD)
    damaged = next(path for path in (store.root / "dvc-remote").rglob("*") if path.is_file() and path.suffix != ".dir")
    damaged.chmod(0o644)
    damaged.write_bytes(b"rotten")
    with pytest.raises(DvcError, match="It said"):
        store.restore(OLD, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_processes_that_pin_at_once_do_not_harm_each_other(store: DvcStore, source: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(source, other)
    (other / "more.txt").write_text("more")
    code = (
        "import sys; from pathlib import Path; from training_assets.stores.dvc import DvcStore\n"
        "DvcStore(Path(sys.argv[1])).pin(Path(sys.argv[2]), sys.argv[3])"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    pins = [
        subprocess.Popen([sys.executable, "-c", code, str(store.root), str(root), version], env=environment)
        for root, version in ((source, OLD), (other, NEW), (source, OLD))
    ]
    assert [pin.wait(timeout=120) for pin in pins] == [0, 0, 0]
    store.restore(OLD, tmp_path / "old")
    store.restore(NEW, tmp_path / "new")
    assert content(tmp_path / "old") == content(source)
    assert content(tmp_path / "new") == content(other)


@pytest.mark.slow
def test_dvc_writes_nothing_outside_and_reads_no_settings_of_the_user(
    store: DvcStore, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".config" / "dvc").mkdir(parents=True)
    (home / ".config" / "dvc" / "config").write_text("[core]\n    remote = elsewhere\n    nonsense = true\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DVC_REMOTE", "elsewhere")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    before = content(home)
    store.pin(source, OLD)
    assert content(home) == before


@pytest.mark.slow
def test_the_error_of_dvc_carries_what_dvc_said(store: DvcStore, source: Path) -> None:
    (source / ".dvcignore").write_text("*.png\n")
    with pytest.raises(DvcError, match=r"dvc add: found exit code 255(.|\n)*\.dvcignore file should not be"):
        store.pin(source, OLD)
    assert store.versions() == []


def test_a_link_to_a_directory_is_refused_because_dvc_would_leave_it_out(store: DvcStore, source: Path) -> None:
    (source / "masks").symlink_to("images", target_is_directory=True)
    with pytest.raises(DvcError, match="masks: found a link to a directory"):
        store.pin(source, OLD)


def test_without_dvc_the_error_says_make_setup(store: DvcStore, source: Path) -> None:
    with pytest.raises(DvcError, match="make setup"):
        no_dvc(store).pin(source, OLD)


def test_what_is_not_pinned_cannot_be_restored(store: DvcStore, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"found '77', expected one of \(nothing is pinned yet\)"):
        store.restore("77", tmp_path / "out")


@pytest.mark.parametrize("version", ["", "..", "a/b", ".hidden", "/etc"])
def test_a_version_cannot_lead_out_of_the_store(store: DvcStore, source: Path, version: str) -> None:
    with pytest.raises(ContractError, match="a name of one part"):
        store.pin(source, version)


def test_nothing_is_overwritten(store: DvcStore, tmp_path: Path) -> None:
    store.record(OLD).parent.mkdir(parents=True)
    store.record(OLD).write_text("outs:\n- {md5: ab.dir, size: 1, nfiles: 1, hash: md5, path: delivery}\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ContractError, match="nothing is overwritten"):
        store.restore(OLD, tmp_path / "out")
    assert content(tmp_path / "out") == {"mine.txt": b"mine"}


def test_the_executable_is_that_of_make_setup_or_of_the_environment() -> None:
    assert default_executable({}) == REPOSITORY / ".venv-dvc" / "bin" / "dvc"
    assert default_executable({"TRAINING_ASSETS_DVC": "/opt/dvc"}) == Path("/opt/dvc")
