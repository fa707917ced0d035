"""``docs/first-hour.md`` tried as a new user would: in a fresh clone, every step as the page has it, in its order.

Minutes of training: it runs with ``make first-hour`` and where the real data sets lie beside the project. The same
commands with data of seconds are among those of ``test_commands.py``.
"""

import os
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks, is_setting
from tests.docs.workspace import fresh_clone

PAGE = ROOT / "docs" / "first-hour.md"
MADE = {"scenes": "1.0.0", "camvid": "1.0.0", "camvid_small": "1.0.0", "weather": "1.0.0"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]


@pytest.mark.skipif("FIRST_HOUR" not in os.environ, reason="minutes of training: make first-hour")
def test_every_step_works_as_it_is_written(tmp_path: Path, real_data: Path) -> None:
    clone = fresh_clone(tmp_path / "project")
    for block in blocks(PAGE):
        if block.title:
            (clone.root / block.title).write_text(block.text)
        for command in block.commands:
            command = command.replace("/path/to/camvid", str(real_data / "camvid"))
            if is_setting(command):
                clone.settings.append(command)
            elif command == "make ui":
                clone.serve(command, "http://127.0.0.1:3000/server_info")
            else:
                clone.run(command)
            if not is_setting(command):
                print(f"{clone.took[-1][1]:6.0f} s  {command}", flush=True)
    registry = clone.root / "var" / "store" / "registry"
    for project, version in MADE.items():
        assert (registry / project / "versions" / f"{version}.json").is_file(), project
