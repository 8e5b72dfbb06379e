"""What the options of commands take: converters from text, and how click is told of them.

A converter raises ValueError with the value and what is expected. What an environment variable says goes through the
same converter as what is typed, so what is wrong with it is told in the same way.
"""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from dopd.api.base import DOMAIN

NAMESPACES = "DOPD_NAMESPACES"
"""Variable with the namespaces that are watched, comma-separated."""

F = TypeVar("F", bound=Callable[..., Any] | click.Command)
Converter = Callable[[str], Any]


class Checked(click.ParamType[Any]):
    """A kind of option whose values a converter makes.

    Args:
        convert: makes the value of a text; raises ValueError.
        name: of the kind, as help shows it.
        choices: that completion offers.
    """

    def __init__(self, convert: Converter, name: str, choices: Iterable[str] = ()) -> None:
        self._convert, self.name, self._choices = convert, name.lower(), tuple(choices)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value of a text; what is no text has been made before."""
        if not isinstance(value, str):
            return value
        try:
            return self._convert(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The choices that begin so; names of files where there are none."""
        if self._choices:
            return [CompletionItem(c) for c in self._choices if c.startswith(incomplete)]
        if self.name in ("file", "folder"):
            return [CompletionItem(incomplete, type="dir" if self.name == "folder" else "file")]
        return []


def option(
    *names: str, of: Converter = str, metavar: str = "TEXT", choices: Iterable[str] = (), **attributes: Any
) -> Callable[[F], F]:
    """An option with a value.

    Args:
        names: such as `--json`.
        of: makes the value of a text.
        metavar: what stands for the value in help.
        choices: that completion offers.
        attributes: of `click.option`.
    """
    made: Callable[[F], F] = click.option(*names, type=Checked(of, metavar, choices), metavar=metavar, **attributes)
    return made


def choice(*names: str, among: Iterable[str], of: Converter | None = None, **attributes: Any) -> Callable[[F], F]:
    """An option whose value is one of a few words, all of which help shows and completion offers.

    Args:
        names: such as `--order`.
        among: the words.
        of: makes the value of a word; the word itself if absent.
        attributes: of `click.option`.
    """
    words = tuple(among)
    return option(*names, of=of or one_of(words), metavar="|".join(words), choices=words, **attributes)


def together(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, in the order in which help shows them."""

    def decorate(function: F) -> F:
        for one in reversed(decorators):
            function = one(function)
        return function

    return decorate


def output_file(text: str) -> Path:
    """A file that can be written in the end: who mistypes its folder is told before the run, not after it.

    Raises:
        ValueError: it can not; the value and what is expected.
    """
    path = Path(text)
    folder = path.absolute().parent
    writable = path.is_file() and os.access(path, os.W_OK)
    creatable = not path.exists() and folder.is_dir() and os.access(folder, os.W_OK)
    if not writable and not creatable:
        raise ValueError(f"{text}: expected a file in a folder that exists and can be written to")
    return path


def number(least: float | None = None, most: float | None = None) -> Callable[[str], float]:
    """Numbers between two bounds; any number without."""
    bounds = "" if least is None else f" from {least:g}" + (f" to {most:g}" if most is not None else "")

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{text}: expected a number{bounds}") from None
        if least is not None and not least <= value <= (float("inf") if most is None else most):
            raise ValueError(f"{text}: expected a number{bounds}")
        return value

    return convert


def whole(text: str) -> int:
    """A whole number.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch("[-+]?[0-9]{1,18}", text.strip()):
        raise ValueError(f"{text}: expected a whole number")
    return int(text)


def port(text: str) -> int:
    """A TCP port, or 0.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65535:
        raise ValueError(f"{text}: expected a port from 0 to 65535")
    return int(text)


def object_name(text: str) -> str:
    """Name of a Kubernetes object, or of a namespace.

    Raises:
        ValueError: it can not be one.
    """
    if len(text) > 253 or not re.fullmatch(DOMAIN, text):
        raise ValueError(f"{text}: expected a name of lower-case letters, digits and '-', such as dopd")
    return text


def word(longest: int) -> Callable[[str], str]:
    """Text that is not empty and not too long for its field."""

    def convert(text: str) -> str:
        if not 0 < len(text.strip()) <= longest:
            raise ValueError(f"{text}: expected 1 to {longest} characters")
        return text

    return convert


def one_of(values: Iterable[str]) -> Callable[[str], str]:
    """One of some words."""
    known = tuple(values)

    def convert(text: str) -> str:
        if text not in known:
            raise ValueError(f"{text}: expected one of {', '.join(known)}")
        return text

    return convert


def namespaces(given: Iterable[str] | None) -> tuple[str, ...]:
    """Namespaces as the flags say, else as the environment does; empty for all.

    Raises:
        ValueError: what the environment says is no list of names.
    """
    told = given or filter(None, (name.strip() for name in os.environ.get(NAMESPACES, "").split(",")))
    try:
        return tuple(dict.fromkeys(map(object_name, told)))
    except ValueError as error:
        raise ValueError(f"{NAMESPACES}: {error}") from None
