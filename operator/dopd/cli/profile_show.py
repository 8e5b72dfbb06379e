"""`dopd profile show`: what a profile says, and what one worker of it carries.

PROFILE is a .yaml file, the name of a shipped profile, or of one of the cluster (with -n, of that namespace alone).
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import click

from dopd.cli.clusters import cluster_options, namespace_option
from dopd.cli.errors import DONE, Failed
from dopd.cli.output import columns, facts, format_option, painted, show, structured
from dopd.cli.profiles import Capacity, Named, capacity, lengths_options, named
from dopd.perf import EngineModel

SHOWN_POINTS = 8


@click.command("show", help=__doc__)
@click.argument("profile", metavar="PROFILE")
@lengths_options
@namespace_option
@format_option("table", "json", "yaml")
@cluster_options
def command(**given: Any) -> int:
    """Arguments of `dopd profile show`."""
    options = SimpleNamespace(**given)
    one = named(options, options.profile)
    told = one.readable
    if options.form != "table":
        show(structured(told.model_dump(mode="json", by_alias=True, exclude_none=True), options.form).splitlines())
        return DONE
    try:
        carried = capacity(told, options)
    except ValueError as error:
        raise Failed(f"profile {one.name}: {error}") from error
    show(_lines(one, carried, options))
    return DONE


def _lines(one: Named, carried: Capacity, options: SimpleNamespace) -> Iterator[str]:
    told, engine = one.readable, EngineModel.from_profile(one.readable)
    yield painted(one.name, bold=True) + f" ({one.where})"
    yield from facts(
        [
            ("Model", told.model),
            ("Engine", f"{told.gpus} {told.gpu}" + (f", {told.data_type}" if told.data_type else "")),
            ("Numbers", f"{told.source.origin.value} {told.source.date}: {told.source.description}"),
            ("Correction", f"{told.correction:g} on all times; the times below have it"),
            (
                "KV cache",
                f"{told.decode.kv_tokens} tokens, at most {told.decode.max_running_requests} requests at once",
            ),
            ("Prefill pass", f"{told.prefill.chunk_tokens} tokens at most"),
            (
                "Transfer",
                f"{1000 * told.transfer.base_seconds:g} ms and {told.transfer.tokens_per_second:.3g} tokens/s",
            ),
            (
                "Start",
                f"prefill {told.startup.prefill_seconds:g} s, decode {told.startup.decode_seconds:g} s, until this "
                "cluster's own starts are measured",
            ),
        ]
    )
    yield ""
    yield "Prefill, one prompt alone:"
    yield from columns(
        [
            ["TOKENS", *(f"{tokens:.0f}" for tokens, _ in _some(engine.prefill_curve))],
            ["MS", *(f"{1000 * seconds:.3g}" for _, seconds in _some(engine.prefill_curve))],
        ]
    )
    yield ""
    yield "Decode, ms a token:"
    batches = [batch for batch, _ in engine.itl_curves[0][1]]
    rows = [["CONTEXT \\ BATCH", *(f"{batch:.0f}" for batch in batches)]]
    for context, curve in engine.itl_curves:
        rows.append([f"{context:.0f}", *(f"{1000 * seconds:.3g}" for _, seconds in curve)])
    yield from columns(rows)
    yield ""
    yield (
        f"One worker, for prompts of {options.input_tokens:g} and answers of {options.output_tokens:g} tokens in the "
        f"mean, TTFT {options.slo_ttft:g} s, ITL {1000 * options.slo_itl:g} ms:"
    )
    yield from facts(
        [
            ("  prefill", f"{carried.prompts_per_second:.3g} prompts/s where it always computes"),
            (
                "  decode",
                f"{carried.answers_per_second:.3g} answers/s with {carried.batch_limit} at once, limited by "
                f"{carried.limited_by}",
            ),
        ]
    )
    yield "  dopd plan says how many workers a load needs: queueing comes on top"
    for words in (carried.infeasible, carried.beyond):
        if words:
            yield painted(f"  {words}", fg="yellow")


def _some(curve: tuple[tuple[float, float], ...]) -> list[tuple[float, float]]:
    """Points that tell the course of a curve: the first, the last and some between."""
    if len(curve) <= SHOWN_POINTS:
        return list(curve)
    last = len(curve) - 1
    return [curve[round(last * k / (SHOWN_POINTS - 1))] for k in range(SHOWN_POINTS)]
