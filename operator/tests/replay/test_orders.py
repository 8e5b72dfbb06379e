"""What `python -m dopd.replay.orders` prints, and what it refuses before anything runs."""

import pytest

from dopd.replay.orders import main


def test_a_row_for_each_order_and_knob(capsys: pytest.CaptureFixture[str]):
    options = ["--requests", "200", "--orders", "fcfs,on-time-first,shortest-first", "--late-share", "0.2,1"]
    assert main(["mix", *options, "--most-unfinished", "3"]) == 0
    rows = [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines()[5:]]
    assert rows == [
        "| fcfs",
        "| on-time-first, late share 0.20, 3 unfinished",
        "| on-time-first, late share 1.00, 3 unfinished",
        "| shortest-first, 3 unfinished",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mix", "--utilisation", "0"], "orders: --utilisation 0: expected a number above 0"),
        (["mix", "--late-share", "0.5,2"], "orders: --late-share 2: expected a share of 0 to 1"),
        (["mix", "--most-unfinished", "1.5"], "orders: --most-unfinished 1.5: expected a whole number"),
        (["mix", "--counts", "3,2"], "orders: --counts with mix: expected a trace"),
        (["nowhere.csv"], "orders: nowhere.csv: No such file or directory; expected the path of a trace"),
    ],
)
def test_what_is_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mix", "--counts", "3"], "--counts: 3: expected two whole numbers above 0"),
        (["mix", "--late-share", "half"], "--late-share: half: expected numbers, comma separated"),
        (["mix", "--orders", "lifo"], "--orders: lifo: expected some of on-time-first"),
    ],
)
def test_what_argparse_refuses(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(arguments)
    assert words in capsys.readouterr().err
