"""A Docker daemon of our own, for machines where none answers and we are root.

All clusters of this user share it. It outlives the command that started it, and the command that removes the last
cluster stops it. Machines end without warning, so a start first clears what a daemon that died left behind: processes
without a parent, mounts of containers and network namespaces, a pid file that now names another process.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import locks, processes
from e2e.cluster.cache import build_log
from e2e.cluster.docker import NODE_LABEL, Docker, answers
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import BUILD_FILES, cache_dir
from e2e.cluster.steps import run, say, tail

START_TIMEOUT_SECONDS = 60.0
CAP_SYS_RESOURCE = 24

# The kernel's default of 128 is used up by the systemd and kubelet of two clusters; kind's manual asks for this value.
INOTIFY_INSTANCES = 512
_INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")

# The longest socket that dockerd makes below its folder, and what the kernel takes.
_LONGEST_SOCKET = "exec/containerd/containerd.sock.ttrpc"
_SOCKET_PATH_LIMIT = 107


@contextmanager
def docker_session(recorded_host: str | None = None) -> Iterator[Docker]:
    """Give a Docker that answers for as long as the block runs, starting one if need be.

    A daemon of our own stops after the session that leaves no kind cluster behind, unless another session uses it.

    Args:
        recorded_host: DOCKER_HOST of the Docker that has a known cluster; None to choose.

    Raises:
        ClusterError: no Docker answers and none can be started; names the cure.
    """
    docker = _installed_docker(recorded_host)
    if docker:
        yield docker
        return
    try:
        with locks.shared(_in_use()):
            yield _start()
    finally:
        stop_if_unused()


def running_docker(recorded_host: str | None = None) -> Docker | None:
    """Return the Docker that `docker_session` would give, if it can be had without starting one."""
    docker = _installed_docker(recorded_host)
    if docker is None and _daemon_pids() and answers(_address()):
        return Docker(_address())
    return docker


def _installed_docker(recorded_host: str | None) -> Docker | None:
    """Return the machine's own Docker, if it answers; DOCKER_HOST may name ours, in the shell of a curious user."""
    host = os.environ.get("DOCKER_HOST", "") if recorded_host is None else recorded_host
    return Docker(host) if host != _address() and answers(host) else None


def stop_if_unused() -> None:
    """Stop our daemon when it has no kind cluster and no session uses it; do nothing when it does not run."""
    with locks.exclusive(_folder() / "lock", waiting_for="it starts or stops Docker"):
        pids = _daemon_pids()
        if not pids or not locks.is_free(_in_use()):
            return
        docker = Docker(_address())
        if answers(docker.host) and docker.containers(NODE_LABEL):
            return
        say("stopping our Docker daemon: no cluster is left")
        processes.end(pids)
        _clear_leftovers()


def _folder() -> Path:
    return cache_dir() / "docker"


def _in_use() -> Path:
    return _folder() / "in-use"


def _address() -> str:
    return f"unix://{_folder() / 'docker.sock'}"


def _daemon_pids() -> list[int]:
    return processes.naming(_folder(), program="dockerd")


def _start() -> Docker:
    with locks.exclusive(_folder() / "lock", waiting_for="it starts or stops Docker"):
        docker = Docker(_address())
        if _daemon_pids() and answers(docker.host):
            return docker
        if os.uname().sysname != "Linux" or os.geteuid() != 0:
            raise ClusterError(
                "no Docker answers: start Docker or set DOCKER_HOST, or run as root on Debian or Ubuntu, where the "
                "harness installs and starts a daemon of its own"
            )
        _install()
        installed = _installed_docker(None)
        if installed:  # the package's own service has started it
            return installed
        processes.end(_daemon_pids())
        _clear_leftovers()
        _raise_inotify_limit()
        _launch(docker)
        return docker


def _install() -> None:
    wanted = {"dockerd": "docker.io", "iptables": "iptables", "docker": "docker-cli"}
    for program, package in wanted.items():
        if not shutil.which(program, path=_daemon_path()):
            apt_install(package)


def apt_install(package: str) -> None:
    """Install a Debian package on this machine.

    Raises:
        ClusterError: there is no apt-get, or it failed.
    """
    if not shutil.which("apt-get"):
        raise ClusterError(f"{package} is missing and this system has no apt-get: install it, and try again")
    log = build_log("apt")
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"], what="apt-get update", usually="10 s", log=log, env=quiet)
    command = ["apt-get", "install", "--yes", "--no-install-recommends", "-oDPkg::Lock::Timeout=300", package]
    run(command, what=f"apt-get install {package}", usually="20 s", log=log, env=quiet)


def _daemon_path() -> str:
    # Not the caller's: a containerd or runc of another version there would be taken for Docker's own.
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _launch(docker: Docker) -> None:
    folder = _folder()
    if len(str(folder / _LONGEST_SOCKET)) > _SOCKET_PATH_LIMIT:
        raise ClusterError(f"{folder} is too long a path for Docker's sockets: set XDG_CACHE_HOME to a shorter one")
    log = folder / "dockerd.log"
    command = [
        "dockerd",
        f"--data-root={folder / 'data'}",
        f"--exec-root={folder / 'exec'}",
        f"--pidfile={folder / 'docker.pid'}",
        f"--host={docker.host}",
    ]
    if not has_capability(CAP_SYS_RESOURCE, Path("/proc/self/status").read_text()):
        # A copy, because the daemon may outlive this checkout.
        runtime = shutil.copy(BUILD_FILES / "runc-without-sys-resource", folder)
        command += [f"--add-runtime=reduced={runtime}", "--default-runtime=reduced"]
    say("starting a Docker daemon of our own")
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives this command and its terminal
            env=os.environ | {"PATH": _daemon_path()},
        )
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while not answers(docker.host):
        if daemon.poll() is not None or time.monotonic() > deadline:
            processes.end([daemon.pid])
            raise ClusterError(f"our Docker daemon does not start. Log: {log}\n{tail(log)}")
        time.sleep(0.2)


def has_capability(number: int, process_status: str) -> bool:
    """Say whether the bounding set in the text of `/proc/PID/status` holds the capability of this number."""
    bounding = next(line.split()[1] for line in process_status.splitlines() if line.startswith("CapBnd:"))
    return bool(int(bounding, 16) >> number & 1)


def _raise_inotify_limit() -> None:
    if int(_INOTIFY_LIMIT.read_text()) >= INOTIFY_INSTANCES:
        return
    try:
        _INOTIFY_LIMIT.write_text(str(INOTIFY_INSTANCES))
    except OSError as error:
        say(f"cannot raise {_INOTIFY_LIMIT} to {INOTIFY_INSTANCES} ({error.strerror}): one cluster at a time is safe")


def _clear_leftovers() -> None:
    """Remove what lives on when the daemon has died: nothing of ours runs afterwards, and the next start is clean."""
    folder = _folder()
    containers = folder / "data" / "containers"
    container_ids = os.listdir(containers) if containers.is_dir() else []
    processes.end(processes.naming(folder / "exec"), timeout_seconds=0)
    processes.end(processes.in_containers(container_ids), timeout_seconds=0)
    for point in mounts_below(folder, Path("/proc/self/mountinfo").read_text()):
        run_quietly(["umount", "--lazy", point])
    shutil.rmtree(folder / "exec", ignore_errors=True)
    for name in ("docker.pid", "docker.sock"):
        (folder / name).unlink(missing_ok=True)


def mounts_below(folder: Path, mountinfo: str) -> list[str]:
    """Return the mount points below `folder` in the text of `/proc/self/mountinfo`, deepest first."""
    points = [line.split()[4] for line in mountinfo.splitlines()]
    return sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True)


def run_quietly(command: list[str]) -> None:
    """Run a command whose failure changes nothing."""
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
