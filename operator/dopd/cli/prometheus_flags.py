"""The flags that say how the operator's Prometheus is reached; shared by all commands that ask one.

Each has an environment variable, so that `dopd doctor` in the operator's own container asks just as the operator does.
"""

import os
from collections.abc import Callable, Iterable
from types import SimpleNamespace

import click

from dopd.cli.arguments import F, number, option, together
from dopd.telemetry.connection import LARGEST_ANSWER_MIB, LARGEST_ANSWER_OF_RESOURCE_MIB, ConnectionSettings

PREFIX = "DOPD_PROMETHEUS_"


def _file(name: str, help: str, metavar: str = "FILE") -> Callable[[F], F]:
    variable = PREFIX + _suffix(name)
    return option(f"--prometheus-{name}", metavar=metavar, default="", envvar=variable, help=f"{help} [{variable}]")


def _pairs(name: str, help: str, metavar: str) -> Callable[[F], F]:
    variable = PREFIX + _suffix(name)
    told = f"{help}; may be repeated [{variable}, one a line]"
    return option(f"--prometheus-{name}", metavar=metavar, multiple=True, help=told)


def prometheus_options(function: F) -> F:
    """The flags, sent to these URLs alone: a Prometheus that a resource names is reached without any of it."""
    return together(
        _file("url", "where the load is read, unless a resource says otherwise", "URL"),
        _file(
            "history-url", "where what is long ago is read, if that URL does not keep it; reached the same way", "URL"
        ),
        _file("bearer-token-file", "holds a bearer token; read for each query"),
        _file("username", "of basic authentication", "NAME"),
        _file("password-file", "holds its password; read for each query"),
        _file("ca-file", "certificates, PEM, of the only authorities to be trusted; those of the system if absent"),
        _file("client-certificate-file", "certificate, PEM, to show to the server"),
        _file("client-key-file", "its key, unless in the same file"),
        _pairs("header", "sent along with each query, such as X-Scope-OrgID=TENANT", "NAME=VALUE"),
        _pairs("header-file", "the same, with a value that stands in a file", "NAME=FILE"),
        _pairs("query", "added to each query, such as partial_response=false", "NAME=VALUE"),
        _pairs("series-label", "that the series to be read must carry, such as cluster=eu-west", "NAME=VALUE"),
        option(
            "--prometheus-timeout",
            of=number(0.1, 600),
            metavar="SECONDS",
            default="10",
            envvar=f"{PREFIX}TIMEOUT",
            help=f"for a whole answer [{PREFIX}TIMEOUT]",
        ),
        option(
            "--prometheus-max-answer-mib",
            of=number(0.001, 1024),
            metavar="MIB",
            default=f"{LARGEST_ANSWER_MIB:g}",
            envvar=f"{PREFIX}MAX_ANSWER_MIB",
            help="largest answer, decompressed; one of a resource's own Prometheus has "
            f"{LARGEST_ANSWER_OF_RESOURCE_MIB:g} [{PREFIX}MAX_ANSWER_MIB]",
        ),
        click.option(
            "--prometheus-insecure-skip-verify",
            is_flag=True,
            help=f"take any certificate of the server [{PREFIX}INSECURE_SKIP_VERIFY=true]",
        ),
    )(function)


def connection_settings(options: SimpleNamespace) -> ConnectionSettings:
    """What the flags say.

    Raises:
        ValueError: two of them contradict each other, or the URL is none.
    """
    return ConnectionSettings(
        url=options.prometheus_url,
        history_url=options.prometheus_history_url,
        timeout_seconds=options.prometheus_timeout,
        largest_answer_mib=options.prometheus_max_answer_mib,
        bearer_token_file=options.prometheus_bearer_token_file,
        username=options.prometheus_username,
        password_file=options.prometheus_password_file,
        ca_file=options.prometheus_ca_file,
        client_certificate_file=options.prometheus_client_certificate_file,
        client_key_file=options.prometheus_client_key_file,
        insecure_skip_verify=options.prometheus_insecure_skip_verify or _env("insecure-skip-verify") == "true",
        headers=_by_name("header", options),
        header_files=_by_name("header-file", options),
        query_parameters=_by_name("query", options),
        series_labels=_by_name("series-label", options),
    )


def _suffix(name: str) -> str:
    return name.replace("-", "_").upper()


def _env(name: str) -> str:
    return os.environ.get(PREFIX + _suffix(name), "")


def _by_name(flag: str, options: SimpleNamespace) -> dict[str, str]:
    """What the environment says, one pair a line, and what the flag adds to it."""
    given: Iterable[str] = getattr(options, f"prometheus_{flag.replace('-', '_')}")
    pairs = [*(line for line in _env(flag).splitlines() if line), *given]
    if wrong := [pair for pair in pairs if not pair.partition("=")[0] or "=" not in pair]:
        raise ValueError(f"--prometheus-{flag} {wrong[0]}: expected NAME=VALUE")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
