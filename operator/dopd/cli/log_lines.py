"""How the commands that run for ever log, to standard error: lines of text or of JSON."""

import json
import logging
from datetime import UTC, datetime

from dopd.api.text import one_line

NOISY = ("httpx", "aiohttp.access", "kopf.objects")
"""They tell of each request, and of each event of each object that is watched."""


class _TextLines(logging.Formatter):
    """Messages repeat servers and resources: none of them begins a line that looks like another record."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)


class _JsonLines(logging.Formatter):
    """A record an object, with the fields that it was given."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        } | getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(log_format: str = "text", *, verbose: bool = False) -> None:
    """Log from now on.

    Args:
        log_format: text or json.
        verbose: each request and each event, too.
    """
    handler = logging.StreamHandler()
    text = _TextLines("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(_JsonLines() if log_format == "json" else text)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    if not verbose:
        for noisy in NOISY:
            logging.getLogger(noisy).setLevel(logging.WARNING)
