import sys
from pathlib import Path

import pytest

from e2e.cluster import steps
from e2e.cluster.errors import ClusterError


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_failure_shows_the_end_of_the_log_and_where_it_is(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "build.log"
    with pytest.raises(ClusterError) as caught:
        steps.run(_python("for i in range(50): print('line', i)\nraise SystemExit(3)"), what="building", log=log)
    message = str(caught.value)
    assert message.startswith(f"building failed (exit status 3). Log: {log}")
    assert "line 49" in message
    assert "line 10" not in message


def test_a_long_step_says_that_it_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(steps, "PULSE_SECONDS", 0.05)
    steps.run(_python("import time; time.sleep(0.5)"), what="building", usually="7 min", log=tmp_path / "log")
    said = capsys.readouterr().err
    assert "building (usually 7 min)" in said
    assert "building: 0 s" in said


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="no-such-program is not installed"):
        steps.run(["no-such-program"], what="building", log=tmp_path / "log")
    with pytest.raises(ClusterError, match="no-such-program is not installed"):
        steps.output(["no-such-program"])


def test_a_short_command_gives_its_output_or_its_complaint() -> None:
    assert steps.output(_python("print(input())"), stdin="hello\n") == "hello\n"
    with pytest.raises(ClusterError, match="no such thing"):
        steps.output(_python("import sys; sys.exit('no such thing')"))
    with pytest.raises(ClusterError, match="no answer in"):
        steps.output(_python("import time; time.sleep(60)"), timeout_seconds=0.2)
