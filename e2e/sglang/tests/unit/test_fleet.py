"""Servers start, are awaited, and end with the block."""

import os
import sys
from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.sglang.fleet import Fleet, Server

TALKS = """
import http.server, os
print("hello", os.environ["NAME"], flush=True)
http.server.test(http.server.SimpleHTTPRequestHandler, port={port}, bind="127.0.0.1")
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def launch(fleet: Fleet, code: str) -> Server:
    port = fleet.port()
    return fleet.launch(
        "talker",
        [sys.executable, "-c", code.format(port=port)],
        url=f"http://127.0.0.1:{port}",
        ready="/",
        environment={"NAME": "world"},
    )


def test_a_server_ends_with_the_block_and_leaves_its_log() -> None:
    servers: list[Server] = []

    def run() -> None:
        with Fleet() as fleet:
            servers.extend(launch(fleet, TALKS) for _ in range(2))
            fleet.wait_until_ready(15)
            assert all(server.running for server in servers)
            assert fleet.scratch.exists()
            folders.append(fleet.scratch)
            raise KeyboardInterrupt

    folders: list[Path] = []
    with pytest.raises(KeyboardInterrupt):
        run()
    assert not any(server.running for server in servers)
    assert not folders[0].exists()
    first, second = servers
    assert "hello world" in first.log.read_text()
    assert first.log != second.log


def test_a_server_that_ends_is_told_with_its_last_words() -> None:
    with Fleet() as fleet:
        server = launch(fleet, "raise SystemExit('no {port} for me')")
        with pytest.raises(ClusterError, match="for me"):
            server.wait_until_ready(15)


def test_a_server_that_does_not_answer_is_told() -> None:
    with Fleet() as fleet:
        server = launch(fleet, "import time; time.sleep(60)")
        with pytest.raises(ClusterError, match="not ready after"):
            server.wait_until_ready(0.1)


def test_what_a_killed_run_has_left_goes_with_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone, alive = tmp_path / "dopd-sglang-999999999-x", tmp_path / f"dopd-sglang-{os.getpid()}-x"
    gone.mkdir()
    alive.mkdir()
    with Fleet():
        assert not gone.exists()
        assert alive.exists()
