"""The table of all replays: medians first, each split apart, each policy against those that reach the objective."""

import json
import math

import pytest

from dopd.replay import matrix
from dopd.replay.loads import LOADS, Split, shortened
from dopd.replay.table import Compared, Entry, lines, show, summary


def figures(attainment, hours, *seeds):
    each = [{"attainment": attainment, "gpu_hours": h} for h in seeds or (hours,)]
    return {
        "knob": "", "attainment": attainment, "gpu_hours": hours, "seeds": each, "prefill_use": 0.5, "decode_use": None,
        "reversals_per_hour": 1.0,
    }  # fmt: skip


@pytest.fixture
def entry(tmp_path):
    def make(order="on-time-first", split="held out", **policies):
        path = tmp_path / f"{order}{len(list(tmp_path.iterdir()))}.json"
        content = {"attainment": 0.99, "optimum_at_least_gpu_hours": 5.5, "policies": policies}
        path.write_text(json.dumps(content))
        return Entry("day", split, "", "8B", 60, order, "", (path,))

    return make


def test_a_row_compares_with_what_reaches_the_objective(entry):
    row = Compared.read(
        entry(
            dopd=figures(0.995, 9.0, 8.5, 9.5),
            hpa=figures(0.98, 5.0),
            keda=figures(0.991, 12.0),
            optimum=figures(0.99, 6.0),
        )
    )
    fcfs = Compared.read(entry("fcfs", fixed=figures(0.99, 18.0), dopd=figures(0.99, 11.0)))
    cells = [[cell.strip() for cell in line.split("|")] for line in lines(row, fcfs)]
    assert [line[5] for line in cells] == ["dopd", "keda", "hpa", "optimum"]
    assert cells[0][6:12] == [
        "**99.50%** (99.50% to 99.50%)", "9.00 (8.50 to 9.50)", "0.75 (keda)", "0.50 (fixed)", "1.50", "50%, -",
    ]  # fmt: skip
    assert cells[2][6] == "98.00%"
    assert "no schedule below 5.50" in cells[3][-2]


def test_what_is_cheaper_than_the_verified_schedule_stands_for_it(entry):
    row = Compared.read(entry(dopd=figures(0.99, 5.8), optimum=figures(0.99, 6.0), hpa=figures(0.9, 1.0)))
    assert row.optimum == 5.8


def test_a_schedule_that_misses_the_objective_is_no_optimum(entry):
    row = Compared.read(entry(dopd=figures(0.99, 5.8), optimum=figures(0.02, 3.0)))
    assert row.optimum is None
    _, _, line, *_ = summary([row], lambda row: None)
    assert [cell.strip() for cell in line.split("|")][4:7] == ["1", "1", "0"]


def test_the_summary_has_medians_of_rows_that_reach_it(entry):
    rows = [
        Compared.read(entry(dopd=figures(share, hours), hpa=figures(0.99, 10.0), optimum=figures(0.99, 5.0)))
        for share, hours in ((0.99, 6.0), (0.992, 8.0), (0.995, 12.0), (0.98, 1.0))
    ]
    head, _, line, *_ = summary(rows, lambda row: None)
    assert head.count("|") == line.count("|")
    assert [cell.strip() for cell in line.split("|")][4:10] == ["4", "3", "4", "0.80, 1.20", "-", "1.60, 2.40"]


def test_what_is_no_report_is_said_with_its_path_and_the_others_are_shown(entry, tmp_path, capsys):
    bad = tmp_path / "prose"
    bad.write_text("# Replay")
    good = entry(dopd=figures(0.99, 1.0))
    assert show([Entry("other", "own", "", "8B", 60, "fcfs", "", (bad,)), good]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"{bad}: Expecting value")
    assert "| day | 8B, 60 s |" in out
    assert "nothing was chosen by it" in out


def test_every_load_says_what_it_may_be_used_for():
    assert len({load.name for load in LOADS}) == len(LOADS)
    assert all(bool(load.looked_at) == (load.split is Split.CHOSEN_BY) for load in LOADS)
    names = [row.name for row in matrix.rows()]
    assert len(set(names)) == len(names)


def test_a_part_of_a_load_is_its_first_hours_under_a_name_of_its_own():
    loads = {load.name: load for load in LOADS}
    whole, part = loads["m-large-136"], shortened(loads["m-large-136"], 2)
    assert part.name == "m-large-136-first-2h"
    assert part.options == ("--from-seconds", "489600", "--to-seconds", "496800")
    assert shortened(loads["azure2023-conv"], 0.5).options == ("--from-seconds", "0", "--to-seconds", "1800")
    assert shortened(whole, 6) == whole, "it has no more"


def test_policies_of_a_group_can_be_named(tmp_path, monkeypatch, capsys):
    commands = []
    monkeypatch.setattr(matrix, "run", lambda command: bool(commands.append(command)))
    options = ["--only", "flat-first-1h_8B_60s_fcfs", "--hours", "1", "--groups", "ours,peers", "--peers", "fixed,hpa"]
    matrix.main(["--traces", str(tmp_path), "--out", str(tmp_path), *options])
    assert [command[command.index("--policies") + 1] for command in commands] == ["dopd", "fixed,hpa"]
    assert {command[command.index("--to-seconds") + 1] for command in commands} == {"7200"}


def test_a_replay_that_does_not_exist_is_refused_before_anything_is_made(tmp_path, capsys):
    for options, message in (
        (["--only", "nothere"], "--only nothere"),
        (["--groups", "all"], "--groups all: expected"),
    ):
        assert matrix.main(["--traces", str(tmp_path), "--out", str(tmp_path / "out"), *options]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert math.isnan(Compared.read(Entry("x", "own", "", "8B", 60, "fcfs", "", ())).at_least)
