"""A real Prometheus on loopback over samples that a test made up."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

INSTALLED = shutil.which("prometheus") is not None and shutil.which("promtool") is not None

Series = tuple[str, dict[str, str], Iterable[tuple[float, float]]]
"""Metric, labels, and (seconds since the epoch, value) in order."""


@contextmanager
def prometheus(folder: Path, series: Iterable[Series]) -> Iterator[str]:
    """The URL of a Prometheus that holds the samples and scrapes nothing."""
    text, data = folder / "samples", folder / "data"
    lines = [
        f"{metric}{_braces(labels)} {value} {at:.3f}\n"
        for metric, labels, samples in sorted(series, key=lambda one: one[0])
        for at, value in samples
    ]
    text.write_text("".join([*lines, "# EOF\n"]))
    _run("promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", str(text), str(data))
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"127.0.0.1:{free.getsockname()[1]}"
    flags = {"config.file": folder / "prometheus.yml", "storage.tsdb.path": data, "web.listen-address": url}
    with (folder / "log").open("wb") as log:
        command = ["prometheus", *(f"--{flag}={value}" for flag, value in flags.items())]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until_ready(f"http://{url}", process, folder / "log")
        yield f"http://{url}"
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
            if httpx.get(f"{url}/-/ready", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
