"""Reads a load series from a CSV file, and says where the file is wrong."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import numpy as np

from dopd_forecasting.series import Series

TIME_COLUMNS = ("t_s", "arrival_s", "time", "timestamp", "ts", "date")
EVENT_COLUMN = "arrival_s"  # a file with this column holds one row per request
REQUESTS = "requests"
MISSING = {"", "nan", "na", "null", "none"}


class BadFile(ValueError):
    """The file cannot be used; the message gives the line and what to do."""


def read_series(path: Path, column: str, bin_seconds: float, time_column: str | None = None) -> Series:
    """Read one column.

    Args:
        path: CSV with a header, gzipped when its name ends in .gz. Time is seconds or ISO 8601 (UTC unless it
            says otherwise). A file with a column `arrival_s` has one row per request: rows are counted
            (`requests`) or their amounts added up, per second; in any other file the rows are samples of a load
            and are averaged.
        column: the load; an empty or NaN cell is missing.
        bin_seconds: length of a bin.
        time_column: default: the first of TIME_COLUMNS that the file has, else its first column.

    Raises:
        BadFile: the file or a line of it cannot be used.
    """
    with _opened(path) as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        if not names:
            raise BadFile(f"{path}:1: the file is empty: expected a header line such as 't_s,requests'")
        time = time_column or next((name for name in TIME_COLUMNS if name in names), names[0])
        counting = EVENT_COLUMN in names and time == EVENT_COLUMN
        for name in (time, column):
            if name not in names and not (counting and name == REQUESTS):
                raise BadFile(f"{path}:1: there is no column {name!r}; the columns are {', '.join(names)}")
        times, values = [], []
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if None in row or None in row.values():
                raise BadFile(f"{where}: expected {len(names)} cells, one for each column of the header")
            times.append(_seconds(row[time], where, time))
            values.append(
                1.0 if counting and column == REQUESTS and column not in names else _load(row[column], where, column)
            )
    if len(times) < 2:
        raise BadFile(f"{path}:{len(times) + 1}: only {len(times)} rows: a series needs at least two")
    if counting:
        return Series.from_events(times, values, bin_seconds=bin_seconds, unit=f"{column}/s", end=max(times))
    apart = float(np.median(np.diff(np.unique(times)))) if len(set(times)) > 1 else 0.0
    if apart > 1.01 * bin_seconds:
        raise BadFile(
            f"{path}: rows are {apart:g} s apart and bins {bin_seconds:g} s long: use --bin {apart:g} or more"
        )
    return Series.from_samples(times, values, bin_seconds=bin_seconds, unit=column)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
            yield file
    except UnicodeDecodeError as error:
        raise BadFile(f"{path}: not a text file ({error.reason}); a gzipped file must be named .gz") from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise BadFile(f"{path}: cannot be read: {error}") from error


def _seconds(text: str, where: str, column: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            raise BadFile(f"{where}: {column} is {text!r}: expected seconds or an ISO 8601 time") from None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise BadFile(f"{where}: {column} is {text!r}: expected seconds or an ISO 8601 time")
    return seconds


def _load(text: str, where: str, column: str) -> float:
    cell = text.strip()
    if cell.lower() in MISSING:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        raise BadFile(
            f"{where}: {column} is {cell!r}: expected a number, or nothing where it was not measured"
        ) from None
    if not (math.isfinite(value) and value >= 0):
        raise BadFile(f"{where}: {column} is {cell!r}: expected a load of zero or more")
    return value
