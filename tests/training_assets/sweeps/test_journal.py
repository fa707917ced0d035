"""The journal of a sweep: what is read back is what was written, whatever killed the writer."""

import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.contract.errors import ContractError
from training_assets.sweeps.journal import JOURNAL_FILE, Busy, journal_of, read_trials
from training_assets.sweeps.trials import Decision, Suggestion, Trials

STOP = Decision("stop", "worse than the others", "asha", 3, 0.5, 7)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
PARAMS = st.dictionaries(st.text(min_size=1), VALUES | st.lists(VALUES, max_size=2).map(tuple), max_size=3)


def fill(trials: Trials) -> None:
    trials.asked(0, Suggestion({"optim.lr": 1e-3, "data.image_size": (64, 64)}), 1.0)
    trials.reported(0, 1, {"segmentation/mIoU": 0.5, "detection/AP50": math.nan}, 2.0)
    trials.decided(0, 1, Decision("continue"), 2.0)
    trials.asked(1, Suggestion({"optim.lr": 2e-3}, parent=0, epoch=1), 3.0)
    trials.decided(0, 2, STOP, 4.0)
    trials.became(0, "stopped", 5.0)


def same(one: Trials, other: Trials) -> bool:
    """NaN is itself here."""
    return repr(list(one)) == repr(list(other))


def test_what_is_read_back_is_what_was_written(tmp_path: Path) -> None:
    with journal_of(tmp_path) as journal:
        fill(journal)
    expected = Trials()
    fill(expected)
    assert same(read_trials(tmp_path), expected)
    assert read_trials(tmp_path)[0].decisions[2] == STOP
    with journal_of(tmp_path) as again:
        assert same(again, expected)
        again.became(1, "failed", 6.0)
    assert read_trials(tmp_path)[1].state == "failed"


@given(params=PARAMS)
def test_any_settings_come_back_as_they_were(params: dict, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("sweep")
    with journal_of(directory) as journal:
        journal.asked(0, Suggestion(params), 0.0)
    assert dict(read_trials(directory)[0].params) == params


def test_a_line_cut_off_anywhere_is_as_if_it_had_not_been_written(tmp_path: Path) -> None:
    with journal_of(tmp_path) as journal:
        fill(journal)
    path = tmp_path / JOURNAL_FILE
    whole = path.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for length in range(last, len(whole)):
        path.write_bytes(whole[:length])
        assert read_trials(tmp_path)[0].state == "running"
        with journal_of(tmp_path) as journal:
            journal.became(0, "failed", 9.0)
        assert read_trials(tmp_path)[0].state == "failed"


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    with journal_of(tmp_path) as journal:
        fill(journal)
    path = tmp_path / JOURNAL_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b'{"event": "forgot", "trial": 0, "at": 1}\n', *lines[2:]]))
    with pytest.raises(ContractError, match=rf"{JOURNAL_FILE}:2: found ValueError: no such event"):
        read_trials(tmp_path)


def test_one_writer_at_a_time_and_a_killed_one_lets_go(tmp_path: Path) -> None:
    holder = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path,))
    holder.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.02)
    with pytest.raises(Busy, match="another process"), journal_of(tmp_path):
        pass
    os.kill(holder.pid or 0, signal.SIGKILL)
    holder.join()
    with journal_of(tmp_path) as journal:
        assert journal[0].params == {"optim.lr": 1e-3, "data.image_size": (64, 64)}


def hold(directory: Path) -> None:
    with journal_of(directory) as journal:
        fill(journal)
        (directory / "held").touch()
        time.sleep(60)


def test_a_pause_ends_a_trial_until_it_is_resumed() -> None:
    trials = Trials()
    trials.asked(0, Suggestion({}), 0.0)
    trials.decided(0, 3, Decision("pause", "waits for its bracket"), 1.0)
    assert trials[0].ending
    trials.became(0, "paused", 2.0)
    trials.became(0, "running", 3.0)
    assert trials[0].resumed == 1
    assert trials[0].ending is None
    trials.decided(0, 9, Decision("pause", "again"), 4.0)
    assert trials[0].ending == Decision("pause", "again")
