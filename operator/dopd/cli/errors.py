"""What commands end with: exit statuses, and one line for people in the place of a page of usage."""

import difflib
from collections.abc import Iterable

import click

DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses: done; tried and failed, or something is wrong; not begun, since what was asked for can not be meant;
interrupted. `docs/cli.md` documents them."""


class Failed(Exception):
    """It was tried, and failed: the message says what, and what to do."""

    status = FAILED


class Refused(Failed):
    """It was not begun: option, value, what is expected, the fix."""

    status = REFUSED


def told(error: click.ClickException, prog: str) -> str:
    """A mistake on the command line as one line.

    Args:
        error: as click has it.
        prog: the program, where the error does not know its command.
    """
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else prog
    return f"{path}: {_words(error)}; see {path} --help" if _ends_open(error) else f"{path}: {_words(error)}"


def _ends_open(error: click.ClickException) -> bool:
    """Whether the words alone do not say what to write."""
    return not isinstance(error, click.BadParameter) or isinstance(error, click.MissingParameter)


def _words(error: click.ClickException) -> str:
    if isinstance(error, click.MissingParameter):
        what = _name(error.param) if error.param else "an argument"
        return f"{what}: missing{_expected(error.param)}"
    if isinstance(error, click.NoSuchOption):
        return f"{error.option_name}: no such option{did_you_mean(error.option_name, _options(error.ctx))}"
    if isinstance(error, click.BadOptionUsage):
        return f"{error.option_name}: expected a value after it"
    if isinstance(error, click.BadParameter):
        words = error.message
        if "expected" not in words:  # of click's own kinds
            words = f"{words.rstrip('.')}{_expected(error.param)}"
        return f"{_source(error)} {words}"
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context and isinstance(context.command, click.Group) and "Missing" in error.message:
        return f"expected a command: one of {', '.join(context.command.list_commands(context))}"
    return error.format_message().rstrip(".")


def _source(error: click.BadParameter) -> str:
    """The option, or the variable that gave its value."""
    parameter, context = error.param, error.ctx
    if parameter is None:
        return "argument"
    source = context.get_parameter_source(parameter.name) if context and parameter.name else None
    if source is click.core.ParameterSource.ENVIRONMENT and isinstance(parameter.envvar, str):
        return f"{parameter.envvar} ({_name(parameter)})"
    return _name(parameter)


def _name(parameter: click.Parameter) -> str:
    if isinstance(parameter, click.Argument):
        return parameter.make_metavar(click.Context(click.Command(""))).strip("[]")
    return max(parameter.opts, key=len)


def _expected(parameter: click.Parameter | None) -> str:
    told = getattr(parameter, "help", None)
    return f"; expected {told.partition(';')[0].partition('(')[0].strip()}" if told else ""


def _options(context: click.Context | None) -> list[str]:
    return [name for parameter in context.command.params for name in parameter.opts] if context else []


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` where something known is written alike, else nothing."""
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""
