"""`dopd doctor`: whether the operator can do its work here, a line for each check, with what to do where it can not.

In the operator's own container it asks with the settings and the rights of the operator:
`kubectl exec -n dopd-system deploy/dopd -- dopd doctor`. Elsewhere it takes KUBECONFIG and the flags.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import click

from dopd.api.text import one_line
from dopd.cli import installation
from dopd.cli.arguments import NAMESPACES, namespaces, object_name, option
from dopd.cli.clusters import cluster_options, connect
from dopd.cli.errors import DONE, FAILED, Failed, Refused
from dopd.cli.output import format_option, painted, show, structured
from dopd.cli.prometheus_flags import connection_settings, prometheus_options
from dopd.cluster import Kubernetes
from dopd.cluster.client import in_cluster, own_namespace
from dopd.reconcile.selfcheck import check_resources
from dopd.telemetry.connection import Connector
from dopd.telemetry.selfcheck import Check, Verdict

_STYLES: dict[Verdict, dict[str, Any]] = {
    Verdict.OK: {"fg": "green"},
    Verdict.FAIL: {"fg": "red"},
    Verdict.SKIPPED: {"dim": True},
}


@click.command("doctor", help=__doc__)
@option(
    "-n",
    "--namespace",
    of=object_name,
    metavar="NAMESPACE",
    multiple=True,
    help=f"check the resources of this namespace (may be repeated); of all if absent [{NAMESPACES}]",
)
@option(
    "--lease-name", of=object_name, metavar="NAME", default="dopd", envvar="DOPD_LEASE_NAME", help="[DOPD_LEASE_NAME]"
)
@option(
    "--lease-namespace",
    of=object_name,
    metavar="NAMESPACE",
    default=lambda: own_namespace("") or None,
    envvar="DOPD_LEASE_NAMESPACE",
    help="where the operator runs; looked for if absent [DOPD_LEASE_NAMESPACE]",
)
@click.option("-q", "--quiet", is_flag=True, help="show only what failed")
@format_option("table", "json", "yaml")
@cluster_options
@prometheus_options
def command(**given: Any) -> int:
    """The flags; as `dopd run` has them, with the same environment variables."""
    return call(SimpleNamespace(**given))


def call(options: SimpleNamespace) -> int:
    """Check, and print as it goes; 0 if nothing failed, 1 if something did, raises where it could not begin."""
    try:
        connector, options.namespace = Connector(connection_settings(options)), namespaces(options.namespace)
        return asyncio.run(_report(options, connector))
    except ValueError as error:
        raise Refused(str(error)) from error
    except RuntimeError as error:
        raise Failed(str(error)) from error


async def _report(options: SimpleNamespace, connector: Connector) -> int:
    kubernetes = await connect(options)
    counts = dict.fromkeys(Verdict, 0)
    shown: list[Check] = []
    try:
        async for check in _checks(kubernetes, options, connector):
            counts[check.verdict] += 1
            if check.failed or not options.quiet:
                shown.append(check)
                if options.form == "table":
                    print(line(check), flush=True)
    finally:
        await kubernetes.close()
    if options.form != "table":
        found = [{**asdict(check), "verdict": check.verdict.name.lower()} for check in shown]
        show(structured(found, options.form).splitlines())
        return FAILED if counts[Verdict.FAIL] else DONE
    print(f"{counts[Verdict.OK]} well, {counts[Verdict.FAIL]} failed, {counts[Verdict.SKIPPED]} not applicable")
    return FAILED if counts[Verdict.FAIL] else DONE


async def _checks(kubernetes: Kubernetes, options: SimpleNamespace, connector: Connector) -> AsyncIterator[Check]:
    cluster = await installation.check_cluster(kubernetes)
    yield cluster
    if cluster.failed:
        return
    async for check in installation.check_definitions(kubernetes):
        yield check
    lease = await installation.find_lease(kubernetes, options.lease_namespace or "", options.lease_name)
    yield await installation.check_lease(kubernetes, lease, options.lease_name)
    shards = await installation.find_shards(kubernetes, lease)
    if (of_shards := await installation.check_shards(kubernetes, lease, shards)) is not None:
        yield of_shards
    account = None if in_cluster() else await installation.service_account(kubernetes, lease, shards)
    yield await installation.check_rights(kubernetes, options.namespace, lease, account)
    async for check in check_resources(kubernetes, options.namespace, connector):
        yield check


def line(check: Check) -> str:
    """A check as a line: verdict, what was found, what was expected, the fix."""
    return f"{painted(f'{check.verdict:<4}', **_STYLES[check.verdict])} {one_line(str(check))}"
