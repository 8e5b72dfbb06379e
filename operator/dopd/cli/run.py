"""`dopd run`: the operator itself."""

import asyncio
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from dopd.cli.arguments import NAMESPACES, choice, namespaces, number, object_name, option, port, whole
from dopd.cli.log_lines import log_to_stderr
from dopd.cli.prometheus_flags import connection_settings, prometheus_options
from dopd.cluster.election import LeaseLost
from dopd.reconcile.runtime import Options, run

LOG_FORMATS = ("text", "json")
MOST_SHARDS = 64
"""Each shard's Lease is renewed 7.5 times in its duration: with 15 s and 64 shards, 32 writes a second."""


def shards(text: str) -> int:
    """A number of shards.

    Raises:
        ValueError: it is none.
    """
    many = whole(text)
    if not 1 <= many <= MOST_SHARDS:
        raise ValueError(f"{text}: expected a whole number from 1 to {MOST_SHARDS}")
    return many


@click.command("run", help=__doc__)
@option(
    "--namespace",
    of=object_name,
    metavar="NAMESPACE",
    multiple=True,
    help=f"watch this namespace (may be repeated); all if absent [{NAMESPACES}, comma-separated]",
)
@option(
    "--lease-name",
    of=object_name,
    metavar="NAME",
    default="dopd",
    envvar="DOPD_LEASE_NAME",
    help="Lease of the active instance [DOPD_LEASE_NAME]",
)
@option(
    "--lease-namespace",
    of=object_name,
    metavar="NAMESPACE",
    envvar="DOPD_LEASE_NAMESPACE",
    help="its namespace; ours if absent [DOPD_LEASE_NAMESPACE]",
)
@option(
    "--lease-seconds",
    of=number(2, 300),
    metavar="SECONDS",
    default="15",
    envvar="DOPD_LEASE_SECONDS",
    help="how long a silent leader keeps the Lease, 2 to 300 [DOPD_LEASE_SECONDS]",
)
@option(
    "--shards",
    of=shards,
    metavar="N",
    default="1",
    envvar="DOPD_SHARDS",
    help=f"divide resources into N shards between all instances, each with a Lease; 1: one instance acts for all,"
    f" at most {MOST_SHARDS} [DOPD_SHARDS]",
)
@option(
    "--http-port",
    of=port,
    metavar="PORT",
    default="8080",
    envvar="DOPD_HTTP_PORT",
    help="health and metrics; 0 for none [DOPD_HTTP_PORT]",
)
@choice(
    "--log-format",
    among=LOG_FORMATS,
    default="text",
    envvar="DOPD_LOG_FORMAT",
    help="[DOPD_LOG_FORMAT]",
)
@option(
    "--record-folder",
    of=Path,
    metavar="FOLDER",
    envvar="DOPD_RECORD_FOLDER",
    help="write down what each resource's autoscaler is told and decides, to be replayed [DOPD_RECORD_FOLDER]",
)
@click.option("--verbose", is_flag=True, help="log requests, too")
@prometheus_options
def command(**given: Any) -> int:
    """The flags; each has an environment variable, for the chart."""
    return call(SimpleNamespace(**given))


def call(options: SimpleNamespace) -> int:
    """Run until stopped."""
    try:
        prometheus, watched = connection_settings(options), namespaces(options.namespace)
    except ValueError as error:
        print(f"dopd: {error}", file=sys.stderr)
        return 2
    if options.record_folder is not None and not options.record_folder.is_dir():
        print(f"dopd: --record-folder {options.record_folder}: expected a folder that exists; make it", file=sys.stderr)
        return 2
    log_to_stderr(options.log_format, verbose=options.verbose)
    try:
        asyncio.run(
            run(
                Options(
                    namespaces=watched,
                    prometheus=prometheus,
                    lease_name=options.lease_name,
                    lease_namespace=options.lease_namespace or "",
                    lease_seconds=options.lease_seconds,
                    shards=options.shards,
                    http_port=options.http_port,
                    record_folder=options.record_folder,
                )
            )
        )
    except (LeaseLost, RuntimeError, OSError) as error:
        print(f"dopd: {error}", file=sys.stderr)
        return 1
    return 0
