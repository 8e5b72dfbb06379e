"""`python -m e2e.sglang`: install SGLang, run real engines until Ctrl-C, test or record what they show."""

import argparse
import asyncio
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from dopd.api.names import Role
from e2e.cluster import versions
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import REPOSITORY
from e2e.cluster.steps import say
from e2e.sglang.batch import main as batch_table
from e2e.sglang.engines import start_engine, start_gateway, start_pair
from e2e.sglang.fleet import Fleet
from e2e.sglang.install import gateway_command, sglang_python
from e2e.sglang.model import model_folder
from e2e.sglang.order import main as order_table
from e2e.sglang.record import read, replace_table, table
from e2e.sglang.surface import Target, exercise_pair, exercise_regular, note, write

_ROLES = {"regular": None, "prefill": Role.PREFILL, "decode": Role.DECODE}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m e2e.sglang", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="SGLang, the gateway and the tiny model, into the cache")
    up = commands.add_parser("up", help="run engines on free ports of 127.0.0.1 until Ctrl-C")
    up.add_argument("what", nargs="*", choices=["pair", *_ROLES], default=["pair"], help="[pair, with a gateway]")
    up.add_argument("--flag", action="append", default=[], help="a further SGLang flag for all, such as --flag=--x=1")
    test = commands.add_parser("test", help="conformance of real and simulated engines; writes docs/conformance.md")
    test.add_argument("--no-table", action="store_true", help="leave the page as it is")
    commands.add_parser("record", help="note what real engines show, for the tests of the simulator")
    order = commands.add_parser("order", help="what the order of prompts is worth in a real engine")
    order.add_argument("--repetitions", type=int, default=3)
    batch = commands.add_parser("batch", help="what online prompts lose by a batch in a real engine")
    batch.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    try:
        if arguments.command == "install":
            return _install()
        if arguments.command == "test":
            return _test(write_table=not arguments.no_table)
        if arguments.command == "order":
            return order_table(arguments.repetitions)
        if arguments.command == "batch":
            return batch_table(arguments.repetitions)
        if arguments.command == "record":
            return asyncio.run(_record())
        return _up(arguments.what, arguments.flag)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _install() -> int:
    start = time.monotonic()
    python = sglang_python()
    gateway_command()
    say(f"SGLang {versions.SGLANG}: {python}, model {model_folder()} ({time.monotonic() - start:.0f} s)")
    return 0


def _up(what: list[str], flags: list[str]) -> int:
    signal.signal(signal.SIGTERM, _end)
    with Fleet() as fleet:
        servers = [start_engine(fleet, _ROLES[each], *flags).server for each in what if each != "pair"]
        if "pair" in what:
            pair = start_pair(fleet, *flags)
            servers += [pair.prefill.server, pair.decode.server, start_gateway(fleet, pair)]
        fleet.wait_until_ready()
        for server in servers:
            print(f"{server.name} {server.url} pid {server.pid} log {server.log}", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            say("ending")
    return 0


def _test(*, write_table: bool) -> int:
    """Run the suites one after the other, so that no more engines run than one needs."""
    suites = (
        ["worker_images/simulator/tests/conformance", "--engines=both"],
        ["e2e/sglang/tests/engines"],
    )
    with tempfile.TemporaryDirectory(prefix="dopd-record-") as folder:
        records = [Path(folder) / f"{place}.json" for place in range(len(suites))]
        codes = [
            _pytest("-p", "e2e.sglang.record", f"--record={record}", *suite)
            for suite, record in zip(suites, records, strict=True)
        ]
        # The plugin has no simulated counterpart, so no row in the table.
        codes.append(_pytest("e2e/sglang/tests/test_plugin.py", "e2e/sglang/tests/test_operator_order.py"))
        if write_table and not any(codes):
            page = REPOSITORY / "docs" / "conformance.md"
            page.write_text(replace_table(page.read_text(), table(read(*records), versions.SGLANG)))
    return max(codes)


async def _record() -> int:
    """Note what a regular engine and a pair show after the same requests, each freshly started."""
    with Fleet() as fleet:
        pair, regular = start_pair(fleet), start_engine(fleet, None)
        fleet.wait_until_ready()
        engines = {
            "regular": Target(regular.url),
            "prefill": Target(pair.prefill.url, pair.prefill.bootstrap_port),
            "decode": Target(pair.decode.url),
        }
        async with aiohttp.ClientSession() as http:
            await exercise_regular(http, engines["regular"])
            await exercise_pair(http, engines["prefill"], engines["decode"])
            for kind, engine in engines.items():
                say(f"{kind}: {write(kind, await note(http, engine))}")
    return 0


def _pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=REPOSITORY, check=False).returncode


def _end(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would cut the ending short
    sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
