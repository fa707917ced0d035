"""The kernel's own counts of out-of-memory kills, in the files' formats (Documentation/admin-guide/cgroup-v*)."""

from pathlib import Path

from trainer.contract.memory import OomKills, oom_kills

EVENTS = "low 0\nhigh 12\nmax 340\noom 3\noom_kill {}\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_version_2_counts_the_groups_kills(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/user.slice/job\n")
    write(tmp_path / "sys/fs/cgroup/user.slice/job/memory.events", EVENTS.format(2))
    assert oom_kills(tmp_path).group == 2


def test_a_container_finds_its_own_group_at_the_top_of_the_mount(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "0::/docker/4711\n")
    write(tmp_path / "sys/fs/cgroup/memory.events", EVENTS.format(1))
    assert oom_kills(tmp_path).group == 1


def test_version_1_counts_them_in_the_memory_controller(tmp_path: Path) -> None:
    write(tmp_path / "proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/jobs/a:b\n0::/\n")
    write(tmp_path / "sys/fs/cgroup/memory/jobs/a:b/memory.oom_control", CONTROL.format(5))
    write(tmp_path / "proc/vmstat", "nr_free_pages 1\noom_kill 7\n")
    assert oom_kills(tmp_path) == OomKills(group=5, machine=7)


def test_only_what_rose_is_told_and_the_group_says_most() -> None:
    before = OomKills(group=1, machine=4)
    assert before.since(before) == ""
    assert "on this machine" in OomKills(1, 5).since(before)
    assert "memory limit of this container" in OomKills(2, 5).since(before)


def test_nothing_is_counted_where_nothing_can_be_seen(tmp_path: Path) -> None:
    assert oom_kills(tmp_path) == OomKills(0, 0)


def test_this_machine_can_be_asked() -> None:
    assert oom_kills().machine >= 0
