"""Kinds of arguments that several commands take, for the `type` of argparse.

argparse converts a default that is a string as it does what is typed, so a default from an environment variable is
given as its text, and what is wrong with it is told in the same way.
"""

import argparse
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from dopd.api.base import DOMAIN

NAMESPACES = "DOPD_NAMESPACES"
"""Variable with the namespaces that are watched, comma-separated."""


def output_file(text: str) -> Path:
    """A file that can be written in the end: who mistypes its folder is told before the run, not after it.

    Raises:
        argparse.ArgumentTypeError: it can not; the value and what is expected.
    """
    path = Path(text)
    folder = path.absolute().parent
    writable = path.is_file() and os.access(path, os.W_OK)
    creatable = not path.exists() and folder.is_dir() and os.access(folder, os.W_OK)
    if not writable and not creatable:
        raise argparse.ArgumentTypeError(f"{text}: expected a file in a folder that exists and can be written to")
    return path


def number(least: float, most: float) -> Callable[[str], float]:
    """Numbers between two; for the `type` of an argument."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text}: expected a number from {least:g} to {most:g}")
        return value

    return convert


def port(text: str) -> int:
    """A TCP port, or 0.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text}: expected a port from 0 to 65535")
    return int(text)


def object_name(text: str) -> str:
    """Name of a Kubernetes object, or of a namespace.

    Raises:
        argparse.ArgumentTypeError: it can not be one.
    """
    if len(text) > 253 or not re.fullmatch(DOMAIN, text):
        raise argparse.ArgumentTypeError(f"{text}: expected a name of lower-case letters, digits and '-', such as dopd")
    return text


def word(longest: int) -> Callable[[str], str]:
    """Text that is not empty and not too long for its field; for the `type` of an argument."""

    def convert(text: str) -> str:
        if not 0 < len(text.strip()) <= longest:
            raise argparse.ArgumentTypeError(f"{text}: expected 1 to {longest} characters")
        return text

    return convert


def one_of(values: Iterable[str]) -> Callable[[str], str]:
    """One of some words; argparse does not hold a default against its `choices`."""
    known = tuple(values)

    def convert(text: str) -> str:
        if text not in known:
            raise argparse.ArgumentTypeError(f"{text}: expected one of {', '.join(known)}")
        return text

    return convert


def namespaces(given: list[str] | None) -> tuple[str, ...]:
    """Namespaces as the flags say, else as the environment does; empty for all.

    Raises:
        ValueError: what the environment says is no list of names.
    """
    told = given or filter(None, (name.strip() for name in os.environ.get(NAMESPACES, "").split(",")))
    try:
        return tuple(dict.fromkeys(map(object_name, told)))
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"{NAMESPACES}: {error}") from None
