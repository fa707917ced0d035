"""Whether the kernel's out-of-memory killer was at work, as far as a process may see (Linux)."""

import re
from dataclasses import dataclass
from pathlib import Path

COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class OomKills:
    """How many processes it has killed, in our control group (cgroup v2 or v1) and on the whole machine."""

    group: int = 0
    machine: int = 0

    def since(self, before: "OomKills") -> str:
        """In words, what was counted after ``before``; empty if nothing."""
        if self.group > before.group:
            return "the kernel's out-of-memory killer did it: the memory limit of this container was reached"
        if self.machine > before.machine:
            return "the kernel's out-of-memory killer was at work on this machine meanwhile"
        return ""


def oom_kills(root: Path = Path("/")) -> OomKills:
    """The counts as they stand; 0 where they cannot be seen. ``root`` is where ``proc`` and ``sys`` are mounted."""
    return OomKills(
        group=max((_count(path) for path in _group_files(root)), default=0), machine=_count(root / "proc/vmstat")
    )


def _group_files(root: Path) -> list[Path]:
    """Inside a container the group's own files often stand at the top of the mount, whatever its path says."""
    membership = root / "proc/self/cgroup"
    lines = membership.read_text().splitlines() if membership.is_file() else []
    files = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, name = root / "sys/fs/cgroup", "memory.events"
        elif "memory" in controllers.split(","):
            mount, name = root / "sys/fs/cgroup/memory", "memory.oom_control"
        else:
            continue
        files += [mount / path.lstrip("/") / name, mount / name]
    return files


def _count(path: Path) -> int:
    try:
        found = COUNT.search(path.read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0
