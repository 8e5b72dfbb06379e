import asyncio
import json
from pathlib import Path

import pytest

from e2e.load import BackgroundLoad, Outcome, Result, Schedule
from e2e.load.__main__ import main
from e2e.load.player import play
from e2e.load.tests.conftest import FakeServer

SIX = Schedule.steady(requests_per_second=100, seconds=0.06, input_tokens=4, output_tokens=3)


async def test_every_request_is_sent_though_none_is_answered(server: FakeServer) -> None:
    server.behaviour = "waits"
    results: list[Result] = []
    playing = asyncio.create_task(play(server.target, SIX, on_result=results.append))
    await server.arrived(len(SIX))
    assert results == []
    server.release.set()
    await playing
    assert [result.outcome for result in results] == [Outcome.OK] * 6


async def test_once_stopped_nothing_is_sent_and_what_was_sent_is_waited_for(server: FakeServer) -> None:
    server.behaviour = "waits"
    long = Schedule.steady(requests_per_second=20, seconds=60, input_tokens=4, output_tokens=3)
    load = BackgroundLoad(server.target, long)
    load.start()
    await server.arrived(3)
    stopping = asyncio.create_task(asyncio.to_thread(load.stop))
    await asyncio.sleep(0.2)
    server.release.set()
    results = await stopping
    assert len(results) == len(server.bodies) < 20
    assert load.lost == []
    assert not load.playing


async def test_the_command_writes_results_and_a_summary(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, out = tmp_path / "trace.csv", tmp_path / "results.jsonl"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0,10,5\n1,20,4\n2,20,4\n")
    command = [str(trace), f"--url={server.url}", "--model=tiny", "--speedup=100", "--max-requests=2"]
    objectives = ["--ttft=1000", "--itl=1000", f"--results={out}"]
    assert await asyncio.to_thread(main, [*command, *objectives]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(line["asked_tokens"] for line in lines) == [4, 5]
    summary = json.loads(capsys.readouterr().out)
    assert (summary["requests"], summary["ok"], summary["output_tokens"]) == (2, 2, 9)
    assert (summary["attainment"], summary["speedup"]) == (1.0, 100.0)


async def test_the_command_tells_by_its_status_that_requests_were_lost(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behaviour = "refuses"
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0,10,5\n")
    assert await asyncio.to_thread(main, [str(trace), f"--url={server.url}", "--model=tiny"]) == 1
    assert "no worker" in json.loads(capsys.readouterr().out)["first_error"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--url=http://example.com"], "this machine only"),
        (["--url=http://127.0.0.1:1", "--speedup=0"], "greater than zero"),
    ],
)
def test_what_must_not_be_played_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,input_tokens,output_tokens\n0,10,5\n")
    with pytest.raises(SystemExit) as refused:
        main([str(trace), "--model=tiny", *arguments])
    assert refused.value.code == 2
    assert words in capsys.readouterr().err
