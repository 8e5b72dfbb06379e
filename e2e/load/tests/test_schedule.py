import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.load import Arrival, Schedule, TraceError, read_trace

TEXT = "arrival_s,input_tokens,output_tokens\n10.5,100,20\n12,300,1\n"


@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())], ids=["plain", "gzip"])
def test_a_trace_is_read_from_its_first_request_on(tmp_path: Path, pack: Callable[[str], bytes]) -> None:
    path = tmp_path / "trace"
    path.write_bytes(pack(TEXT))
    assert read_trace(path).arrivals == (Arrival(0.0, 100, 20), Arrival(1.5, 300, 1))


def test_further_columns_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("output_tokens,arrival_s,hash_ids,input_tokens\n7,0,1 2 3,5\n")
    assert read_trace(path).arrivals == (Arrival(0.0, 5, 7),)


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffTIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n2023-11-16 18:15:48.5,396,109\n",
        '{"timestamp": 1700000000000, "input_length": 374, "output_length": 44}\n'
        '{"timestamp": 1700000002500, "input_length": 396, "output_length": 109}\n',
        "arrival_s,input_tokens,output_tokens\n12.5,396,109\n10,374,44\n",
    ],
)
def test_what_the_replay_reads_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    assert read_trace(path).arrivals == (Arrival(0.0, 374, 44), Arrival(2.5, 396, 109))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"t,in,out\n1,2,3\n", ["columns t, in, out", "expected arrival_s, input_tokens, output_tokens"]),
        (TEXT.encode() + b"13,many,5\n", ["line 4", "input_tokens", "'many'", "expected a number"]),
        (TEXT.encode() + b"13,5\n", ["line 4", "2 cells"]),
        (b"arrival_s,input_tokens,output_tokens\n", ["no row below its header"]),
        (b"\x1f\x8bbroken", ["not a readable file"]),
        (b"\xff\xfe\x00", ["not a readable file"]),
        (gzip.compress(b"arrival_s,input_tokens,output_tokens\n" + b" " * 2**22), ["line 2", "longer than"]),
    ],
)
def test_a_bad_file_is_refused_with_what_was_expected(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(content)
    with pytest.raises(TraceError) as refused:
        read_trace(path)
    assert all(word in str(refused.value) for word in [f"trace {path}", *words])


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="trace: No such file or directory; expected the path of a trace"):
        read_trace(tmp_path / "trace")


def test_a_window_starts_at_zero_and_excludes_its_end() -> None:
    schedule = Schedule.steady(requests_per_second=2, seconds=10, input_tokens=5, output_tokens=5)
    window = schedule.window(3.0, 1.0)
    assert [arrival.at_seconds for arrival in window] == [0.0, 0.5]


def test_bounds_on_count_and_time() -> None:
    schedule = Schedule.steady(requests_per_second=1, seconds=10, input_tokens=5, output_tokens=5)
    assert len(schedule.at_most(requests=3)) == 3
    assert schedule.at_most(seconds=4).seconds == 4
    assert len(schedule.at_most()) == 10


@given(st.floats(0.1, 50), st.integers(1, 50))
def test_compression_keeps_every_request_and_divides_time(speedup: float, count: int) -> None:
    schedule = Schedule(tuple(Arrival(float(i), 10 + i, 20) for i in range(count)))
    faster = schedule.compressed(speedup)
    assert [a.input_tokens for a in faster] == [a.input_tokens for a in schedule]
    assert faster.seconds == pytest.approx(schedule.seconds / speedup)
    assert faster.speedup == speedup


@given(st.floats(0.05, 5), st.integers(0, 1000))
def test_a_rate_scale_changes_the_density_and_not_the_span(factor: float, seed: int) -> None:
    schedule = Schedule.steady(requests_per_second=10, seconds=100, input_tokens=5, output_tokens=5)
    scaled = schedule.scaled(factor, seed)
    assert abs(len(scaled) - 1000 * factor) <= 200
    assert scaled == schedule.scaled(factor, seed)
    times = [arrival.at_seconds for arrival in scaled]
    assert times == sorted(times)
    assert 0 <= scaled.seconds <= schedule.seconds


@pytest.mark.parametrize("change", [lambda s: s.scaled(0), lambda s: s.compressed(-1)])
def test_factors_must_be_positive(change: Callable[[Schedule], Schedule]) -> None:
    with pytest.raises(ValueError, match="greater than zero"):
        change(Schedule(()))


def test_a_lead_in_rises_from_nothing_to_the_load_that_it_leads_into() -> None:
    load = Schedule.steady(requests_per_second=50, seconds=60, input_tokens=10, output_tokens=5)
    led_in = load.led_in(20.0)
    assert [a.at_seconds for a in led_in.window(20.0)] == pytest.approx([a.at_seconds for a in load])
    rates = [len(led_in.window(start, 5.0)) / 5.0 for start in (0.0, 5.0, 10.0, 15.0)]
    assert rates == pytest.approx([50 / 8, 3 * 50 / 8, 5 * 50 / 8, 7 * 50 / 8], abs=5.0)
    assert led_in == load.led_in(20.0)
