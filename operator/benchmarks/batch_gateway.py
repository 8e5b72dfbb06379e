"""A batch at the real gateway: SMG 1.13.0 with the classes that the operator writes, one simulated pair behind it.

Twelve batch requests come, then fourteen online ones at once. Says who was let in, preempted and counted as what:

PYTHONPATH=operator python operator/benchmarks/batch_gateway.py PATH-OF-SMG
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp

from dopd.api.scheduling import Batch
from dopd.workloads.batch import priority_classes

HOST, GATEWAY, METRICS = "127.0.0.1", 41010, 41011
PREFILL, DECODE, BOOTSTRAP = 41000, 41001, 41998
SLOTS, SLOT_SHARE = 8, 0.25
BY_PRIORITY = ["--enable-priority-scheduling", "--disable-priority-preemption", "--default-priority-value", "0"]
WAIT_SECONDS = 120.0


def engine(role: str, port: int, bootstrap: int, *flags: str) -> list[str]:
    """Command of a simulated engine."""
    sizes = ["--max-running-requests", str(SLOTS), "--sim-startup-seconds", "0", "--sim-output-tokens", "4000"]
    ports = ["--port", str(port), "--disaggregation-bootstrap-port", str(bootstrap)]
    start = [sys.executable, "-m", "dopd_simulator", "--model-path", "m", "--enable-metrics"]
    return [*start, "--disaggregation-mode", role, *ports, *sizes, *flags]


def gateway(smg: str, classes: Path) -> list[str]:
    """Command of the gateway."""
    workers = ["--prefill", f"http://{HOST}:{PREFILL}", str(BOOTSTRAP), "--decode", f"http://{HOST}:{DECODE}"]
    policies = ["--prefill-policy", "round_robin", "--decode-policy", "round_robin"]
    ports = ["--host", HOST, "--port", str(GATEWAY), "--prometheus-host", HOST, "--prometheus-port", str(METRICS)]
    priorities = ["--priority-scheduler-enabled", "--priority-scheduler-config", str(classes)]
    quiet = ["--disable-tokenizer-autoload", "--log-level", "warn"]
    return [smg, "launch", "--pd-disaggregation", *ports, *workers, *policies, *priorities, *quiet]


async def ask(client: aiohttp.ClientSession, batch: bool, tokens: int) -> tuple[str, float]:
    """One whole answer: what came of it, and after how many seconds."""
    message = {"role": "user", "content": "hello " * 50}
    body = {"model": "m", "messages": [message], "max_tokens": tokens, "ignore_eos": True}
    headers = {"X-SMG-Priority": "bulk"} if batch else {}
    began = time.monotonic()
    try:
        url = f"http://{HOST}:{GATEWAY}/v1/chat/completions"
        async with client.post(url, json=body | ({"priority": -1} if batch else {}), headers=headers) as answer:
            await answer.read()
            came = str(answer.status)
    except aiohttp.ClientError as error:
        came = type(error).__name__
    return came, time.monotonic() - began


async def metrics(client: aiohttp.ClientSession, port: int, *names: str) -> list[str]:
    """Lines of a /metrics page."""
    async with client.get(f"http://{HOST}:{port}/metrics") as answer:
        return [line for line in (await answer.text()).splitlines() if line.startswith(names)]


async def drive() -> None:
    """Send all, and print what came."""
    timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as client:
        await until_ready(client)
        bulk = [asyncio.create_task(ask(client, True, 600)) for _ in range(12)]
        await asyncio.sleep(2)
        let_in = await metrics(client, METRICS, "smg_router_requests_total")
        print(f"of 12 batch requests, with {2 * SLOTS} slots and slotShare {SLOT_SHARE:g}, were let in: {let_in}")
        online = [asyncio.create_task(ask(client, False, 60)) for _ in range(14)]
        for name, tasks in (("online", online), ("batch", bulk)):
            answers = await asyncio.gather(*tasks)
            longest = max(seconds for _, seconds in answers)
            print(f"{name}: {dict(Counter(came for came, _ in answers))}, the last after {longest:.1f} s")
        print(*await metrics(client, METRICS, "smg_scheduler_admit", "smg_scheduler_preemption"), sep="\n")
        print(*await metrics(client, DECODE, "sglang:generation_tokens_histogram_count"), sep="\n")


async def until_ready(client: aiohttp.ClientSession) -> None:
    """Until the gateway knows both workers."""
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        try:
            async with client.get(f"http://{HOST}:{GATEWAY}/readiness") as answer:
                if answer.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.5)
    raise SystemExit("batch_gateway: the gateway is not ready; is its path right?")


def main() -> None:
    """Run all of it."""
    with tempfile.TemporaryDirectory() as folder:
        classes = Path(folder) / "classes.yaml"
        classes.write_text(json.dumps(priority_classes(Batch(slot_share=SLOT_SHARE), 1)))
        commands = (
            engine("prefill", PREFILL, BOOTSTRAP),
            engine("decode", DECODE, BOOTSTRAP + 1, *BY_PRIORITY),
            gateway(sys.argv[1], classes),
        )
        processes = [subprocess.Popen(command) for command in commands]
        try:
            asyncio.run(drive())
        finally:
            for process in processes:
                process.kill()


if __name__ == "__main__":
    main()
