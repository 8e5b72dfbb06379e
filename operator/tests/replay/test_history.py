"""What was before a trace: bins that end as it begins, whichever kind of file it comes from."""

import gzip

import numpy as np
import pytest

from dopd.replay import generated, lengths_of
from dopd.replay.bursty import COLUMNS, clients_file
from dopd.replay.history import before
from dopd.replay.trace import load


@pytest.fixture
def totals(tmp_path):
    """A day in minutes: 60 requests in each of the first twelve hours, 600 in the others."""
    path = tmp_path / "day.csv"
    rows = [(60 * k, n := 60 if k < 720 else 600, n * 1000, n * 100) for k in range(1440)]
    path.write_text("t_s,requests,input_tokens,output_tokens\n" + "\n".join(",".join(map(str, row)) for row in rows))
    return path


def test_totals_give_the_same_load_minute_by_minute_up_to_time_0(totals):
    past = before(totals, 0.0, 86_400.0, 2.0, 1)
    assert len(past) == 1440
    assert [past[0].end_seconds, past[-1].end_seconds] == [-1439 * 60.0, 0.0]
    rates = np.array([one.demand.requests_per_second for one in past])
    assert rates[:700].mean() == pytest.approx(2.0, rel=0.05)
    assert rates[740:].mean() == pytest.approx(20.0, rel=0.02)
    lengths = np.array([one.demand.input_tokens for one in past[740:]])
    assert lengths.mean() == pytest.approx(1000, rel=0.02)
    assert lengths.std() == pytest.approx(1000 / np.sqrt(1200), rel=0.2), "as of so many requests"
    assert past == before(totals, 0.0, 86_400.0, 2.0, 1)
    assert past != before(totals, 0.0, 86_400.0, 2.0, 2)


def test_requests_are_counted_and_a_silent_minute_has_the_lengths_of_its_neighbour(tmp_path):
    path = tmp_path / "requests.csv"
    path.write_text("arrival_s,input_tokens,output_tokens\n0,100,10\n30,300,30\n130,500,50\n239,500,50\n300,1,1\n")
    past = before(path, 0.0, 240.0, 1.0, 1)
    assert [one.end_seconds for one in past] == [-180.0, -120.0, -60.0, 0.0]
    assert [round(one.demand.requests_per_second * 60) for one in past] == [2, 0, 1, 1]
    assert [one.demand.input_tokens for one in past] == [200.0, 200.0, 500.0, 500.0]
    assert past[0].demand.input_tokens_second_moment == 50_000.0


def test_an_empty_history_is_refused(totals):
    with pytest.raises(ValueError, match="nothing between"):
        before(totals, 90_000.0, 99_000.0, 1.0, 1)


# --- loads of our own -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", generated.LOADS)
def test_a_generated_load_is_the_same_for_a_seed(name):
    one, again, other = (generated.totals(name, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one.columns, again.columns, strict=True))
    assert name == "flat" or not np.array_equal(one.columns[1], other.columns[1])
    assert all((column >= 0).all() for column in one.columns)


def test_the_office_rises_tenfold_within_twenty_minutes_on_weekdays_alone():
    rates = generated.totals("office-day", 1).columns[1] / 60
    assert len(rates) == 3 * 7 * 1440
    days = rates.reshape(21, 1440)
    early, late = days[:, 500:508].mean(axis=1), days[:, 535:555].mean(axis=1)
    week = np.arange(21) % 7 < 5
    assert late[week] / early[week] == pytest.approx(10, rel=0.2)
    assert late[~week] / early[~week] == pytest.approx(1, rel=0.2)


def test_the_mix_moves_at_constant_tokens():
    _, _, inputs, outputs = generated.totals("mix", 1).columns
    both = (inputs + outputs).reshape(14, 24, 60).mean(axis=(0, 2))
    assert both == pytest.approx(both.mean(), rel=0.05)
    share = (inputs / (inputs + outputs)).reshape(14, 24, 60)[:, :, 30].mean(axis=0)
    assert share.min() < 0.6 < 0.85 < share.max()


def test_bursts_come_out_of_silence_within_45_seconds():
    rates = generated.totals("bursts", 1).columns[1] / 15
    full = rates > 90
    begins = np.flatnonzero(full[1:] & ~full[:-1]) + 1
    assert len(begins) > 20
    assert all(rates[max(0, k - 3)] == 0 for k in begins[1:])


def test_generated_loads_are_drawn_in_parts_and_told_by_name():
    trace = load("generated:flat", 0.5, 1, 3600.0, 7200.0)
    assert len(trace) == pytest.approx(0.5 * 40 * 3600, rel=0.02)
    assert trace.input_tokens.mean() == pytest.approx(1200, rel=0.05)
    with pytest.raises(ValueError, match="generated:no: expected one of generated:office-day"):
        load("generated:no")


# --- bursty clients -------------------------------------------------------------------------------------------------


@pytest.fixture
def clients(tmp_path):
    """A calm client and a bursty one at five requests a second each, for 20 minutes."""
    path = tmp_path / "mine-clients600s.csv.gz"
    rows = [f"{t},{name},5,{cv},{tokens},100" for t in (0, 600) for name, cv, tokens in (("a", 1, 500), ("b", 8, 900))]
    rows.append("0,c,100,1,,")
    with gzip.open(path, "wt") as file:
        file.write(",".join(COLUMNS) + "\n" + "\n".join(rows) + "\n")
    return tmp_path / "mine-agg600s.csv.gz"


def test_clients_are_as_bursty_as_they_are_said_to_be(clients):
    traces = [load(clients, 2.0, seed, 0.0, 1200.0, bursty_clients=True) for seed in range(12)]
    counts = [len(trace) for trace in traces]
    assert np.mean(counts) == pytest.approx(2 * 10 * 1200, rel=0.08), "clients without lengths are left out"
    per_second = np.concatenate([np.bincount(trace.arrival_seconds.astype(int), minlength=1200) for trace in traces])
    assert per_second.var() / per_second.mean() > 5
    assert np.mean([trace.input_tokens.mean() for trace in traces]) == pytest.approx(700, rel=0.1)


def test_a_part_of_the_clients_requests_has_bursts_as_much_smaller(clients):
    whole, tenth = (
        np.concatenate(
            [
                np.bincount(trace.arrival_seconds.astype(int) // 10, minlength=120)
                for trace in (load(clients, scale, seed, 0.0, 1200.0, bursty_clients=True) for seed in range(20))
            ]
        )
        for scale in (1.0, 0.1)
    )
    assert tenth.mean() == pytest.approx(0.1 * whole.mean(), rel=0.1)
    assert tenth.var() / tenth.mean() - 1 == pytest.approx(0.1 * (whole.var() / whole.mean() - 1), rel=0.3)


def test_a_trace_without_clients_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"world bursty: .* has no file of clients"):
        clients_file(tmp_path / "azure.csv.gz")


def test_requests_alone_get_the_lengths_of_another_day_at_the_same_time(totals, tmp_path):
    requests, out = tmp_path / "requests.csv.gz", tmp_path / "out.csv.gz"
    with gzip.open(requests, "wt") as file:
        file.write("t_s,requests\n0,7\n86400,10\n90000,0\n")
    assert lengths_of.main([str(requests), str(totals), str(out)]) == 0
    with gzip.open(out, "rt") as file:
        assert file.read().split() == [
            "t_s,requests,input_tokens,output_tokens", "0,7,7000.0,700.0", "86400,10,10000.0,1000.0", "90000,0,0.0,0.0",
        ]  # fmt: skip
    assert lengths_of.main([str(totals), str(totals), str(out)]) == 2
    assert lengths_of.main([]) == 2
