"""The door for text that came from outside, on its way to a terminal, a log or a page.

Names in files, messages of servers and statuses may hold anything: sequences that move a terminal's cursor, colour it
or write to its clipboard; marks that turn the direction of what follows; line breaks that make a second line up.
"""

import html
import re
from typing import Any, TextIO

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, without tab and line feed
    "\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"  # invisible, turning, half of a pair
)


def plain(text: str) -> str:
    """Text with visible characters, tabs and line feeds alone; others stand as their escapes."""
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(text: str) -> str:
    """The same for a part of a line: white space of any kind is one blank."""
    return plain(" ".join(text.split()))


def escaped(text: str) -> str:
    """The same for a page: in text and in quoted attributes."""
    return html.escape(plain(text))


class PlainStream:
    """A stream for a terminal that writes plain text, whatever it is given.

    A carriage return before the text is kept: a bar of progress writes over itself.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write it plainly; returns the length of what was given."""
        begins = "\r" if text.startswith("\r") else ""
        self._stream.write(begins + plain(text.removeprefix("\r")))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's."""
        return getattr(self._stream, name)
