"""SGLang and its gateway in virtual environments in the cache, keyed by their lock files and stand-ins."""

import ctypes.util
import os
import platform
import shutil
import sys
from pathlib import Path

from e2e.cluster import lockfiles, versions
from e2e.cluster.cache import build_log, cached, digest
from e2e.cluster.daemon import apt_install
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import REPOSITORY
from e2e.cluster.steps import run
from e2e.sglang.fleet import inherited

IMAGE_FOLDER = REPOSITORY / "worker_images" / "sglang"
LOCK = REPOSITORY / lockfiles.SGLANG_CPU
STAND_INS = IMAGE_FOLDER / "cpu" / "stand_ins"
STUB_LIBRARIES = IMAGE_FOLDER / "cpu" / "make_stub_libraries.py"

CPU_ENVIRONMENT = {
    "TORCHDYNAMO_DISABLE": "1",
    "SGLANG_USE_CPU_ENGINE": "1",
    "SGLANG_DISAGG_PREFILL_EARLY_SEND_CACHED_PREFIX": "0",  # it waits for a CUDA event
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONUNBUFFERED": "1",
}
"""What SGLang needs to be told where there is no GPU."""

_LIBRARIES = {"curl": "libcurl4", "ibverbs": "libibverbs1", "rdmacm": "librdmacm1", "numa": "libnuma1"}
"""Shared libraries that the KV transfer links against, and their Debian packages."""
_COMPILERS = {"gcc": "gcc", "nm": "binutils", "readelf": "binutils"}
"""Programs that the stand-ins for NVIDIA's libraries are made with, and their Debian packages."""


def sglang_python() -> Path:
    """Return the interpreter of an environment with SGLang, installed when it is not there (a minute).

    Raises:
        ClusterError: packages or libraries cannot be had; names the cure.
    """
    _require()
    key = digest(LOCK, STUB_LIBRARIES, platform.machine(), platform.python_version())

    def build(target: Path) -> None:
        site_packages = _environment(target, LOCK, what=f"installing SGLang {versions.SGLANG}", usually="1 to 2 min")
        run(
            [_python(target), STUB_LIBRARIES, site_packages],
            what="making stand-ins for NVIDIA's libraries",
            log=build_log("sglang"),
        )
        # It shows that the installation works, and compiles what every engine's three processes would compile at once.
        run(
            [_python(target), "-c", "import sglang.launch_server, sglang.srt.managers.scheduler"],
            what="importing SGLang for the first time",
            usually="20 s",
            log=build_log("sglang"),
            env={**inherited(), **CPU_ENVIRONMENT, "PYTHONPATH": str(STAND_INS)},
        )

    return _python(cached("sglang", versions.SGLANG, key, build))


def gateway_command() -> list[str | Path]:
    """Return the command that runs the pinned gateway, installed when it is not there (seconds)."""
    lock = REPOSITORY / lockfiles.GATEWAY
    key = digest(lock, platform.machine(), platform.python_version())

    def build(target: Path) -> None:
        _environment(target, lock, what=f"installing the gateway smg {versions.GATEWAY}", usually="10 s")

    # Not bin/smg: its first line names the folder in which it was built.
    return [_python(cached("smg", versions.GATEWAY, key, build)), "-c", "import sys, smg.cli; sys.exit(smg.cli.main())"]


def _python(environment: Path) -> Path:
    return environment / "bin" / "python"


def _environment(target: Path, lock: Path, *, what: str, usually: str) -> Path:
    """Make a virtual environment of a lock file's wheels in `target`; return its site-packages."""
    log = build_log("sglang")
    run([sys.executable, "-m", "venv", target], what=f"{what}: a virtual environment", log=log)
    options = ["--quiet", "--disable-pip-version-check", "--no-compile", "--no-deps", "--require-hashes"]
    run([_python(target), "-m", "pip", "install", *options, "-r", lock], what=what, usually=usually, log=log)
    return next((target / "lib").glob("python3*")) / "site-packages"


def _require() -> None:
    missing = [package for name, package in _LIBRARIES.items() if ctypes.util.find_library(name) is None]
    missing += [package for program, package in _COMPILERS.items() if not shutil.which(program)]
    if not missing:
        return
    packages = sorted(set(missing))
    if os.geteuid() != 0:
        raise ClusterError(f"SGLang needs Debian packages: run `sudo apt-get install {' '.join(packages)}`, then again")
    for package in packages:
        apt_install(package)
