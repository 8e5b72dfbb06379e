"""`python -m charts.dashboard FOLDER` writes the dashboards."""

import sys
from pathlib import Path

from charts.dashboard import fleet, resource


def boards() -> dict[str, str]:
    """The files by name."""
    return {"dopd.json": resource.text(), "dopd-fleet.json": fleet.text()}


if __name__ == "__main__":
    for name, text in boards().items():
        (Path(sys.argv[1]) / name).write_text(text)
