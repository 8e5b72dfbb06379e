"""The flags that say how the operator's Prometheus is reached; shared by `run` and `doctor`.

Each has an environment variable, so that `dopd doctor` in the operator's own container asks just as the operator does.
"""

import argparse
import os

from dopd.cli.arguments import number
from dopd.telemetry.connection import LARGEST_ANSWER_MIB, LARGEST_ANSWER_OF_RESOURCE_MIB, ConnectionSettings

PREFIX = "DOPD_PROMETHEUS_"


def add_prometheus_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags; what repeats stands on lines of its own in the environment."""
    group = parser.add_argument_group(
        "Prometheus", "Sent to these URLs alone: one that a resource names is reached without any of it."
    )

    def flag(name: str, help: str, metavar: str = "FILE") -> None:
        group.add_argument(
            f"--prometheus-{name}", default=_env(name), metavar=metavar, help=f"{help} [{PREFIX}{_suffix(name)}]"
        )

    def pairs(name: str, help: str, metavar: str) -> None:
        group.add_argument(
            f"--prometheus-{name}",
            action="append",
            default=[line for line in _env(name).splitlines() if line],
            metavar=metavar,
            help=f"{help}; may be repeated [{PREFIX}{_suffix(name)}, one a line]",
        )

    flag("url", "where the load is read, unless a resource says otherwise", "URL")
    flag("history-url", "where what is long ago is read, if that URL does not keep it; reached the same way", "URL")
    flag("bearer-token-file", "holds a bearer token; read for each query")
    flag("username", "of basic authentication", "NAME")
    flag("password-file", "holds its password; read for each query")
    flag("ca-file", "certificates, PEM, of the only authorities to be trusted; those of the system if absent")
    flag("client-certificate-file", "certificate, PEM, to show to the server")
    flag("client-key-file", "its key, unless in the same file")
    pairs("header", "sent along with each query, such as X-Scope-OrgID=TENANT", "NAME=VALUE")
    pairs("header-file", "the same, with a value that stands in a file", "NAME=FILE")
    pairs("query", "added to each query, such as partial_response=false", "NAME=VALUE")
    pairs("series-label", "that the series to be read must carry, such as cluster=eu-west", "NAME=VALUE")
    group.add_argument(
        "--prometheus-timeout",
        type=number(0.1, 600),
        default=_env("timeout") or "10",
        metavar="SECONDS",
        help=f"for a whole answer [{PREFIX}TIMEOUT]",
    )
    group.add_argument(
        "--prometheus-max-answer-mib",
        type=number(0.001, 1024),
        default=_env("max-answer-mib") or f"{LARGEST_ANSWER_MIB:g}",
        metavar="MIB",
        help=f"largest answer, decompressed; one of a resource's own Prometheus has {LARGEST_ANSWER_OF_RESOURCE_MIB:g}"
        f" [{PREFIX}MAX_ANSWER_MIB]",
    )
    group.add_argument(
        "--prometheus-insecure-skip-verify",
        action="store_true",
        default=_env("insecure-skip-verify") == "true",
        help=f"take any certificate of the server [{PREFIX}INSECURE_SKIP_VERIFY=true]",
    )


def connection_settings(options: argparse.Namespace) -> ConnectionSettings:
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
        insecure_skip_verify=options.prometheus_insecure_skip_verify,
        headers=_by_name("header", options.prometheus_header),
        header_files=_by_name("header-file", options.prometheus_header_file),
        query_parameters=_by_name("query", options.prometheus_query),
        series_labels=_by_name("series-label", options.prometheus_series_label),
    )


def _suffix(name: str) -> str:
    return name.replace("-", "_").upper()


def _env(name: str) -> str:
    return os.environ.get(PREFIX + _suffix(name), "")


def _by_name(flag: str, pairs: list[str]) -> dict[str, str]:
    if wrong := [pair for pair in pairs if not pair.partition("=")[0] or "=" not in pair]:
        raise ValueError(f"--prometheus-{flag} {wrong[0]}: expected NAME=VALUE")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
