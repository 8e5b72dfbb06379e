import gzip
import tempfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.replay.trace import Within, load

REQUESTS = "arrival_s,input_tokens,output_tokens\n10,100,5\n11,200,6\n12.5,300,7\n"
TOTALS = "t_s,requests,input_tokens,output_tokens\n0,600,600000,60000\n60,0,0,0\n120,1200,2400000,60000\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name="trace.csv"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "gzip-without-the-suffix"])
def test_requests_are_taken_as_they_are_from_the_first_on(write, name):
    trace = load(write(REQUESTS, name))
    assert trace.arrival_seconds.tolist() == [0.0, 1.0, 2.5]
    assert trace.input_tokens.tolist() == [100, 200, 300]
    assert trace.kind == "requests"


def test_a_log_in_another_order_is_the_same_trace(write):
    header, *rows = REQUESTS.splitlines()
    mixed = load(write("\n".join([header, rows[2], rows[0], rows[1]]), "mixed.csv"), rate_scale=2)
    straight = load(write(REQUESTS), rate_scale=2)
    assert mixed.arrival_seconds.min() == straight.arrival_seconds.min() == 0.0
    assert mixed.duration_seconds == 2.5
    assert dict(zip(mixed.input_tokens, mixed.output_tokens, strict=True)) == {100: 5, 200: 6, 300: 7}
    assert load(write("\n".join([header, rows[2], rows[0], rows[1]]))).input_tokens.tolist() == [100, 200, 300]


def test_totals_in_another_order_and_with_a_mark_of_their_encoding_are_the_same_trace(write):
    header, *rows = TOTALS.splitlines()
    mixed = load(write("\ufeff" + "\n".join([header, *reversed(rows)]), "mixed.csv"))
    assert mixed.arrival_seconds.tolist() == load(write(TOTALS)).arrival_seconds.tolist()


def test_copies_keep_every_length_and_stay_within_the_trace(write):
    trace = load(write(REQUESTS), rate_scale=4)
    assert sorted(trace.input_tokens.tolist()) == sorted([100, 200, 300] * 4)
    assert trace.arrival_seconds.min() >= 0
    assert trace.arrival_seconds.max() <= 2.5
    assert (np.diff(trace.arrival_seconds) >= 0).all()


def test_totals_keep_counts_and_means_and_an_empty_interval_stays_empty(write):
    trace = load(write(TOTALS))
    minutes = (trace.arrival_seconds // 60).astype(int)
    assert np.bincount(minutes).tolist() == [600, 0, 1200]
    assert trace.input_tokens[minutes == 2].mean() == pytest.approx(2000, rel=0.15)


def test_load_runs_on_from_one_interval_to_the_next_and_keeps_the_number_of_each(write):
    path = write("t_s,requests,input_tokens,output_tokens\n0,6000,600000,6000\n60,18000,7200000,18000\n")
    steps, runs = load(path, within=Within.CONSTANT), load(path, within=Within.LINEAR)
    for trace in (steps, runs):
        assert np.bincount((trace.arrival_seconds // 60).astype(int)).tolist() == [6000, 18000]

    def at_the_edge(trace, column):  # of the ten seconds after it over the ten before
        around = [np.abs(trace.arrival_seconds - middle) < 5 for middle in (55, 65)]
        before, after = (column[inside].sum() for inside in around)
        return after / before

    assert at_the_edge(steps, steps.arrival_seconds * 0 + 1) == pytest.approx(3, rel=0.1)
    assert at_the_edge(runs, runs.arrival_seconds * 0 + 1) == pytest.approx(1.25, rel=0.12)
    assert at_the_edge(steps, steps.input_tokens) == pytest.approx(12, rel=0.2)
    assert at_the_edge(runs, runs.input_tokens) < 2.2
    assert runs.input_tokens.sum() == pytest.approx(7_800_000, rel=0.06)


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=12),
    st.sampled_from(list(Within)),
)
def test_no_interval_loses_or_gains_a_request(requests, within):
    rows = [f"{60 * i},{n},{n * 100},{n * 10}" for i, n in enumerate(requests)]
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.write("\n".join(["t_s,requests,input_tokens,output_tokens", *rows]))
        file.flush()
        trace = load(file.name, within=within)
    assert np.bincount((trace.arrival_seconds // 60).astype(int)).tolist() == requests


def test_rates_per_second_are_totals(write):
    text = "t_s,rate_rps_with_tokens,input_tok_per_s,output_tok_per_s\n0,2,2000,200\n600,2,2000,200\n"
    assert len(load(write(text))) == 2400


@pytest.mark.parametrize("within", list(Within))
@pytest.mark.parametrize(
    "text",
    [
        "t_s,rate_rps_with_tokens,input_tok_per_s,output_tok_per_s\n0,2,2000,200\n600,2,2000,200\n1200,2,2000,200\n",
        "t_s,requests,input_tokens,output_tokens\n0,1200,9000,900\n600,1200,9000,900\n1200,1200,9000,900\n",
    ],
)
def test_a_part_of_one_interval_is_as_long_as_the_others(write, text, within):
    part = load(write(text), start_seconds=600.0, end_seconds=1200.0, within=within)
    assert len(part) == 1200
    assert part.duration_seconds == pytest.approx(600, abs=10)
    assert part.arrival_seconds.mean() == pytest.approx(300, abs=30)


@pytest.mark.parametrize("text", [REQUESTS, TOTALS])
def test_a_part_begins_at_zero_and_holds_what_arrives_in_it(write, text):
    whole, end = load(write(text)), 120.0 if text is TOTALS else 2.0
    part = load(write(text), start_seconds=0.5 if text is REQUESTS else 0.0, end_seconds=end)
    expected = whole.between(0.5, end) if text is REQUESTS else whole.between(0.0, end)
    assert len(part) == len(expected) < len(whole)
    assert part.arrival_seconds.min() >= 0


def test_a_part_without_requests_is_refused_by_its_times(write):
    with pytest.raises(ValueError, match="no request between 60 s and 120 s"):
        load(write(TOTALS), start_seconds=60.0, end_seconds=120.0)


def test_the_same_seed_draws_the_same_trace(write):
    path = write(TOTALS)
    assert (load(path, seed=3).arrival_seconds == load(path, seed=3).arrival_seconds).all()
    assert (load(path, seed=3).arrival_seconds != load(path, seed=4).arrival_seconds).any()


@pytest.mark.parametrize(
    ("text", "scale", "message"),
    [
        ("a,b\n1,2\n", 1, "expected arrival_s"),
        (REQUESTS, 1.5, "whole number of copies"),
        ("arrival_s,input_tokens,output_tokens\n", 1, "no row"),
    ],
)
def test_what_can_not_be_used_is_refused_with_what_was_expected(write, text, scale, message):
    with pytest.raises(ValueError, match=message):
        load(write(text), rate_scale=scale)
