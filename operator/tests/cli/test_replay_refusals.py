"""What `dopd replay` refuses: before it runs, in one line that says what to write in its place."""

import gzip

import pytest

from dopd.cli import replay, replay_options
from dopd.cli.main import main

TRACE = "arrival_s,input_tokens,output_tokens\n0,500,20\n1,600,20\n2,500,20\n"
TOTALS = "t_s,requests,input_tokens,output_tokens\n0,60,60000,6000\n60,60,60000,6000\n"
RATES = "t_s,rate_rps_with_tokens,input_tok_per_s,output_tok_per_s\n0,2,2000,200\n600,2,2000,200\n"


@pytest.fixture
def refusal(tmp_path, capsys):
    """Run the command on the text of a trace; returns the one line that it answers with."""

    def refuse(text, *options, name="trace.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        before = sorted(tmp_path.rglob("*"))
        assert main(["replay", str(path), "--quiet", "--policies", "static-peak", *options]) == 2
        said = capsys.readouterr()
        assert not said.out
        assert len(said.err.splitlines()) == 1, said.err
        assert sorted(tmp_path.rglob("*")) == before, "nothing is written"
        return said.err.replace(str(path), name)

    return refuse


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
@pytest.mark.parametrize("option", ["--slo-ttft", "--slo-itl", "--rate-scale"])
def test_what_must_be_above_zero(refusal, option, value):
    assert f"{option} {value}: expected a number above 0" in refusal(TRACE, option, value)


@pytest.mark.parametrize("value", ["0", "1", "1.5", "99", "nan", "-0.5"])
def test_attainment_is_a_share_below_one(refusal, value):
    said = refusal(TRACE, "--attainment", value)
    assert f"--attainment {value}: expected a share above 0 and below 1" in said
    assert ("0.99 for 99 %" in said) == (value == "99")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ["--routing", "least_work", "--policies", "static-peak,aggregated"],
            "--routing least_work with policy 'aggregated': expected one of least_requests",
        ),
        (["--start-up-seconds", "-5"], "--start-up-seconds -5: expected seconds of at least 0"),
        (["--start-up-seconds", "nan"], "--start-up-seconds nan: expected seconds of at least 0"),
        (["--from-seconds", "-1"], "--from-seconds -1: expected seconds of at least 0"),
        (["--from-seconds", "nan"], "--from-seconds nan: expected seconds of at least 0"),
        (["--to-seconds", "nan"], "--to-seconds nan: expected seconds after --from-seconds 0"),
        (["--from-seconds", "2", "--to-seconds", "1"], "--to-seconds 1: expected seconds after --from-seconds 2"),
        (["--from-seconds", "2", "--to-seconds", "2"], "--to-seconds 2: expected seconds after --from-seconds 2"),
        (["--seed", "-1"], "--seed -1: expected a whole number of at least 0"),
        (["--profile-correction", "1e-300"], "--profile-correction 1e-300: expected a number from 0.01 to 10"),
        (["--profile-correction", "1e300"], "--profile-correction 1e+300: expected a number from 0.01 to 10"),
        (["--policies", "static-peak,magic"], "--policies magic: expected some of dopd"),
        (["--policies", "static-peak,"], "--policies : expected some of dopd"),
        (["--policies", "static-peak,static-peak"], "--policies static-peak: is named twice"),
        (["--equal-hours", "hpa"], "--equal-hours hpa: expected one of --policies"),
    ],
)
def test_other_options(refusal, options, expected):
    assert expected in refusal(TRACE, *options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "trace.csv: the file is empty; expected a header"),
        (b"\x1f\x8b", "trace.csv: not a readable file"),
        (gzip.compress(TRACE.encode(), mtime=0)[:40], "trace.csv: not a readable file"),
        (b"\xff\xfe\x00a\n", "trace.csv: not a readable file"),
        (TRACE + "3,500\n", "trace.csv, line 5: 2 cells under a header of 3"),
        ("# A page\n\nwords, and more\n", "trace.csv: columns # A page; expected arrival_s"),
        (TRACE + "\n3,many,20\n", "trace.csv, line 6: input_tokens 'many'; expected a number of tokens"),
        (TRACE + "3,,20\n", "trace.csv, line 5: input_tokens ''; expected a number of tokens"),
        (TRACE + "3,500,-20\n", "trace.csv, line 5: output_tokens '-20'; expected a number of tokens"),
        (TRACE + "3,nan,20\n", "trace.csv, line 5: input_tokens 'nan'"),
        (TRACE + "3,inf,20\n", "trace.csv, line 5: input_tokens 'inf'"),
        (TRACE + "3,1e300,20\n", "trace.csv, line 5: input_tokens '1e300'"),
        (TRACE + "-3,500,20\n", "trace.csv, line 5: arrival_s '-3'; expected seconds of at least 0"),
        (TRACE + "nan,500,20\n", "trace.csv, line 5: arrival_s 'nan'"),
        (TOTALS + "120,-1,60000,6000\n", "trace.csv, line 4: requests '-1'; expected a number of requests"),
        (TOTALS + "60,1,60000,6000\n", "trace.csv, line 4: t_s '60' stands twice"),
        (RATES + "1200,inf,1,1\n", "trace.csv, line 4: rate_rps_with_tokens 'inf'; expected a number per second"),
        (
            "arrival_s,input_tokens,output_tokens,hash_ids\n0,600,20,a\n",
            "trace.csv, line 2: hash_ids 'a'; expected whole numbers separated by spaces",
        ),
    ],
)
def test_a_cell_is_told_by_its_line(refusal, text, expected):
    assert expected in refusal(text)


def test_a_profile_is_refused_in_one_line(refusal, tmp_path):
    profile = tmp_path / "own.yaml"
    profile.write_text("spec: {model: m, prefill: 3}\n")
    assert "own.yaml: spec.gpu: Field required; spec." in refusal(TRACE, "--profile", str(profile))
    profile.write_text("kind: DisaggregatedInference\nspec: {model: m}\n")
    assert "own.yaml: kind DisaggregatedInference; expected a manifest of kind EngineProfile" in refusal(
        TRACE, "--profile", str(profile)
    )
    profile.write_text("a: b: c\n")
    assert "own.yaml: no YAML" in refusal(TRACE, "--profile", str(profile))
    profile.write_text(f"spec: {'[' * 3000}")
    assert "own.yaml: nested too deep" in refusal(TRACE, "--profile", str(profile))
    profile.write_bytes(b"\xff\xfe")
    assert "own.yaml: can not be read" in refusal(TRACE, "--profile", str(profile))


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("--within", "linear, constant"),
        ("--routing", "least_requests, power_of_two, round_robin, cache_aware, least_work"),
    ],
)
def test_a_name_that_is_none_of_an_option_is_told_those_it_has(option, expected, capsys):
    assert main(["replay", "trace.csv", option, "wrong"]) == 2
    assert f"{option} wrong: expected one of {expected}" in capsys.readouterr().err


def test_a_trace_that_is_not_there(capsys):
    assert main(["replay", "no-such/trace.csv", "--quiet"]) == 2
    told = "no-such/trace.csv: No such file or directory; expected the path of a trace"
    assert capsys.readouterr().err == f"dopd replay: {told}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("trace.csv", "--spec", "llama.yaml"), "--spec: expected --from RESOURCE beside it; leave it out"),
        (("trace.csv", "--since", "2h"), "--since: expected --from RESOURCE beside it; leave it out"),
        (("--from", "llama", "--slo-ttft", "1"), "--slo-ttft: expected a TRACE, and not --from; leave it out"),
        (("--from", "llama", "--no-prefix-cache"), "--no-prefix-cache: expected a TRACE, and not --from; leave it out"),
        (("--from", "llama", "--policies", "hpa"), "--policies: expected a TRACE, and not --from; leave it out"),
    ],
)
def test_options_that_would_be_without_effect(arguments, expected, capsys):
    assert main(["replay", *arguments]) == 2
    assert capsys.readouterr().err == f"dopd replay: {expected}\n"


def test_each_option_goes_with_a_trace_with_a_resource_or_with_both():
    both = {"trace", "from_resource", "seed", "json", "quiet", "namespace", "kubeconfig", "context"}
    known = both.union(replay_options.WITH_TRACE, replay_options.WITH_RESOURCE)
    names = {parameter.name for parameter in replay.command.params if parameter.name}
    assert {name for name in names if not name.startswith("prometheus_")} == known
