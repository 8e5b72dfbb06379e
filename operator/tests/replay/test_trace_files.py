"""Files as they are found: published formats, times of every clock, and what would fill the memory or never end."""

import gzip
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.cli.main import main
from dopd.replay import trace_file
from dopd.replay.trace import Within, load
from dopd.replay.trace_formats import MOST_TOKENS

HEADER = "arrival_s,input_tokens,output_tokens\n"
TOTALS = "t_s,requests,input_tokens,output_tokens\n"
RATES = "t_s,rate_rps_with_tokens,input_tok_per_s,output_tok_per_s\n"

AZURE_2023 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n2023-11-16 18:15:51.2224670,879,55\n"
)
AZURE_2024 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:00.017335+00:00,2399,6\n"
)
BURSTGPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,230,1317,Conversation log\n"
    "118,GPT-4,417,0,417,Conversation log\n"
)
MOONCAKE = "".join(
    json.dumps({"timestamp": at, "input_length": tokens, "output_length": 52, "hash_ids": blocks}) + "\n"
    for at, tokens, blocks in ((0, 1100, [46, 47, 48]), (3000, 1536, [46, 49, 50]), (27482, 600, [51, 52]))
)


@pytest.fixture
def write(tmp_path):
    def write(text, name="trace.csv"):
        path = tmp_path / name
        content = text if isinstance(text, bytes) else text.encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


# --- the number of requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("within", list(Within))
@pytest.mark.parametrize(("rate", "requests"), [(0.024, 2074), (0.0083, 717), (1 / 86400, 1)])
def test_a_low_rate_for_a_day_has_its_requests_whatever_the_interval(write, rate, requests, within):
    for width in (60, 600, 3600):
        rows = "".join(f"{t},{rate},{100 * rate},{10 * rate}\n" for t in range(0, 86400, width))
        trace = load(write(RATES + rows), within=within)
        assert len(trace) == requests
        assert trace.input_tokens.mean() == pytest.approx(100, rel=0.2) or requests == 1


@given(st.lists(st.floats(0, 3), min_size=1, max_size=40).filter(lambda counts: sum(counts) > 1))
def test_parts_of_requests_are_carried_on(tmp_path_factory, counts):
    path = tmp_path_factory.mktemp("totals") / "trace.csv"
    path.write_text(TOTALS + "".join(f"{60 * i},{n!r},{n * 100!r},{n * 10!r}\n" for i, n in enumerate(counts)))
    trace = load(path)
    assert abs(len(trace) - sum(counts)) <= 0.5 + 1e-6
    so_far = np.searchsorted(trace.arrival_seconds, 60.0 * np.arange(1, len(counts) + 1))
    assert np.abs(so_far - np.cumsum(counts)).max() <= 1


# --- times ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "times",
    [
        ["0", "1.5", "4"],
        ["1731000000", "1731000001.5", "1731000004"],
        ["1731000000000", "1731000001500", "1731000004000"],
        ["1731000000000000", "1731000001500000", "1731000004000000"],
        ["1731000000000000000", "1731000001500000000", "1731000004000000000"],
        ["2024-11-07T17:20:00Z", "2024-11-07 17:20:01.5", "2024-11-07T18:20:04+01:00"],
    ],
)
def test_times_of_every_unit_are_understood(write, times):
    trace = load(write(HEADER + "".join(f"{time},100,10\n" for time in times)))
    assert trace.arrival_seconds.tolist() == pytest.approx([0, 1.5, 4], abs=1e-5)


@pytest.mark.parametrize("text", [TOTALS, RATES])
def test_intervals_have_the_same_times(write, text):
    rows = "".join(f"{1731000000000 + 60000 * i},2,200,20\n" for i in range(10))
    trace = load(write(text + rows))
    assert 500 < trace.duration_seconds < 600
    assert len(trace) == (20 if text is TOTALS else 1200)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (
            ["1731000000", "1731000000000"],
            "line 3: arrival_s '1731000000000' beside seconds in line 2; expected one unit",
        ),
        (["1731000000000", "12"], "line 3: arrival_s '12' beside milliseconds since the epoch in line 2"),
        (["0", "2024-11-07T17:20:00Z"], "line 3: arrival_s '2024-11-07T17:20:00Z'; expected seconds of at least 0"),
        (["2024-11-07", "12"], "line 3: arrival_s '12'; expected a date and a time"),
        (["0", "1", "1731000000"], "line 4: arrival_s '1731000000' is 20035 days from others; expected a trace of"),
        (["0", "1e21"], "line 3: arrival_s '1e21'; expected seconds of at least 0 and at most"),
        (["2024-13-07", "12"], "line 2: arrival_s '2024-13-07'; expected seconds of at least 0, or a date and a time"),
        (
            ["5/10/2024 0:00"],
            "line 2: arrival_s '5/10/2024 0:00'; expected seconds of at least 0, or a date and a time",
        ),
    ],
)
def test_a_time_of_another_clock_is_refused_with_its_line(write, times, expected):
    with pytest.raises(ValueError, match=re.escape(expected)):
        load(write(HEADER + "".join(f"{time},100,10\n" for time in times)))


@pytest.mark.parametrize("policy", ["dopd", "static-peak", "oracle", "hpa", "dynamo-sla", "dopd-paper"])
@pytest.mark.parametrize("later", ["", "900,200,20\n"])
def test_requests_that_all_come_at_one_moment_are_replayed(write, policy, later, capsys):
    path = write(HEADER + "7,300,20\n" * 40 + later)
    assert main(["replay", str(path), "--quiet", "--policies", policy]) == 0
    assert policy in capsys.readouterr().out


# --- published formats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gz", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "text", "arrivals", "inputs", "outputs"),
    [
        ("azure2023.csv", AZURE_2023, [0, 4.314579, 4.541877], [374, 396, 879], [44, 109, 55]),
        ("azure2024.csv", AZURE_2024, [0, 0.007405], [2162, 2399], [5, 6]),
        ("burstgpt.csv", BURSTGPT, [0, 40, 113], [472, 1087, 417], [18, 230, 1]),
        ("mooncake.jsonl", MOONCAKE, [0, 3, 27.482], [1100, 1536, 600], [52, 52, 52]),
    ],
)
def test_published_formats_are_read_as_they_are(write, name, text, arrivals, inputs, outputs, gz):
    trace = load(write(text, name + gz))
    assert trace.kind == "requests"
    assert trace.name == name.partition(".")[0]
    assert trace.arrival_seconds.tolist() == pytest.approx(arrivals, abs=1e-5)
    assert trace.input_tokens.tolist() == inputs
    assert trace.output_tokens.tolist() == outputs


def test_mooncake_tells_prefixes(write):
    prefixes = load(write(MOONCAKE, "mooncake.jsonl")).prefixes
    chains = [prefixes.of(request) for request in range(3)]
    assert [len(chain) for chain in chains] == [2, 3, 1]
    assert chains[0][0] == chains[1][0] != chains[2][0]


def test_small_blocks_are_put_together(write):
    """Qwen-Bailian's have 16 tokens, and its times are seconds."""
    first = list(range(100))
    rows = [(0.5, 1700, first), (2.5, 1700, [*first[:40], *range(500, 560)]), (3.5, 511, first[:31])]
    text = "".join(
        json.dumps({"chat_id": n, "timestamp": at, "input_length": size, "output_length": 5, "hash_ids": ids}) + "\n"
        for n, (at, size, ids) in enumerate(rows)
    )
    trace = load(write(text, "qwen.jsonl"))
    assert trace.arrival_seconds.tolist() == [0, 2, 3]
    chains = [trace.prefixes.of(request) for request in range(3)]
    assert [len(chain) for chain in chains] == [3, 3, 0]
    assert chains[0][0] == chains[1][0]
    assert chains[0][1] != chains[1][1]
    assert chains[0][2] != chains[1][2]


# --- hostile and broken files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + HEADER + "0,100,10\n1,100,10\n",
        (HEADER + "0,100,10\n1,100,10\n").replace("\n", "\r\n"),
        "\n\n" + HEADER + "1,100,10\n\n0,100,10",
        ' arrival_s , input_tokens ,output_tokens,model\n0, 100 ,10,"a, b"\n1,100,10,"c\nd"\n',
        '{"arrival_s": 0, "input_tokens": 100, "output_tokens": 10}\n\n'
        '{"output_tokens": 10, "arrival_s": "1", "input_tokens": 100}\n',
    ],
)
def test_what_editors_and_spreadsheets_make_of_a_file_is_read(write, text):
    trace = load(write(text))
    assert trace.arrival_seconds.tolist() == [0, 1]
    assert trace.input_tokens.tolist() == [100, 100]


def test_tokens_of_an_interval_without_a_request_are_of_none(write):
    trace = load(write("t_s,requests,input_tokens,output_tokens\n0,10,1000,100\n60,0,5,5\n120,10,1000,100\n"))
    assert len(trace) == 20
    assert trace.input_tokens.mean() < 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            HEADER + "0,900000000000000,10\n",
            "line 2: input_tokens '900000000000000'; expected a number of tokens of at",
        ),
        (
            HEADER + "0,10,1000001\n",
            "line 2: output_tokens '1000001'; expected a number of tokens of at least 0 and at",
        ),
        (TOTALS + "0,1,100,10\n60,1e15,1e17,1e16\n", "line 3: requests '1e15'; expected a number of requests of at"),
        (
            TOTALS + "0,1,100,10\n60,2,9e14,10\n",
            "line 3: input_tokens '900000000000000' is more than 10,000,000 for each",
        ),
        (
            TOTALS + "0,30000000,100,10\n60,30000000,100,10\n",
            "line 3: requests '30000000' brings the requests above 40,000,000: correct the line, or take a part of it",
        ),
        (
            RATES + "0,1,100,10\n86400,39999999,100,10\n",
            "line 3: rate_rps_with_tokens '39999999' brings the requests above 40,000,000",
        ),
        (HEADER + "0,100,10\n" + HEADER + "1,100,10\n", "line 3: the header stands again; remove the line"),
        (HEADER.replace(",", ";") + "0;100;10\n", "line 1: columns are separated by ';'; expected commas"),
        (HEADER.replace(",", "\t") + "0\t100\t10\n", "line 1: columns are separated by '\\t'; expected commas"),
        ("arrival_s," + HEADER + "0,0,100,10\n", "line 1: column arrival_s stands twice; expected each once"),
        (HEADER, "the trace holds no row below its header"),
        ("\n \n", "the file is empty; expected a header"),
        (b"\x00\x01\x02\x03" * 20, "line 1: not a readable file (binary)"),
        (HEADER.encode() + b"0,\xff,10\n", "line 2: not a readable file (invalid start byte)"),
        (b"PK\x03\x04" + bytes(30), "not a readable file (a zip archive); expected CSV or JSON lines"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4b\n", "not a readable file (a Git LFS pointer)"),
        (HEADER + '0,100,"10\n1,100,10\n', "line 2: output_tokens '10?1,100,10'; expected"),
        (HEADER + "0," + "1" * 200_000 + ",10\n", "line 2: not a readable file (field larger than field limit"),
        (HEADER + "0," + "1" * 1_100_000, "line 2: not a readable file (longer than 1048576 bytes)"),
        ("\x1b[2Jx,y\n1,2\n", "columns ?[2Jx, y; expected arrival_s"),
        ('[{"timestamp": 0}]\n', "line 1: '[{\"timestamp\": 0}]'; expected one JSON object a line"),
        ("{" * 100_000 + "\n", "expected one JSON object a line"),
        (
            '{"timestamp": 0, "input_length": 5, "output_length": 5}\n{"timestamp": 1}\n',
            "line 2: no input_length; complete",
        ),
        (
            '{"timestamp": 0, "input_length": true, "output_length": 5}\n',
            "line 1: input_length 'true'; expected a number",
        ),
        (
            '{"timestamp": 0, "input_length": [1], "output_length": 5}\n',
            "line 1: input_length '[1]'; expected a number",
        ),
        (
            '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1.5]}\n',
            "line 1: hash_ids '[1.5]'; expected whole numbers",
        ),
        (
            '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [99999999999999999999]}\n',
            "line 1: hash_ids '[99999999999999999999]'; expected whole numbers",
        ),
    ],
)
def test_what_can_not_be_a_trace_is_refused_with_its_line(write, text, expected):
    with pytest.raises(ValueError, match=re.escape(expected)) as refused:
        load(write(text))
    assert len(str(refused.value).splitlines()) == 1


def test_more_copies_than_can_be_replayed_are_refused(write):
    path = write(HEADER + "0,100,10\n1,100,10\n")
    with pytest.raises(ValueError, match=r"20000001 copies of 2 requests .* a smaller --rate-scale"):
        load(path, rate_scale=20_000_001)
    with pytest.raises(ValueError, match=r"expected a whole number of copies"):
        load(path, rate_scale=1e300)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b" " * (1 << 27), "line 1: not a readable file (longer than 1048576 bytes)"),
        (b"\n" * (1 << 23), "empty lines; cut the file"),
        (HEADER.encode() + b"0,1,1\n" * (1 << 19), "rows; cut the file"),
    ],
)
def test_a_small_file_that_unzips_to_a_huge_one_is_refused(write, content, expected, monkeypatch):
    monkeypatch.setattr(trace_file, "MOST_REQUESTS", 100_000)
    path = write(content, "bomb.csv.gz")
    assert path.stat().st_size < 200_000
    with pytest.raises(ValueError, match=re.escape(expected)):
        load(path)


def test_bytes_are_counted_after_unzipping(write, monkeypatch):
    monkeypatch.setattr(trace_file, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        load(write(HEADER + "0,100,10\n" * 200, "bomb.csv.gz"))


CELLS = st.one_of(
    st.floats().map(repr),
    st.integers(-(10**25), 10**25).map(str),
    st.sampled_from(
        ["", "0", "1e999", "-0", "nan", "2024-11-07", "2024-11-07T17:20:00Z", "true", '"', "\u0663", "1_0"]
    ),
    st.text(max_size=8),
)


@given(
    st.sampled_from([HEADER, TOTALS, RATES, AZURE_2023, BURSTGPT]),
    st.lists(st.lists(CELLS, min_size=2, max_size=5), max_size=6),
)
def test_any_table_is_a_trace_or_refused_in_one_line(tmp_path_factory, header, rows):
    path = tmp_path_factory.mktemp("any") / "trace.csv"
    body = "\n".join(",".join(cells) for cells in rows)
    path.write_bytes((header.splitlines()[0] + "\n" + body).encode(errors="replace"))
    _check(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["timestamp", "input_length", "output_length", "hash_ids", "chat_id"]), JSON),
        max_size=5,
    )
)
def test_any_lines_of_json_are_a_trace_or_refused_in_one_line(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("any") / "trace.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    _check(path)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_trace_or_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "trace"
    path.write_bytes(content)
    _check(path)


def _check(path):
    try:
        trace = load(path)
    except ValueError as error:
        refusal = str(error)
    else:
        refusal = ""
        assert len(trace) > 0
        assert trace.arrival_seconds[0] >= 0
        assert (np.diff(trace.arrival_seconds) >= 0).all()
        assert math.isfinite(trace.duration_seconds)
        assert 1 <= trace.input_tokens.min() <= trace.input_tokens.max()
        assert trace.output_tokens.min() >= 1
        assert trace.input_tokens.max() <= MOST_TOKENS[0]
        assert trace.output_tokens.max() <= MOST_TOKENS[1]
    assert not refusal or str(path) in refusal
    assert len(refusal.splitlines()) <= 1
