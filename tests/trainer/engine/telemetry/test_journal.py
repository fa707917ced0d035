import signal
import subprocess
import sys

import pytest

from trainer.contract.telemetry import next_attempt, read_steps, read_table, steps_file
from trainer.engine.telemetry.journal import Journal

WRITER = """
import sys
from pathlib import Path
from trainer.engine.telemetry.journal import Journal
journal = Journal(Path(sys.argv[1]), ["step", "seconds"], ["step"])
number = 0
while True:
    journal.append([{"step": number + i, "seconds": 0.5} for i in range(3)])
    number += 3
    print(number, flush=True)
"""


def test_a_journal_of_a_killed_writer_has_everything_that_was_appended(tmp_path):
    file = tmp_path / "steps-rank0-1"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(file)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    told = 0
    for _ in range(20):
        told = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    table = read_table(file)
    assert table is not None
    assert table.num_rows >= told >= 60
    assert table["step"].to_pylist() == list(range(table.num_rows))


@pytest.mark.parametrize("left", [0.0, 0.1, 0.5, 0.99])
def test_a_torn_journal_is_read_up_to_its_last_complete_rows(tmp_path, left):
    file = tmp_path / "steps-rank0-1"
    journal = Journal(file, ["step"], ["step"])
    journal.append([{"step": 1}])
    complete = journal.path.stat().st_size
    journal.append([{"step": 2}])
    content = journal.path.read_bytes()
    journal.path.write_bytes(content[: complete + int(left * (len(content) - complete))])
    table = read_table(file)
    assert table is not None
    assert table["step"].to_pylist() == [1]


def test_what_a_row_lacks_is_null(tmp_path):
    journal = Journal(tmp_path / "x-1", ["step", "seconds"], ["step"])
    journal.append([{"step": 1}, {"step": 2, "seconds": 0.0}, {"step": 3, "seconds": None}])
    table = read_table(tmp_path / "x-1")
    assert table is not None
    assert table["seconds"].to_pylist() == [None, 0.0, None]


def test_a_closed_journal_is_one_parquet_file_that_others_can_read(tmp_path):
    import pandas as pd

    journal = Journal(tmp_path / "x-1", ["step", "seconds"], ["step"])
    for step in range(5):
        journal.append([{"step": step, "seconds": step / 2}])
    journal.close()
    assert [path.name for path in tmp_path.iterdir()] == ["x-1.parquet"]
    frame = pd.read_parquet(tmp_path / "x-1.parquet")
    assert frame["seconds"].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]


def test_an_empty_journal_becomes_an_empty_table(tmp_path):
    Journal(tmp_path / "x-1", ["step"], ["step"]).close()
    table = read_table(tmp_path / "x-1")
    assert table is not None
    assert table.num_rows == 0


def test_attempts_killed_and_finished_are_read_as_one_and_none_is_written_over(tmp_path):
    killed = Journal(steps_file(tmp_path, 0, next_attempt(tmp_path)), ["step"], ["step"])
    killed.append([{"step": step} for step in (1, 2, 3)])
    assert next_attempt(tmp_path) == 2
    with pytest.raises(FileExistsError):
        Journal(steps_file(tmp_path, 0, 1), ["step"], ["step"])
    for rank in (0, 1):
        second = Journal(steps_file(tmp_path, rank, 2), ["step"], ["step"])
        second.append([{"step": step} for step in (3, 4)])
        second.close()
    assert next_attempt(tmp_path) == 3
    read = read_steps(tmp_path)
    rows = list(read[["attempt", "rank", "step"]].itertuples(index=False, name=None))
    assert rows == [(1, 0, 1), (1, 0, 2), (1, 0, 3), (2, 0, 3), (2, 1, 3), (2, 0, 4), (2, 1, 4)]


def test_a_run_without_telemetry_is_an_empty_table(tmp_path):
    assert read_steps(tmp_path).empty
    assert next_attempt(tmp_path) == 1
