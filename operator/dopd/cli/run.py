"""`dopd run`: the operator itself."""

import argparse
import asyncio
import json
import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from dopd.api.text import one_line
from dopd.cli.arguments import NAMESPACES, namespaces, number, object_name, one_of, port
from dopd.cli.prometheus_flags import add_prometheus_arguments, connection_settings
from dopd.cluster.election import LeaseLost
from dopd.reconcile.runtime import Options, run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags; each has an environment variable, for the chart."""
    env = os.environ.get
    parser.add_argument(
        "--namespace",
        action="append",
        type=object_name,
        help=f"watch this namespace (may be repeated); all if absent [{NAMESPACES}, comma-separated]",
    )
    parser.add_argument(
        "--lease-name",
        type=object_name,
        default=env("DOPD_LEASE_NAME") or "dopd",
        help="Lease of the active instance [DOPD_LEASE_NAME]",
    )
    parser.add_argument(
        "--lease-namespace",
        type=object_name,
        default=env("DOPD_LEASE_NAMESPACE") or None,
        help="its namespace; ours if absent [DOPD_LEASE_NAMESPACE]",
    )
    parser.add_argument(
        "--lease-seconds",
        type=number(2, 300),
        default=env("DOPD_LEASE_SECONDS") or "15",
        help="how long a silent leader keeps the Lease, 2 to 300 [DOPD_LEASE_SECONDS]",
    )
    parser.add_argument(
        "--http-port",
        type=port,
        default=env("DOPD_HTTP_PORT") or "8080",
        help="health and metrics; 0 for none [DOPD_HTTP_PORT]",
    )
    parser.add_argument(
        "--log-format",
        type=one_of(("text", "json")),
        default=env("DOPD_LOG_FORMAT") or "text",
        metavar="{text,json}",
        help="[DOPD_LOG_FORMAT]",
    )
    parser.add_argument(
        "--record-folder",
        type=Path,
        default=env("DOPD_RECORD_FOLDER") or None,
        metavar="FOLDER",
        help="write down what each resource's autoscaler is told and decides, to be replayed [DOPD_RECORD_FOLDER]",
    )
    parser.add_argument("--verbose", action="store_true", help="log requests, too")
    add_prometheus_arguments(parser)


def call(options: argparse.Namespace) -> int:
    """Run until stopped."""
    try:
        prometheus, watched = connection_settings(options), namespaces(options.namespace)
    except ValueError as error:
        print(f"dopd: {error}", file=sys.stderr)
        return 2
    if options.record_folder is not None and not options.record_folder.is_dir():
        print(f"dopd: --record-folder {options.record_folder}: expected a folder that exists; make it", file=sys.stderr)
        return 2
    _log_to_stderr(options.log_format, options.verbose)
    try:
        asyncio.run(
            run(
                Options(
                    namespaces=watched,
                    prometheus=prometheus,
                    lease_name=options.lease_name,
                    lease_namespace=options.lease_namespace or "",
                    lease_seconds=options.lease_seconds,
                    http_port=options.http_port,
                    record_folder=options.record_folder,
                )
            )
        )
    except (LeaseLost, RuntimeError, OSError) as error:
        print(f"dopd: {error}", file=sys.stderr)
        return 1
    return 0


class _TextLines(logging.Formatter):
    """Messages repeat servers and resources: none of them begins a line that looks like another record."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _log_to_stderr(log_format: str, verbose: bool) -> None:
    handler = logging.StreamHandler()
    text = _TextLines("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(_JsonLines() if log_format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if not verbose:
        for noisy in ("httpx", "aiohttp.access"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
