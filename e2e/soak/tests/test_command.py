"""What a mistake on the command line is answered with, before anything is started."""

from pathlib import Path

import pytest

from e2e.cluster.errors import ClusterError
from e2e.soak import __main__ as soak


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--minutes", "0"), "--minutes: 0: expected a number greater than zero, such as 40"),
        (("--minutes", "nan"), "--minutes: nan: expected a number greater than zero"),
        (("--hours", "-8"), "--hours: -8: expected a number greater than zero"),
        (("--minutes", "0.5"), "--minutes 0.5: expected time for one fault of --faults at least; raise it to 3"),
        (("--settle", "-1"), "--settle: -1: expected seconds, zero or more"),
        (("--faults", "evicton"), "--faults: 'evicton': expected NAME,... of operator-kill,"),
        (("--faults", "evicton"), "did you mean eviction?"),
        (("--json", "no-such-folder/soak.json"), "expected a file in a folder that exists"),
    ],
)
def test_a_wrong_option_is_refused_at_once(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("e2e.stack.up", lambda name: pytest.fail("a cluster is started"))
    with pytest.raises(SystemExit) as refused:
        soak.main(list(arguments))
    assert refused.value.code == 2
    assert words in capsys.readouterr().err


def test_a_cluster_that_does_not_come_up_is_told_and_taken_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    down: list[str] = []

    def up(name: str) -> None:
        raise ClusterError("no Docker answers")

    monkeypatch.setattr("e2e.stack.up", up)
    monkeypatch.setattr("e2e.stack.down", down.append)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    arguments = ["--name", "x", "--minutes", "3", "--faults", "operator-kill,eviction", "--html", str(tmp_path / "a")]
    assert soak.main(arguments) == 2
    told = capsys.readouterr().err
    assert "error: no Docker answers" in told
    assert "operator-kill" in told
    assert "eviction" in told
    assert down == ["x"]
