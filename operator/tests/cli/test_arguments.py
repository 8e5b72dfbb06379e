"""What several commands refuse before they begin."""

import pytest

from dopd.cli.main import main

ESTIMATE = ("profile", "estimate", "--name", "p", "--model", "m", "--gpu", "g", "--output")
MEASURE = (
    "profile", "measure", "--name", "p", "--model", "m", "--gpu", "g", "--prefill-url", "http://127.0.0.1:1",
    "--decode-url", "http://127.0.0.1:1", "--output",
)  # fmt: skip
REPLAY_JSON, REPLAY_HTML = (("replay", "no-trace.csv", option) for option in ("--json", "--html"))


@pytest.mark.parametrize("command", [ESTIMATE, MEASURE, REPLAY_JSON, REPLAY_HTML])
@pytest.mark.parametrize("place", ["no-such-folder/out", "."])
def test_a_file_that_cannot_be_written_is_told_before_the_command_begins(command, place, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*command, str(tmp_path / place)])
    said = capsys.readouterr().err
    expected = "expected a file in a folder that exists and can be written to"
    assert f"argument {command[-1]}: {tmp_path / place}: {expected}" in said


def test_a_file_of_someone_else_is_told_too(tmp_path, capsys, monkeypatch):
    (tmp_path / "out").touch()
    monkeypatch.setattr("os.access", lambda *_: False)  # who runs the tests may be root, who may write everywhere
    with pytest.raises(SystemExit, match="2"):
        main([*REPLAY_JSON, str(tmp_path / "out")])
    assert "can be written to" in capsys.readouterr().err
