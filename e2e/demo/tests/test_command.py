"""What a mistake on the command line is answered with, before anything is started."""

from pathlib import Path

import pytest

from e2e.demo import __main__ as demo


@pytest.mark.parametrize("option", ["--json", "--html", "--record"])
@pytest.mark.parametrize("place", ["no-such-folder/run", "."])
def test_a_file_that_cannot_be_written_is_refused_at_once(
    option: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        demo.main([option, str(tmp_path / place)])
    assert refused.value.code == 2
    assert "expected a file in a folder that exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scenario", "diurnl"), "--scenario diurnl: expected one of first-light, diurnal; did you mean diurnal?"),
        (("--trace", "nope.csv"), "--trace nope.csv: expected a file that exists"),
        (("--keap",), "--keap: no such option; did you mean --keep"),
        (("--scenario",), "--scenario: expected a value after it"),
    ],
)
def test_a_wrong_option_is_answered_in_one_line(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        demo.main(list(arguments))
    assert refused.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("demo: ")
    assert words in line
