"""What came from outside reaches a terminal and a page as text, and as nothing else."""

import io
from typing import cast

import pytest

from dopd.api.text import PlainStream, escaped, one_line, plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        ("\x9b31mred", "\\x9b31mred"),
        ("ok\rFAIL", "ok\\rFAIL"),
        ("a\u202eb", "a\\u202eb"),
        ("a\x00b", "a\\x00b"),
        ("\ud800", "\\ud800"),
        ("täglich\t一\n", "täglich\t一\n"),
    ],
)
def test_only_what_can_be_seen_is_written(text: str, shown: str):
    assert plain(text) == shown
    plain(text).encode()


def test_a_part_of_a_line_stays_in_its_line():
    assert one_line("well\nFAIL  made up\u2028x") == "well FAIL made up x"


def test_a_page_gets_text_and_no_markup():
    assert escaped("<script>'\x1b") == "&lt;script&gt;&#x27;\\x1b"


def test_a_stream_keeps_the_bar_of_progress():
    under = io.StringIO()
    stream = cast(io.StringIO, PlainStream(under))
    print("\r[###] \x1b[31m", file=stream)
    stream.flush()
    assert under.getvalue() == "\r[###] \\x1b[31m\n"
