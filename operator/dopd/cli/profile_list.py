"""`dopd profile list`: the EngineProfiles of a namespace, and those that come with dopd.

Without a cluster, the shipped ones alone, which `dopd plan` and `dopd replay` take by name.
"""

import sys
from types import SimpleNamespace
from typing import Any

import click

from dopd.cli import resource
from dopd.cli.clusters import cluster_options, namespace_of, namespace_option
from dopd.cli.errors import DONE, Failed
from dopd.cli.output import columns, format_option, show, structured
from dopd.cli.profiles import Named, all_shipped, of_manifest
from dopd.cluster import Kubernetes, kinds


@click.command("list", help=__doc__)
@click.option("-A", "--all-namespaces", is_flag=True, help="those of all namespaces")
@click.option("--shipped", is_flag=True, help="those that come with dopd alone; needs no cluster")
@namespace_option
@format_option()
@cluster_options
def command(**given: Any) -> int:
    """Arguments of `dopd profile list`."""
    options = SimpleNamespace(**given)
    profiles = all_shipped() if options.shipped else [*_of_cluster(options), *all_shipped()]
    if options.form in ("json", "yaml"):
        show(structured([_content(one) for one in profiles], options.form).splitlines())
        return DONE
    wide = options.form == "wide"
    head = ["WHERE", "NAME", "MODEL", "GPU", "GPUS", "ORIGIN", "DATE"] + ["KV TOKENS", "CORRECTION"] * wide
    show(columns([head, *(_row(one, wide) for one in profiles)]))
    return DONE


def _of_cluster(options: SimpleNamespace) -> list[Named]:
    namespace = None if options.all_namespaces else namespace_of(options)

    async def look(kubernetes: Kubernetes) -> list[dict[str, Any]]:
        return await kubernetes.list(kinds.PROFILE, namespace)

    try:
        return [of_manifest(one) for one in resource.ask(options, look)]
    except Failed as error:
        if options.namespace or options.all_namespaces or options.kubeconfig or options.context:
            raise
        print(f"note: the shipped ones alone, since {error}", file=sys.stderr)
        return []


def _row(one: Named, wide: bool) -> list[str]:
    told = one.profile
    if told is None:
        return [one.where, one.name, f"can not be read: {one.problem}", "-", "-", "-", "-"] + ["-", "-"] * wide
    row = [one.where, one.name, told.model, told.gpu, str(told.gpus), told.source.origin.value, told.source.date]
    return row + [str(told.decode.kv_tokens), f"{told.correction:g}"] * wide


def _content(one: Named) -> dict[str, Any]:
    spec = one.profile.model_dump(mode="json", by_alias=True, exclude_none=True) if one.profile else None
    return {"where": one.where, "name": one.name, "spec": spec, "problem": one.problem}
