"""A test run that is ended takes down what it has started."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from e2e.cluster.paths import REPOSITORY

TEST = """
import os, time
from pathlib import Path
import pytest

@pytest.fixture
def server():
    yield
    time.sleep(0.2)
    Path("down").touch()

def test_it(server):
    print("READY", flush=True)
    time.sleep(60)
"""


def test_a_run_that_is_ended_takes_down_what_it_started(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-s", "-p", "conftest", "-p", "no:cacheprovider", "test_it.py"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        for line in run.stdout:
            if "READY" in line:
                break
        run.send_signal(signal.SIGTERM)
        run.communicate(timeout=15)
    assert (tmp_path / "down").exists()
    assert run.returncode
