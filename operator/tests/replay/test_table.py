"""The table of all replays: each line says of which load it is, and compares costs with those that count."""

import pytest

from dopd.replay.table import rows


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
