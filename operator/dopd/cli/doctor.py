"""`dopd doctor`: whether the operator can do its work here, a line for each check, with what to do where it can not.

In the operator's own container it asks with the settings and the rights of the operator:
`kubectl exec -n dopd-system deploy/dopd -- dopd doctor`. Elsewhere it takes KUBECONFIG and the flags.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator

from dopd.api.text import one_line
from dopd.cli import installation
from dopd.cli.arguments import NAMESPACES, namespaces, object_name
from dopd.cli.prometheus_flags import add_prometheus_arguments, connection_settings
from dopd.cluster import Kubernetes
from dopd.cluster.client import in_cluster, own_namespace
from dopd.reconcile.selfcheck import check_resources
from dopd.telemetry.connection import Connector
from dopd.telemetry.selfcheck import Check, Verdict

_COLORS = {Verdict.OK: "\033[32m", Verdict.FAIL: "\033[31m", Verdict.SKIPPED: "\033[2m"}
_PLAIN = "\033[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags; as `dopd run` has them, with the same environment variables."""
    env = os.environ.get
    parser.description = __doc__
    parser.add_argument(
        "-n",
        "--namespace",
        action="append",
        type=object_name,
        help=f"check the resources of this namespace (may be repeated); of all if absent [{NAMESPACES}]",
    )
    parser.add_argument(
        "--lease-name", type=object_name, default=env("DOPD_LEASE_NAME") or "dopd", help="[DOPD_LEASE_NAME]"
    )
    parser.add_argument(
        "--lease-namespace",
        type=object_name,
        default=env("DOPD_LEASE_NAMESPACE") or own_namespace("") or None,
        help="where the operator runs; looked for if absent [DOPD_LEASE_NAMESPACE]",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show only what failed")
    add_prometheus_arguments(parser)


def call(options: argparse.Namespace) -> int:
    """Check, and print as it goes; 0 if nothing failed, 1 if something did, 2 if it could not begin."""
    try:
        connector, options.namespace = Connector(connection_settings(options)), namespaces(options.namespace)
        return asyncio.run(_report(options, connector))
    except (ValueError, RuntimeError) as error:
        print(f"dopd doctor: {error}", file=sys.stderr)
        return 2


async def _report(options: argparse.Namespace, connector: Connector) -> int:
    kubernetes = await Kubernetes.connect()
    counts = dict.fromkeys(Verdict, 0)
    try:
        async for check in _checks(kubernetes, options, connector):
            counts[check.verdict] += 1
            if check.failed or not options.quiet:
                print(_line(check), flush=True)
    finally:
        await kubernetes.close()
    print(f"{counts[Verdict.OK]} well, {counts[Verdict.FAIL]} failed, {counts[Verdict.SKIPPED]} not applicable")
    return 1 if counts[Verdict.FAIL] else 0


async def _checks(kubernetes: Kubernetes, options: argparse.Namespace, connector: Connector) -> AsyncIterator[Check]:
    cluster = await installation.check_cluster(kubernetes)
    yield cluster
    if cluster.failed:
        return
    async for check in installation.check_definitions(kubernetes):
        yield check
    lease = await installation.find_lease(kubernetes, options.lease_namespace or "", options.lease_name)
    yield await installation.check_lease(kubernetes, lease, options.lease_name)
    account = None if in_cluster() else await installation.service_account(kubernetes, lease)
    yield await installation.check_rights(kubernetes, options.namespace, lease, account)
    async for check in check_resources(kubernetes, options.namespace, connector):
        yield check


def _line(check: Check) -> str:
    verdict = f"{check.verdict:<4}"
    if sys.stdout.isatty():
        verdict = f"{_COLORS[check.verdict]}{verdict}{_PLAIN}"
    return f"{verdict} {one_line(str(check))}"
