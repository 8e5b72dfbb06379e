"""A real Prometheus, or VictoriaMetrics, on loopback over samples that a test made up."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import httpx
import pytest

NEEDED = {"prometheus": ("prometheus", "promtool"), "victoria-metrics": ("victoria-metrics",)}
"""Programs that each server needs; the Debian package has its name. Taken from the PATH, else from that package, which
is fetched once into the cache and not installed."""
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dopd" / "servers"

Series = tuple[str, dict[str, str], Iterable[tuple[float, float]]]
"""Metric, labels, and (seconds since the epoch, value) in order."""


@contextmanager
def serving(server: str, folder: Path, series: Iterable[Series]) -> Iterator[str]:
    """The URL of a server, named as in NEEDED, that holds the samples and scrapes nothing.

    Skips the test where a program that the server needs is neither there nor to be had.
    """
    if absent := [name for name in NEEDED[server] if program(server, name) is None]:
        pytest.skip(f"needs {' and '.join(absent)} on the PATH, or a Debian that has the package {server}")
    start = _prometheus if server == "prometheus" else _victoria_metrics
    address = _free_address()
    with start(folder, series, address):
        yield f"http://{address}"


def _free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


@cache
def program(package: str, name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path=str(_fetched(package)))


@cache
def _fetched(package: str) -> Path:
    """The folder of a package's programs; an empty one where it can not be had."""
    folder = CACHE / package
    programs = folder / "usr" / "bin"
    if programs.exists() or not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return programs
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        fetched = subprocess.run(["apt-get", "download", package], cwd=scratch, capture_output=True, check=False)
        archives = list(Path(scratch).glob("*.deb"))
        if fetched.returncode or not archives:
            return programs
        subprocess.run(["dpkg-deb", "-x", archives[0], f"{scratch}/unpacked"], check=True)
        with suppress(OSError):  # another process was faster
            Path(f"{scratch}/unpacked").rename(folder)
    return programs


def _path_of(package: str, name: str) -> str:
    path = program(package, name)
    assert path, name
    return path


@contextmanager
def _prometheus(folder: Path, series: Iterable[Series], address: str) -> Iterator[None]:
    text, data = folder / "samples", folder / "data"
    with text.open("w") as file:
        for metric, labels, samples in sorted(series, key=lambda one: one[0]):
            name = f"{metric}{_braces(labels)}"
            file.writelines(f"{name} {value} {at:.3f}\n" for at, value in samples)
        file.write("# EOF\n")
    # In few blocks: promtool reads the file once for each.
    make = ("tsdb", "create-blocks-from", "--max-block-duration=200h", "openmetrics", "--quiet")
    _run(_path_of("prometheus", "promtool"), *make, str(text), str(data))
    with _prometheus_of(folder, data, address):
        yield


@contextmanager
def recording(url: str, rules: Path, folder: Path, start: float, end: float) -> Iterator[str]:
    """The URL of a Prometheus that holds what recording rules make of another's series, and nothing else."""
    data = folder / "data"
    where = (f"--url={url}", f"--start={start:.0f}", f"--end={end:.0f}", f"--output-dir={data}")
    _run(_path_of("prometheus", "promtool"), "tsdb", "create-blocks-from", "rules", *where, str(rules))
    address = _free_address()
    with _prometheus_of(folder, data, address):
        yield f"http://{address}"


@contextmanager
def _prometheus_of(folder: Path, data: Path, address: str) -> Iterator[None]:
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    flags = {
        "config.file": folder / "prometheus.yml",
        "storage.tsdb.path": data,
        "storage.tsdb.retention.time": "1y",
        "web.listen-address": address,
    }
    command = [_path_of("prometheus", "prometheus"), *(f"--{flag}={value}" for flag, value in flags.items())]
    with _running(command, folder / "log") as process:
        _wait_until_ready(f"http://{address}/-/ready", process, folder / "log")
        yield


@contextmanager
def _victoria_metrics(folder: Path, series: Iterable[Series], address: str) -> Iterator[None]:
    lines = [
        f"{metric}{_braces(labels)} {value} {at * 1000:.0f}"
        for metric, labels, samples in series
        for at, value in samples
    ]
    flags = {"httpListenAddr": address, "storageDataPath": folder / "data", "retentionPeriod": "100y"}
    command = [_path_of("victoria-metrics", "victoria-metrics"), *(f"-{flag}={value}" for flag, value in flags.items())]
    with _running(command, folder / "log") as process, httpx.Client(trust_env=False) as client:
        _wait_until_ready(f"http://{address}/health", process, folder / "log")
        client.post(f"http://{address}/api/v1/import/prometheus", content="\n".join(lines)).raise_for_status()
        client.get(f"http://{address}/internal/force_flush").raise_for_status()
        yield


@contextmanager
def _running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=10)


def _braces(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
