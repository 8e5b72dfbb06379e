"""What tells our daemon's remains from everything else on the machine."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.cluster import locks, processes
from e2e.cluster.daemon import CAP_SYS_RESOURCE, has_capability, mounts_below

OURS = Path("/home/someone/.cache/dopd/docker")


@pytest.mark.parametrize(
    ("arguments", "ours"),
    [
        (["dockerd", f"--data-root={OURS}/data"], True),
        (["/usr/sbin/dockerd", "--data-root", f"{OURS}/data"], True),
        (["dockerd", "--data-root=/var/lib/docker"], False),
        (["dockerd", f"--data-root={OURS}-of-another/data"], False),
        (["tail", "-f", f"{OURS}/dockerd.log"], False),
        ([""], False),
    ],
)
def test_a_daemon_is_known_by_program_and_folder(arguments: list[str], ours: bool) -> None:
    assert processes.names(arguments, OURS, "dockerd") is ours


def test_a_process_is_found_by_its_command_line_and_ended(tmp_path: Path) -> None:
    with _sleeper(argument=f"{tmp_path}/marker") as child:
        assert processes.naming(tmp_path) == [child.pid]
        assert processes.naming(tmp_path, program="dockerd") == []
        processes.end([child.pid])
        assert child.wait() != 0


def test_ending_a_process_that_has_ended_is_fine() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    processes.end([child.pid])


def test_only_our_mounts_are_undone_and_inner_ones_first() -> None:
    mountinfo = "\n".join(
        [
            "22 1 8:1 / / rw - ext4 /dev/sda rw",
            f"40 22 0:40 / {OURS}/data/overlay2/x/merged rw - overlay overlay rw",
            f"41 40 0:41 / {OURS}/data/overlay2/x/merged/proc rw - proc proc rw",
            f"42 22 0:4 net:[1] {OURS}/exec/netns/abc rw - nsfs nsfs rw",
            "43 22 0:40 / /var/lib/docker/overlay2/y/merged rw - overlay overlay rw",
        ]
    )
    assert mounts_below(OURS, mountinfo) == [
        f"{OURS}/exec/netns/abc",
        f"{OURS}/data/overlay2/x/merged/proc",
        f"{OURS}/data/overlay2/x/merged",
    ]


@pytest.mark.parametrize(("bounding", "has"), [("000001ffffffffff", True), ("000001fffeffffff", False)])
def test_the_bounding_set_tells_whether_a_container_may_be_privileged(bounding: str, has: bool) -> None:
    assert has_capability(CAP_SYS_RESOURCE, f"Name:\tx\nCapEff:\t0\nCapBnd:\t{bounding}\n") is has


def test_a_lock_is_free_once_its_holders_are_gone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert locks.is_free(path)
    with locks.shared(path), locks.shared(path):
        assert not locks.is_free(path)
    assert locks.is_free(path)


def test_a_killed_holder_leaves_the_lock_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with _sleeper(f"import fcntl; f = open({str(path)!r}, 'a'); fcntl.flock(f, fcntl.LOCK_EX)") as child:
        assert not locks.is_free(path)
        child.kill()
        child.wait()
        assert locks.is_free(path)


@contextmanager
def _sleeper(code: str = "", argument: str = "") -> Iterator[subprocess.Popen[bytes]]:
    """A process that has run `code` and sleeps."""
    code = f"{code}\nprint(flush=True)\nimport time\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, argument], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        try:
            yield child
        finally:
            child.kill()
