"""The table of all replays: each line says of which load it is, and compares costs with those that count."""

import json

import pytest

from dopd.replay import matrix
from dopd.replay.table import main, rows


def policy(attainment: float, gpu_hours: float) -> dict[str, object]:
    figures = {"attainment": attainment, "gpu_hours": gpu_hours, "ttft_p90": 0.2}
    return {"knob": "", "changes": 3, "reversals_per_hour": 1.0, **figures}


def report(**changes: object) -> dict[str, object]:
    policies = {
        "dopd": policy(0.995, 9.0),
        "hpa": policy(0.98, 5.0),
        "static-peak": policy(1.0, 12.0),
        "oracle": policy(1.0, 6.0),
    }
    load = {"trace": "day", "rate_scale": 0.3, "from_seconds": 0.0, "to_seconds": None, "seconds": 86390}
    told = {"profile": "an-engine", "start_up_seconds": 60.0, "attainment": 0.99, "within": None}
    return {**load, **told, "policies": policies, **changes}


@pytest.mark.parametrize(
    ("changes", "load"),
    [
        ({}, "day x0.3"),
        ({"from_seconds": 489600.0, "to_seconds": 511200.0, "seconds": 21598}, "day x0.3, hours 136 to 142"),
        ({"from_seconds": 1800.0, "to_seconds": 5400.0, "seconds": 3600}, "day x0.3, hours 0.5 to 1.5"),
        ({"within": "constant"}, "day x0.3, in steps"),
        ({"within": "linear"}, "day x0.3"),
    ],
)
def test_a_line_says_which_part_of_which_load_it_is_of(changes, load):
    assert {line.split("|")[1].strip() for line in rows(report(**changes))} == {load}


def test_costs_are_compared_with_the_cheapest_peer_that_reaches_the_objective_and_with_the_oracle():
    cells = [cell.strip() for cell in rows(report())[0].split("|")]
    assert cells[4:9] == ["dopd", "**99.50%**", "9.00", "0.75", "1.50"]


def test_what_is_no_report_is_said_in_a_line_with_its_path_and_the_others_are_still_shown(tmp_path, capsys):
    older = {key: value for key, value in report().items() if key != "within"}
    for name, text in (("older", json.dumps(older)), ("prose", "# Replay"), ("good", json.dumps(report()))):
        (tmp_path / name).write_text(text)
    assert main([str(tmp_path / name) for name in ("older", "prose", "good")]) == 2
    out, err = capsys.readouterr()
    assert [line.split(";")[0] for line in err.splitlines()] == [
        f"{tmp_path}/older: the key 'within' is missing",
        f"{tmp_path}/prose: Expecting value: line 1 column 1 (char 0)",
    ]
    assert out.count("| day x0.3 |") == 4


def test_a_replay_that_does_not_exist_is_refused_before_anything_is_made(tmp_path, capsys):
    with pytest.raises(SystemExit):
        matrix.main(["--traces", str(tmp_path), "--out", str(tmp_path / "out"), "--only", "nothere"])
    assert "--only nothere: no replay's name holds this" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
