"""What options of the drivers take: converters for argparse, which say what is expected."""

import argparse
from collections.abc import Callable, Collection
from pathlib import Path

from dopd.cli.arguments import output_file
from dopd.cli.errors import did_you_mean


def one_of(names: Collection[str]) -> Callable[[str], str]:
    """A converter that takes one of some names."""

    def convert(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"{text}: expected one of {', '.join(names)}{did_you_mean(text, names)}")
        return text

    return convert


def file_to_write(text: str) -> Path:
    """A file that can be written."""
    try:
        return output_file(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
