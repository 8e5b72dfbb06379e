"""The columns of a trace file, every cell checked: who has a bad line in a log of a million is told which."""

import csv
import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EXPECTED = {
    "arrival_s": "seconds",
    "t_s": "seconds",
    "requests": "a number of requests",
    "input_tokens": "a number of tokens",
    "output_tokens": "a number of tokens",
    "rate_rps_with_tokens": "a number per second",
    "input_tok_per_s": "a number per second",
    "output_tok_per_s": "a number per second",
}
"""What the cells of a column hold, all of them at least 0."""
MOST = 1e15
"""More than any column can mean, and few enough for whole numbers: Unix time in milliseconds is 1e12."""


@dataclass(frozen=True)
class TraceFile:
    """The cells of a CSV file.

    Attributes:
        path: of the file.
        header: names of the columns.
        rows: below the header, without empty ones.
        lines: number of each row's line in the file, from 1.
    """

    path: Path
    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    @classmethod
    def read(cls, path: Path) -> "TraceFile":
        """Read a file, gzip or not.

        Raises:
            ValueError: it can not be opened, is empty or no text, or a row is longer or shorter than the header.
        """
        rows, lines = [], []
        try:
            with path.open("rb") as raw:
                zipped = raw.read(2) == b"\x1f\x8b"
            with gzip.open(path, "rt", encoding="utf-8-sig") if zipped else path.open(encoding="utf-8-sig") as file:
                reader = csv.reader(file)
                header = next(reader, [])
                for row in reader:
                    if row:
                        rows.append(row)
                        lines.append(reader.line_num)
        except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}: not a readable file ({error}); expected CSV, gzip or not") from None
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}; expected the path of a trace") from None
        if not header:
            raise ValueError(f"{path}: the file is empty; expected a header and rows below it")
        for row, line in zip(rows, lines, strict=True):
            if len(row) != len(header) and not EXPECTED.keys().isdisjoint(header):  # else the header is what is wrong
                cells = f"{len(row)} cells under a header of {len(header)}"
                raise ValueError(f"{path}, line {line}: {cells}; complete the line or remove it")
        if not rows:
            raise ValueError(f"{path}: the trace holds no row below its header")
        return cls(path, header, rows, lines)

    def cells(self, name: str) -> list[str]:
        """The cells of one column, as they are written."""
        place = self.header.index(name)
        return [row[place] for row in self.rows]

    def numbers(self, name: str) -> Floats:
        """The cells of one column.

        Raises:
            ValueError: one is no number, or none that the column can mean.
        """
        cells = self.cells(name)
        try:
            values = np.array([float(cell) for cell in cells])
        except ValueError:
            values = np.array([_number(cell) for cell in cells])
        wrong = np.flatnonzero(~((values >= 0) & (values <= MOST)))
        if len(wrong):
            fix = "correct the line or remove it"
            raise self.refusal(int(wrong[0]), name, f"; expected {EXPECTED[name]} of at least 0; {fix}")
        return values

    def refusal(self, row: int, name: str, what: str) -> ValueError:
        """The error that a cell is refused with: where it stands, what it holds, and what was expected."""
        cell = self.rows[row][self.header.index(name)]
        return ValueError(f"{self.path}, line {self.lines[row]}: {name} {cell[:60]!r}{what}")


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return np.nan
