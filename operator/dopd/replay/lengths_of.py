"""Totals of a trace that tells requests alone, with the lengths that another day had at the same time of day.

python -m dopd.replay.lengths_of REQUESTS TOTALS OUT

REQUESTS has the columns `t_s,requests`, TOTALS is a day of totals of the same intervals, OUT is written as totals. The
counts are the service's; lengths repeat each day.
"""

import csv
import gzip
import sys
from pathlib import Path

import numpy as np

from dopd.replay.trace import totals

COLUMNS = ("t_s", "requests", "input_tokens", "output_tokens")


def combine(requests: Path, day: Path, out: Path) -> None:
    """Write the totals.

    Raises:
        ValueError: a file is not what is expected.
    """
    known = totals(day, 0.0, float("inf"))
    if known is None:
        raise ValueError(f"{day}: tells requests one by one; expected totals per interval ({','.join(COLUMNS)})")
    (starts, counts, inputs, outputs), width = known
    with gzip.open(requests, "rt", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not {"t_s", "requests"} <= set(reader.fieldnames or ()):
            raise ValueError(f"{requests}: has the columns {','.join(reader.fieldnames or ())}; expected t_s,requests")
        rows = [(float(row["t_s"]), float(row["requests"])) for row in reader]
    mean = [np.divide(tokens, counts, out=np.zeros_like(tokens), where=counts > 0) for tokens in (inputs, outputs)]
    with gzip.open(out, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for at, number in rows:
            k = int(at // width) % len(starts)
            writer.writerow([f"{at:g}", f"{number:g}", f"{number * mean[0][k]:.1f}", f"{number * mean[1][k]:.1f}"])


def main(arguments: list[str]) -> int:
    """Write the file; 2 if it can not be."""
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        combine(*map(Path, arguments))
    except (OSError, ValueError) as error:
        print(f"lengths_of: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
