"""What a check says, for people and for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    REFUSED = "refused"


@dataclass(frozen=True)
class Finding:
    """What one check says.

    Attributes:
        check: its name, by which `--allow` knows it.
        level: how bad it is.
        found: the flag or fact, and its value.
        expected: what it should be; empty where all is well.
        fix: what to do about it; empty where all is well.
    """

    check: str
    level: Level
    found: str
    expected: str = ""
    fix: str = ""

    def __str__(self) -> str:
        parts = [f"{self.level.value} {self.check}: {self.found}"]
        parts += [f"expected {self.expected}"] if self.expected else []
        parts += [f"fix: {self.fix}"] if self.fix else []
        return "; ".join(parts)


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, found)


def skipped(check: str, found: str) -> Finding:
    """Nothing to check, and why."""
    return Finding(check, Level.SKIPPED, found)


def warning(check: str, found: str, expected: str, fix: str) -> Finding:
    """It may work."""
    return Finding(check, Level.WARNING, found, expected, fix)


def refused(check: str, found: str, expected: str, fix: str) -> Finding:
    """It can not work."""
    return Finding(check, Level.REFUSED, found, expected, fix)


def allow(findings: Sequence[Finding], names: Sequence[str]) -> list[Finding]:
    """Turn the refusals of the named checks into warnings."""
    return [
        replace(each, level=Level.WARNING) if each.level is Level.REFUSED and each.check in names else each
        for each in findings
    ]


def passed(findings: Sequence[Finding]) -> bool:
    """Whether the engine may start."""
    return all(each.level is not Level.REFUSED for each in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """One line for each finding, and one for all."""
    counts = {level: sum(each.level is level for each in findings) for level in Level}
    summary = ", ".join(f"{count} {level.value}" for level, count in counts.items() if count)
    return "\n".join([*(f"preflight: {each}" for each in findings), f"preflight: {summary}"])


def as_json(findings: Sequence[Finding]) -> str:
    """One line of JSON."""
    return json.dumps({"passed": passed(findings), "findings": [asdict(each) for each in findings]})
