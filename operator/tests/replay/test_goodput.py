from dataclasses import replace

import numpy as np
import pytest

from dopd.api.names import Role
from dopd.planning import Objectives
from dopd.replay.fixed import AGGREGATED, MIXED, SPLIT
from dopd.replay.goodput import SIZED, Ground, Lengths, highest
from dopd.replay.policies.base import Setting
from dopd.replay.reproduce import main
from dopd.replay.runner import Result
from dopd.replay.workers import Settings


@pytest.fixture
def ground(model):
    setting = Setting(model, Objectives(0.5, 0.02, 0.9), 60.0)
    lengths = Lengths(np.array([500, 2000, 1500]), np.array([50, 10, 200]))
    return Ground(setting, Settings(dict.fromkeys(Role, 60.0)), lengths, 4, 15.0, seed=3)


def served(attainment: float) -> Result:
    return Result(attainment, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0, ())


@pytest.mark.parametrize("guess", [0.5, 20.0, 37.0, 900.0])
def test_the_highest_rate_is_found_wherever_the_search_begins(guess):
    found = highest(lambda rate: (f"{rate:.0f}", served(1.0 if rate <= 37.0 else 0.89)), 0.9, guess)
    assert 37 / 1.01 <= found.rps <= 37
    assert found.label == f"{found.rps:.0f}"


def test_a_deployment_that_meets_no_rate_has_no_goodput():
    found = highest(lambda rate: ("", served(0.5)), 0.9, 20.0)
    assert found.rps == 0.0
    assert found.result is None


def test_rates_use_the_same_requests_closer_together(ground):
    slow, fast = (ground.lengths.arriving(rate, 60.0, seed=3) for rate in (10.0, 20.0))
    assert len(slow) == 600
    assert len(fast) == 1200
    assert fast.arrival_seconds[:600] == pytest.approx(slow.arrival_seconds / 2)
    assert (fast.input_tokens[:600] == slow.input_tokens).all()
    pairs = set(zip(slow.input_tokens.tolist(), slow.output_tokens.tolist(), strict=True))
    assert pairs == {(500, 50), (2000, 10), (1500, 200)}


def test_drawn_lengths_have_the_means_and_the_spread_asked_for():
    drawn = Lengths.lognormal(1000.0, 250.0, 1.0, seed=1)
    assert drawn.inputs.mean() == pytest.approx(1000, rel=0.05)
    assert drawn.outputs.mean() == pytest.approx(250, rel=0.05)
    assert drawn.inputs.std() / drawn.inputs.mean() == pytest.approx(1.0, rel=0.15)


def test_no_fixed_split_beats_the_best_one_and_dopds_uses_all_gpus(ground):
    found = {name: highest(ground.serve(name, 0.9), 0.9, ground.guess_rps, 0.03) for name in ground.deployments()}
    assert set(found) == {AGGREGATED, MIXED, "split 1:1", "split 1:3", "split 3:1", SIZED, SPLIT}
    assert all(entry.rps <= found[SPLIT].rps * 1.03 for name, entry in found.items() if name.startswith("split"))
    assert all(entry.result is None or entry.result.attainment >= 0.9 for entry in found.values())
    assert sum(ground.sized(found[SPLIT].rps)) == 4


def test_one_worker_can_not_be_split(ground):
    assert replace(ground, workers=1).deployments() == [AGGREGATED, MIXED]


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "lengths.csv"
    rows = [f"{k / 4},{500 + k % 7 * 400},{20 + k % 5 * 20}" for k in range(200)]
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens", *rows]))
    return str(path)


QUICK = ["--profile", "llama-3.1-8b-l40s", "--seconds", "20"]


def test_goodput_prints_a_row_for_each_deployment(trace, capsys):
    assert main(["goodput", "--trace", trace, "--gpus", "2", *QUICK]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[1:]] == [
        "| aggregated", "| aggregated-mixed", "| split 1:1", "| split by dopd", "| split",
    ]  # fmt: skip


def test_order_compares_with_first_come_at_the_load_that_gives_it_some_ttft(trace, capsys):
    options = ["--trace", trace, "--orders", "shortest-first", "--fcfs-ttft-p90", "2"]
    assert main(["order", *options, *QUICK]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[1:]] == ["| fcfs", "| shortest-first"]
    assert float(rows[1][3].removesuffix(" s")) == pytest.approx(2.0, rel=0.15)
    assert float(rows[2][3].removesuffix(" s")) < float(rows[1][3].removesuffix(" s"))


def test_lengths_prints_a_cell_for_each_objective(capsys):
    assert (
        main(["lengths", "--gpus", "2", "--prompts", "2000", "--itl", "0.001,0.06", "--seconds", "5", *QUICK[:2]]) == 0
    )
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 2
    assert "neither" in rows[1]
    assert "/s)" in rows[1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["goodput", "--trace", "nowhere.csv"], "nowhere.csv"),
        (["goodput", "--gpus", "2"], "expected at least the 4 of one worker"),
        (["goodput", "--share", "90"], "expected a share above 0 and below 1"),
        (["lengths", "--slo-ttft", "0"], "--slo-ttft 0: expected seconds above 0"),
        (["lengths", "--itl", "0.02,0"], "--itl 0: expected numbers above 0"),
        (["order", "--orders", "magic"], "expected some of on-time-first"),
    ],
)
def test_what_can_not_be_used_is_told_with_what_was_expected(options, expected, capsys):
    assert main(options) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["order", "--counts", "0,1"], ["lengths", "--itl", "fast"], ["order", "--mixed-pass", "sum"]]
)
def test_a_number_that_can_not_be_used_is_refused(options, capsys):
    with pytest.raises(SystemExit):
        main(options)
    assert options[1] in capsys.readouterr().err
