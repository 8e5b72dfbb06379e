import json
import sys

import pytest

from dopd.cli.main import main
from dopd.replay.table import rows

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
    assert "http" not in page.read_text()
    assert "dopd" in capsys.readouterr().out
    assert len(rows(content)) == 3


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--profile", "no-such"], "expected a .yaml file or one of"),
        (["--policies", "magic"], "expected one of dopd"),
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
