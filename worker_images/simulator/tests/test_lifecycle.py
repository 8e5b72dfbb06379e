"""How an engine starts and stops."""

import asyncio
import contextlib
import os
import signal
import socket
import sys

import aiohttp
import pytest

from dopd_simulator.__main__ import main


def long_answer(tokens):
    return {"input_ids": [5], "sampling_params": {"max_new_tokens": tokens, "ignore_eos": True}}


async def until_ready(http, url):
    for _ in range(400):
        with contextlib.suppress(aiohttp.ClientConnectionError):
            async with http.get(f"{url}/ready") as answer:
                if answer.status == 200:
                    return
        await asyncio.sleep(0.02)


async def test_sigterm_fails_the_probes_and_serves_on(simulate):
    engine = await simulate(sim_sigterm_poll_seconds=0.5)
    drained = asyncio.create_task(engine.server.drained())
    running = asyncio.create_task(engine.post("/generate", long_answer(2000)))
    await engine.until(lambda load: load["num_running_reqs"] == 1)
    engine.server.draining.set()
    for probe in ("/ready", "/health", "/ping"):
        assert (await engine.get(probe))[0] == 503
    assert (await engine.post("/generate", long_answer(2)))[0] == 200
    assert not drained.done()
    status, answer = await running
    assert (status, len(answer["output_ids"])) == (200, 2000)
    await drained


async def test_an_unhealthy_engine_leaves_at_once(simulate):
    engine = await simulate(sim_sigterm_poll_seconds=0.5, sim_speedup=100.0)
    engine.server.engine.pause("in_place")
    assert (await engine.get("/health"))[0] == 503  # no output within the time-out
    running = asyncio.create_task(engine.post("/generate", long_answer(2)))
    await asyncio.sleep(0.01)
    engine.server.draining.set()
    await engine.server.drained()
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_healthy_answer_makes_it_healthy_again(simulate):
    engine = await simulate(sim_speedup=100.0)
    engine.server.engine.pause("in_place")
    assert (await engine.get("/health"))[0] == 503
    assert (await engine.get("/ping"))[0] == 503
    engine.server.engine.resume()
    assert (await engine.get("/health"))[0] == 200
    assert (await engine.get("/ready"))[0] == 200


async def test_the_process_starts_serves_and_ends_on_sigterm(unused_tcp_port):
    port = unused_tcp_port
    arguments = [
        "--model-path",
        "m",
        "--port",
        str(port),
        "--sim-startup-seconds",
        "0",
        "--sim-sigterm-poll-seconds",
        "0.1",
    ]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "dopd_simulator", *arguments)
    try:
        async with aiohttp.ClientSession() as http:
            await until_ready(http, f"http://127.0.0.1:{port}")
            body = {"prompt": "hello", "max_tokens": 3}
            async with http.post(f"http://127.0.0.1:{port}/v1/completions", json=body) as answer:
                assert answer.status == 200
        os.kill(process.pid, signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_an_id_outside_the_vocabulary_ends_the_process(unused_tcp_port):
    arguments = ["--model-path", "m", "--port", str(unused_tcp_port), "--sim-startup-seconds", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dopd_simulator", *arguments, "--sim-vocabulary", "1000"
    )
    url = f"http://127.0.0.1:{unused_tcp_port}"
    try:
        async with aiohttp.ClientSession() as http:
            await until_ready(http, url)
            for ids, lives in (([0, 999], True), ([1000], False)):
                with contextlib.nullcontext() if lives else pytest.raises(aiohttp.ClientError):
                    async with http.post(f"{url}/generate", json={"input_ids": ids}) as answer:
                        assert answer.status == 200
        assert await process.wait() == 137
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_an_engine_may_take_its_time_to_leave(simulate):
    engine = await simulate(sim_sigterm_poll_seconds=0.0, sim_exit_seconds=20.0, sim_speedup=100.0)
    engine.server.draining.set()
    leaving = asyncio.create_task(engine.server.drained())
    await asyncio.sleep(0.05)
    assert not leaving.done()
    assert (await engine.post("/generate", long_answer(2)))[0] == 200
    await leaving


def test_a_wrong_flag_is_told_in_one_line(capsys):
    assert main(["--model-path", "m", "--sim-speedup", "-3"]) == 2
    assert capsys.readouterr().err == "dopd-simulator: --sim-speedup -3.0: must be greater than zero\n"


def test_a_taken_port_is_told_in_one_line(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["--model-path", "m", "--port", port, "--sim-startup-seconds", "0"]) == 1
    assert "address already in use" in capsys.readouterr().err


def test_a_missing_profile_is_told_in_one_line(capsys, tmp_path):
    assert main(["--model-path", "m", "--sim-profile", str(tmp_path / "none.yaml")]) == 2
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("seconds", [0.0, 40.0])
async def test_nothing_listens_before_the_start_up_time_is_over(simulate, seconds):
    loop = asyncio.get_running_loop()
    began = loop.time()
    engine = await simulate(sim_startup_seconds=seconds, sim_speedup=100.0)
    assert loop.time() - began >= seconds / 100
    _, text = await engine.get("/metrics")
    (line,) = [each for each in text.splitlines() if 'phase="scheduler_e2e"' in each and "startup_time" in each]
    assert float(line.split()[-1]) >= seconds / 100
