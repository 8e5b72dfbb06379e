"""A row of the fault table."""

from collections.abc import Mapping
from dataclasses import dataclass

from e2e.marked import marked

COLUMNS = ("fault", "what users see", "what dopd does", "conditions seen", "well again")
NOT_MEASURED = "not measured yet"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


@dataclass(frozen=True)
class Finding:
    """What was found of one fault.

    Attributes:
        title: the fault, in words; names its row.
        users: what clients saw.
        does: what dopd does.
        said: which conditions came, and when.
        recovery: after how long all was well again, and since when that counts.
        problems: what should not have been; empty when all is as it should be.
    """

    title: str
    users: str
    does: str
    said: str
    recovery: str
    problems: tuple[str, ...] = ()

    @property
    def row(self) -> str:
        """The row in Markdown."""
        problems = f" **Not as it should be: {'; '.join(self.problems)}.**" if self.problems else ""
        cells = (self.title, self.users, self.does + problems, self.said, self.recovery)
        return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def with_rows(page: str, found: list[Finding], known: Mapping[str, str]) -> str:
    """A page with these rows in its table, in place of those of the same faults, and a row for each that has none.

    Args:
        page: Markdown with the two marks.
        found: what was measured.
        known: what dopd does by title of all faults, in the order of the table; rows of others are dropped.

    Raises:
        ValueError: the page has no marks.
    """
    head, table, tail = marked(page, BEGIN, END)
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()[3:] if line.startswith("| ")}
    nothing = [Finding(title, NOT_MEASURED, does, "", "") for title, does in known.items() if title not in rows]
    rows |= {finding.title: finding.row for finding in (*nothing, *found)}
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS), *(rows[title] for title in known)]
    return f"{head}\n" + "\n".join(lines) + f"\n{tail}"
