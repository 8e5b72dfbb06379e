"""The recording rules that keep the load for longer than Prometheus keeps the series of pods: a rule file of its own.

Each records one signal of a history once a minute, one series for each resource (and bucket) in place of one for each
pod that there ever was. `queries.Signal.recorded` reads them.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

from dopd.telemetry import queries
from dopd.telemetry.prometheus import duration

INTERVAL_SECONDS = 60.0


def rule_file() -> dict[str, Any]:
    """The rules as Prometheus reads them."""
    window = duration(INTERVAL_SECONDS)
    rules = [{"record": signal.record, "expr": signal.promql(window)} for signal in queries.RECORDED]
    return {"groups": [{"name": "dopd-history", "interval": f"{INTERVAL_SECONDS:.0f}s", "rules": rules}]}


def render() -> str:
    """The text of the file, as it stands in the chart."""
    text: str = yaml.safe_dump(rule_file(), sort_keys=False, width=110)
    return f"# Generated from operator/dopd/telemetry by `make crds`. Do not edit.\n{text}"


def main() -> None:
    """Write the rules into a file."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path)
    file = parser.parse_args().file
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(render())


if __name__ == "__main__":
    main()
