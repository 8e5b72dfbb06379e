"""`dopd profile`: where an EngineProfile comes from."""

import argparse

from dopd.cli import profile_estimate, profile_measure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand per origin."""
    ways = parser.add_subparsers(dest="way", required=True, metavar="WAY")
    for name, module, summary in (
        ("estimate", profile_estimate, "from published measurements, without a GPU"),
        ("measure", profile_measure, "from a running prefill and a running decode engine"),
    ):
        way = ways.add_parser(name, help=summary, description=module.__doc__)
        module.add_arguments(way)
        way.set_defaults(way_call=module.call)


def call(args: argparse.Namespace) -> int:
    """Run the chosen way; returns the exit code."""
    code: int = args.way_call(args)
    return code
