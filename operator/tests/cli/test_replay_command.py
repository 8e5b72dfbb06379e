import json
import re
import sys

import pytest

from dopd.cli.main import main

TRACE = "arrival_s,input_tokens,output_tokens\n" + "".join(
    f"{k / 4},{500 + k % 7 * 100},{20 + k % 5}\n" for k in range(900)
)


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "steady.csv"
    path.write_text(TRACE)
    return path


def test_the_report_holds_every_policy_and_the_page_stands_alone(trace, tmp_path, capsys):
    report, page = tmp_path / "out.json", tmp_path / "out.html"
    arguments = ["replay", str(trace), "--policies", "dopd,static-peak,oracle", "--quiet"]
    assert main([*arguments, "--json", str(report), "--html", str(page)]) == 0
    content = json.loads(report.read_text())
    assert set(content["policies"]) == {"dopd", "static-peak", "oracle"}
    figures = content["policies"]["dopd"]
    assert figures["attainment"] == 1.0
    assert figures["lost"] == 0
    assert {"attainment_ttft", "attainment_itl", "gpu_hours", "ttft_p90", "itl_p90", "goodput_rps", "changes"} <= set(
        figures
    )
    assert len(figures["late_shares"]) == len(content["load"]["requests_per_second"]) == 200
    assert figures["reversals_per_hour"] == figures["reversals"] * 3600 / content["seconds"]
    assert not re.search(r"""(src|href|url|import)\b[=(:\s"']*https?:""", page.read_text()), "nothing is fetched"
    assert "dopd" in capsys.readouterr().out
    assert 0 < figures["prefill_use"] < 1
    assert 0 < figures["decode_use"] < 1


def test_engines_that_do_both_are_compared_with_a_split_at_equal_gpus(trace, tmp_path, capsys):
    report, page = tmp_path / "out.json", tmp_path / "out.html"
    arguments = ["replay", str(trace), "--policies", "dopd,aggregated", "--profile", "llama-3.1-8b-l40s", "--quiet"]
    assert main([*arguments, "--json", str(report), "--html", str(page)]) == 0
    content, text = json.loads(report.read_text()), capsys.readouterr().out
    assert set(content["policies"]) == {"dopd", "aggregated", "aggregated-mixed"}
    fixed = content["fixed_counts"]
    fewest = fixed["fewest_gpus"]
    assert set(fewest) == {"split", "aggregated", "aggregated-mixed"}
    for name in ("aggregated", "aggregated-mixed"):
        best = content["policies"][name]
        assert best["attainment"] >= 0.99
        assert best["gpu_hours"] == pytest.approx(fewest[name] * content["seconds"] / 3600, rel=0.01)
        assert name in page.read_text()
    for row in fixed["rows"]:
        assert f"{row['attainment']:.2%}" in text
        assert row["workers"] in text


def test_dopd_at_the_hours_of_a_peer_costs_no_more_than_it(tmp_path):
    trace, report = tmp_path / "waves.csv", tmp_path / "out.json"
    lines = [f"{k / 8},{2000 + k % 7 * 300},{20 + k % 5}" for k in range(1200) if k // 300 % 2 or k % 4 == 0]
    trace.write_text("arrival_s,input_tokens,output_tokens\n" + "\n".join(lines) + "\n")
    arguments = ["replay", str(trace), "--policies", "dopd,oracle", "--equal-hours", "oracle", "--quiet"]
    assert main([*arguments, "--profile", "llama-3.1-8b-l40s", "--json", str(report)]) == 0
    content = json.loads(report.read_text())
    peer, ours = content["policies"]["oracle"], content["policies"]["dopd@oracle"]
    tried = [run["gpu_hours"] for run in content["tries"]["dopd@oracle"]]
    assert ours["gpu_hours"] <= peer["gpu_hours"] or ours["gpu_hours"] == min(tried)
    assert ours["knob"].startswith(("told ", "at most "))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--policies", "dopd", "--equal-hours", "hpa"], "expected one of --policies"),
        (["--profile", "no-such"], "expected a .yaml file or one of"),
        (["--policies", "magic"], "expected some of dopd"),
        (["--rate-scale", "1.5"], "whole number of copies"),
        (["--from-seconds", "9999", "--to-seconds", "99999"], "no request between"),
    ],
)
def test_a_mistake_is_told_with_what_was_expected(trace, extra, message, capsys):
    assert main(["replay", str(trace), "--quiet", *extra]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_trace_is_told_by_its_name(capsys):
    assert main(["replay", "no-such-file.csv"]) == 2
    assert "no-such-file.csv" in capsys.readouterr().err


def test_estimates_without_the_measurements_say_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "aiconfigurator_core", None)
    arguments = ["profile", "estimate", "--name", "n", "--model", "m", "--gpu", "h100_sxm"]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "pip install 'dopd[estimate]'" in said
    assert "pip install aiconfigurator-core==0.12.0" in said


SIMULATOR = """#!{python}
import json, os, pathlib, sys
places = [pathlib.Path(place) for place in os.environ["PYTHONPATH"].split(os.pathsep)]
for package in ("dopd", "dopd_forecasting", "dopd_scheduling"):
    assert any((place / package).is_dir() for place in places), package
told = dict(zip(sys.argv[4::2], sys.argv[5::2]))
first, late = int(told["--prefill"]), "latency" in told.get("--planner", "")
figures = dict(attainment=0.5 + late / 2, attainment_ttft=0.5, attainment_itl=1.0, gpu_hours=float(first), ttft_p90=2.0)
figures |= dict(ttft_p99=3.0, itl_p90=0.02, goodput_rps=1.0, changes=0, reversals=0, lost=0, timeline=[[0.0, first, 1]])
assert float(told["--start-up-seconds"]) == 90.0
pathlib.Path(told["--json"]).write_text(json.dumps(figures))
"""


def test_another_simulator_runs_in_its_own_environment_and_gives_the_same_report(trace, tmp_path):
    python, report = tmp_path / "python", tmp_path / "out.json"
    python.write_text(SIMULATOR.format(python=sys.executable))
    python.chmod(0o755)
    arguments = ["replay", str(trace), "--simulator", "dynamo", "--dynamo-python", str(python), "--quiet"]
    page = tmp_path / "out.html"
    assert main([*arguments, "--start-up-seconds", "90", "--json", str(report), "--html", str(page)]) == 0
    assert "Late requests" not in page.read_text(), "that simulator does not tell when"
    content = json.loads(report.read_text())
    assert content["simulator"] == "dynamo"
    assert set(content["policies"]) == {"dopd", "dynamo", "static-peak"}
    assert content["policies"]["dynamo"]["knob"] == "target latency", "the try that came nearest is the one shown"
    assert len(content["tries"]["dynamo"]) == 5


def test_another_simulator_that_fails_or_is_not_set_up_is_told_with_the_command_that_sets_it_up(
    trace, tmp_path, capsys
):
    arguments = ["replay", str(trace), "--simulator", "dynamo", "--quiet", "--dynamo-python"]
    assert main([*arguments, str(tmp_path / "none")]) == 2
    assert "make dynamo-replay" in capsys.readouterr().err
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho boom >&2\nexit 3\n")
    broken.chmod(0o755)
    assert main([*arguments, str(broken)]) == 2
    assert "ended with 3: boom" in capsys.readouterr().err


def test_seeds_world_and_history_are_told_and_the_optimum_has_a_bound(tmp_path, capsys):
    day, report = tmp_path / "day.csv", tmp_path / "out.json"
    rows = [f"{60 * k},{300 + 100 * (k % 2)},{300_000},{6000}" for k in range(20)]
    day.write_text("t_s,requests,input_tokens,output_tokens\n" + "\n".join(rows) + "\n")
    arguments = ["replay", str(day), "--from-seconds", "900", "--history", str(day), "--seeds", "1,2", "--quiet"]
    assert main([*arguments, "--policies", "fixed,optimum", "--json", str(report)]) == 0
    content = json.loads(report.read_text())
    assert content["history"] == "day.csv from 0 s"
    assert content["seeds"] == "1,2"
    fixed, optimum = content["policies"]["fixed"], content["policies"]["optimum"]
    assert len(fixed["seeds"]) == 2
    assert content["optimum_at_least_gpu_hours"] <= optimum["gpu_hours"] * 1.001
    assert " to " in capsys.readouterr().out
    assert main([*arguments, "--policies", "fixed", "--world", "delay,profile=1.3", "--json", str(report)]) == 0
    content = json.loads(report.read_text())
    assert content["world"] == "delay=60,profile=1.3"
    assert "optimum_at_least_gpu_hours" not in content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--world", "storm"], "world 'storm': expected some of bursty"),
        (["--seeds", "1,1"], "1,1: expected each seed once"),
        (["--seeds", "a"], "a: expected whole numbers"),
    ],
)
def test_a_world_or_a_seed_that_is_none_is_refused(trace, options, message, capsys):
    assert main(["replay", str(trace), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--world", "bursty"], "has no file of clients beside it"),
        (["--history", "{trace}"], "ends at 0 s; expected an end after --history-from-seconds 0"),
        (["--simulator", "dynamo", "--world", "delay"], "expected no --world, no --history and one seed"),
    ],
)
def test_what_a_world_or_a_history_lacks_is_said(trace, options, message, capsys):
    told = [option.format(trace=trace) for option in options]
    assert main(["replay", str(trace), "--policies", "dopd", "--quiet", *told]) == 2
    assert message in capsys.readouterr().err
