"""`dopd run`: the operator itself."""

import argparse
import asyncio
import json
import logging
import os
import sys
from datetime import UTC, datetime

from dopd.cli.prometheus_flags import add_prometheus_arguments, connection_settings
from dopd.cluster.election import LeaseLost
from dopd.reconcile.runtime import Options, run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags; each has an environment variable, for the chart."""
    env = os.environ.get
    parser.add_argument(
        "--namespace",
        action="append",
        default=list(filter(None, env("DOPD_NAMESPACES", "").split(","))),
        help="watch this namespace (may be repeated); all if absent [DOPD_NAMESPACES, comma-separated]",
    )
    parser.add_argument("--lease-name", default=env("DOPD_LEASE_NAME", "dopd"), help="Lease of the active instance")
    parser.add_argument(
        "--lease-namespace", default=env("DOPD_LEASE_NAMESPACE", ""), help="its namespace; ours if absent"
    )
    parser.add_argument(
        "--lease-seconds",
        type=float,
        default=float(env("DOPD_LEASE_SECONDS", "15")),
        help="how long a silent leader keeps the Lease",
    )
    parser.add_argument(
        "--http-port", type=int, default=int(env("DOPD_HTTP_PORT", "8080")), help="health and metrics; 0 for none"
    )
    parser.add_argument("--log-format", choices=("text", "json"), default=env("DOPD_LOG_FORMAT", "text"))
    parser.add_argument("--verbose", action="store_true", help="log requests, too")
    add_prometheus_arguments(parser)


def call(options: argparse.Namespace) -> int:
    """Run until stopped."""
    try:
        prometheus = connection_settings(options)
    except ValueError as error:
        print(f"dopd: {error}", file=sys.stderr)
        return 2
    _log_to_stderr(options.log_format, options.verbose)
    try:
        asyncio.run(
            run(
                Options(
                    namespaces=tuple(options.namespace),
                    prometheus=prometheus,
                    lease_name=options.lease_name,
                    lease_namespace=options.lease_namespace,
                    lease_seconds=options.lease_seconds,
                    http_port=options.http_port,
                )
            )
        )
    except (LeaseLost, RuntimeError) as error:
        print(f"dopd: {error}", file=sys.stderr)
        return 1
    return 0


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
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(_JsonLines() if log_format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if not verbose:
        for noisy in ("httpx", "aiohttp.access"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
