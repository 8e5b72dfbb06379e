"""Cuts a window out of a trace: `python -m e2e.load.traces.cut TRACE OUT --start S --length S`.

The same window always gives the same bytes.
"""

import argparse
import gzip
from pathlib import Path

from dopd.replay.trace_formats import FORMATS
from e2e.load.schedule import Schedule, read_trace


def main() -> None:
    """Read the trace, write the window."""
    parser = argparse.ArgumentParser(description="Cut a window out of a trace.")
    parser.add_argument("trace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--start", type=float, required=True, metavar="S")
    parser.add_argument("--length", type=float, required=True, metavar="S")
    options = parser.parse_args()
    window = read_trace(options.trace).window(options.start, options.length)
    options.out.write_bytes(gzip.compress(as_csv(window).encode(), mtime=0))
    print(f"{len(window)} requests, {options.out.stat().st_size} bytes")


def as_csv(schedule: Schedule) -> str:
    """The schedule as the text of a trace file; times to the millisecond."""
    rows = (f"{a.at_seconds:.3f},{a.input_tokens},{a.output_tokens}" for a in schedule)
    return "\n".join([",".join(FORMATS[0].names), *rows, ""])


if __name__ == "__main__":
    main()
