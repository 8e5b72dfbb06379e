"""A trace file, read row by row into columns: every cell checked, and who has a bad one is told its line.

What is kept are numbers, a few bytes a cell, so that ten million lines fit. Bounds on the length of a line, on lines
and on bytes hold after unzipping, so that a small file cannot fill the memory.
"""

import csv
import gzip
import json
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import numpy.typing as npt

from dopd.replay import trace_formats
from dopd.replay.trace_formats import EPOCH_UNITS, MOST_REQUESTS, MOST_SPAN_SECONDS, Column, Format

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_LINE_BYTES = 1 << 20
MOST_BYTES = 4 << 30
MOST_EMPTY_LINES = 1_000_000
MOST_BLOCKS = 50_000_000
_FIX = "correct the line or remove it"
_EXPECTED = "expected CSV or JSON lines in UTF-8, gzip or not"
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"PAR1": "Parquet",
    b"version ht": "a Git LFS pointer",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""What a file begins with that is often a trace, and not in a form that is read here."""


@dataclass(frozen=True)
class TraceFile:
    """The columns of a trace file.

    Attributes:
        path: of the file.
        format: how it is written.
        columns: one array for each of the format's, in its order; times in seconds.
        lines: number of each row's line in the file, from 1.
        blocks: of the prompts of all rows, one after the other; None where the file has none.
        block_counts: how many each row has.
    """

    path: Path
    format: Format
    columns: list[Floats]
    lines: Ints
    blocks: Ints | None = None
    block_counts: Ints | None = None

    @classmethod
    def read(cls, path: Path) -> "TraceFile":
        """Read a file, gzip or not, CSV or one JSON object a line.

        Raises:
            ValueError: it can not be opened, is empty, no text or too large, or its header is of no known format, or
                a row or a cell is not what its column holds.
        """
        reader = _Reader(path)
        try:
            with path.open("rb") as raw:
                head = raw.peek(16)
                for magic, name in _ARCHIVES.items():
                    if head.startswith(magic):
                        raise ValueError(f"{path}: not a readable file ({name}); {_EXPECTED}: convert or fetch it")
                zipped = head.startswith(b"\x1f\x8b")
                reader.read(cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if zipped else raw)
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line}: not a readable file ({error}); {_EXPECTED}") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: not a readable file ({error}); {_EXPECTED}") from None
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}; expected the path of a trace") from None
        return reader.done()

    def refusal(self, row: int, column: int, what: str) -> ValueError:
        """The error that a cell is refused with: where it stands, what it holds, and what was expected."""
        value = self.columns[column][row]
        return ValueError(
            f"{self.path}, line {self.lines[row]}: {self.format.columns[column].name} '{value:.15g}'{what}"
        )


class _Reader:
    """Takes the rows of one file.

    Attributes:
        line: number of the line that is read, from 1.
        row: number of the line at which the row begins that is read; a quoted cell may hold line ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.line = self.row = 0
        self._format: Format | None = None
        self._values: list[array[float]] = []
        self._lines = array("q")
        self._blocks = array("q")
        self._block_counts = array("q")
        self._has_blocks = False
        self._dated = False

    def read(self, file: IO[bytes]) -> None:
        """Read all rows."""
        lines = self._text(file)
        first = next((line for line in lines if line.strip()), "")
        self.row = self.line
        if not first:
            raise ValueError(f"{self._path}: the file is empty; expected a header and rows below it")
        if first.lstrip()[0] in "{[":
            self._read_objects(first, lines)
        else:
            self._read_table(first, lines)
        if not self._lines:
            raise ValueError(f"{self._path}: the trace holds no row below its header")

    def _text(self, file: IO[bytes]) -> Iterator[str]:
        """The lines of a file, within bounds."""
        left, empty = MOST_BYTES, 0
        while line := file.readline(MOST_LINE_BYTES + 1):
            self.line += 1
            left -= len(line)
            empty += len(line) <= len(b"\r\n")
            if len(line) > MOST_LINE_BYTES or b"\0" in line:
                kind = "binary" if b"\0" in line else f"longer than {MOST_LINE_BYTES} bytes"
                raise self._refused(f"not a readable file ({kind}); {_EXPECTED}", self.line)
            if left < 0 or empty > MOST_EMPTY_LINES:
                raise self._refused(
                    f"more than {MOST_BYTES} bytes or {MOST_EMPTY_LINES} empty lines; cut the file", self.line
                )
            try:
                yield line.decode("utf-8-sig" if self.line == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise self._refused(f"not a readable file ({error.reason}); {_EXPECTED}", self.line) from None

    def _begin(self, names: Sequence[str], separated: str) -> Format:
        found = trace_formats.find(names)
        if found is None:
            for mark in ";\t|":
                if trace_formats.find([name.strip() for name in separated.split(mark)]):
                    raise self._refused(f"columns are separated by {mark!r}; expected commas")
            raise ValueError(
                f"{self._path}: columns {_shown(', '.join(names), 300)}; expected {trace_formats.expected()}"
            )
        for name in (*found.names, found.blocks):
            if name and names.count(name) > 1:
                raise self._refused(f"column {name} stands twice; expected each once")
        self._format = found
        self._has_blocks = found.blocks in names
        self._values = [array("d") for _ in found.columns]
        return found

    def _read_table(self, first: str, lines: Iterator[str]) -> None:
        rows = csv.reader(lines)
        header = [name.strip() for name in next(csv.reader([first]))]
        found = self._begin(header, first)
        places = [header.index(name) for name in found.names]
        blocks = header.index(found.blocks) if self._has_blocks else None
        begin = self.line + 1
        for row in rows:
            self.row, begin = begin, self.line + 1
            if len(row) != len(header):
                if row:
                    cells = f"{len(row)} cells under a header of {len(header)}"
                    raise self._refused(f"{cells}; complete the line or remove it")
                continue
            if row[0].strip() == header[0] and [cell.strip() for cell in row] == header:
                raise self._refused("the header stands again; remove the line")
            self._take(found, [row[place] for place in places])
            if blocks is not None:
                self._take_blocks(found, row[blocks].split(), row[blocks])

    def _read_objects(self, first: str, lines: Iterator[str]) -> None:
        found: Format | None = None
        for line in chain([first], lines):
            self.row = self.line
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise self._refused(f"{_shown(line)!r}; expected one JSON object a line")
            found = found or self._begin(list(row), "")
            missing = [name for name in found.names if name not in row]
            if missing:
                raise self._refused(f"no {missing[0]}; complete the line or remove it")
            self._take(found, [_cell(row[name]) for name in found.names])
            if self._has_blocks:
                blocks = row.get(found.blocks) or []
                self._take_blocks(found, blocks if isinstance(blocks, list) else [None], json.dumps(blocks))

    def _take(self, found: Format, cells: list[str]) -> None:
        if len(self._lines) >= MOST_REQUESTS:
            raise self._refused(f"more than {MOST_REQUESTS} rows; cut the file")
        for column, values, cell in zip(found.columns, self._values, cells, strict=True):
            value = self._value(column, cell)
            if not 0 <= value <= column.most:
                most = f" and at most {column.most:,.0f}" if value > column.most else ""
                of = f"{column.expected} of at least 0{most}"
                if column.unit_seconds and not self._lines:
                    of += ", or a date and a time such as 2024-05-10 00:00:00"
                elif column.unit_seconds and self._dated:
                    of = "a date and a time"
                raise self._cell(column.name, cell, f"{of}; {_FIX}")
            values.append(value)
        self._lines.append(self.row)

    def _value(self, column: Column, cell: str) -> float:
        """The number in a cell, or the seconds since the epoch of a date; not a number where it is neither.

        A file has either dates or numbers: its first row decides.
        """
        if not (column.unit_seconds and self._dated):
            try:
                return float(cell)
            except ValueError:
                if self._lines or not column.unit_seconds:
                    return np.nan
        try:
            moment = trace_formats.seconds_since_epoch(cell)
        except (ValueError, OverflowError):
            return np.nan
        self._dated = True
        return moment

    def _take_blocks(self, found: Format, words: Sequence[Any], cell: str) -> None:
        try:
            before = len(self._blocks)
            self._blocks.extend(_whole(word) for word in words)
        except (ValueError, OverflowError):
            raise self._cell(found.blocks, cell, f"whole numbers separated by spaces; {_FIX}") from None
        if len(self._blocks) > MOST_BLOCKS:
            raise self._refused(f"more than {MOST_BLOCKS} blocks of prompts; cut the file or remove {found.blocks}")
        self._block_counts.append(len(self._blocks) - before)

    def _cell(self, name: str, cell: str, expected: str) -> ValueError:
        return self._refused(f"{name} {_shown(cell)!r}; expected {expected}")

    def _refused(self, what: str, line: int = 0) -> ValueError:
        return ValueError(f"{self._path}, line {line or self.row}: {what}")

    def done(self) -> TraceFile:
        """What was read, with its times in seconds."""
        assert self._format is not None  # a file without a header was refused
        columns = [np.frombuffer(values, dtype=np.float64) for values in self._values]
        lines = np.frombuffer(self._lines, dtype=np.int64)
        file = TraceFile(self._path, self._format, columns, lines)
        columns[0] = _seconds(file, self._dated)
        if not self._has_blocks:
            return file
        blocks, counts = (np.array(numbers, dtype=np.int64) for numbers in (self._blocks, self._block_counts))
        return TraceFile(self._path, self._format, columns, lines, blocks, counts)


def _seconds(file: TraceFile, dated: bool) -> Floats:
    """The times of a file in seconds, of one unit and of one clock.

    Raises:
        ValueError: one is of another unit, or lies further from the others than a trace is long.
    """
    times = file.columns[0]
    if not dated:
        unit, name, least, most = file.format.columns[0].unit_seconds, file.format.columns[0].expected, 0.0, np.inf
        for start, each, label in EPOCH_UNITS:
            if times[0] >= start:
                unit, name, least = each, f"{label} since the epoch", start
                break
            most = start
        other = np.flatnonzero((times < least) | (times >= most))
        if len(other):
            raise file.refusal(int(other[0]), 0, f" beside {name} in line {file.lines[0]}; expected one unit")
        times = times * unit
    far = int(np.argmax(np.abs(times - np.median(times))))
    if np.ptp(times) > MOST_SPAN_SECONDS:
        days = f"{np.ptp(times) / 86400:.0f} days from others"
        raise file.refusal(far, 0, f" is {days}; expected a trace of at most 400 days: {_FIX}, or cut the file")
    return times


def _cell(value: Any) -> str:
    """A value of JSON as the cell of a table would have it."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else json.dumps(value)


def _whole(word: Any) -> int:
    if isinstance(word, bool | float) or word is None or isinstance(word, list | dict):
        raise ValueError
    return int(word)


def _shown(text: str, most: int = 60) -> str:
    """Text of a file for a message: short, and without what moves a terminal's cursor."""
    short = text.strip()[:most]
    return "".join(letter if letter.isprintable() else "?" for letter in short)
