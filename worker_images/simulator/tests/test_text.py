"""Counting and writing without a tokenizer."""

from hypothesis import given
from hypothesis import strategies as st

from dopd_simulator.text import chat_tokens, output_ids, output_text, text_tokens


def test_four_bytes_are_a_token():
    assert [text_tokens(text) for text in ("", "a", "abcd", "abcde", "é" * 4)] == [0, 1, 1, 2, 2]


def test_a_chat_adds_its_template():
    assert chat_tokens(["abcd", "abcdefgh"]) == 3 + (1 + 4) + (2 + 4)


@given(st.integers(0, 200), st.integers(0, 200))
def test_parts_of_an_answer_join_to_the_whole(first, second):
    total = first + second
    assert output_text(0, first) + output_text(first, total) == output_text(0, total)
    assert output_ids(0, first) + output_ids(first, total) == output_ids(0, total)
    assert len(output_text(0, total).split()) == total
