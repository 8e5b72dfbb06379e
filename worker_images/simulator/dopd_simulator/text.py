"""Prompts counted and answers written without a tokenizer.

A prompt given as token ids counts exactly. A string counts one token for every four bytes of UTF-8, rounded up, as
English does with usual vocabularies. A chat counts each message's text that way, plus four tokens a message and three
to open the answer, as common chat templates add. The answer is a fixed round of short words, one token each.
"""

from collections.abc import Iterable

BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
TOKENS_TO_OPEN_ANSWER = 3

_SENTENCE = (
    "the quick brown fox jumps over a lazy dog while seven wise owls watch from an old oak tree beside the calm "
    "river and count slow clouds"
)
_WORDS = tuple(f"{word} " for word in _SENTENCE.split(" "))
_FIRST_TOKEN_ID = 100


def text_tokens(text: str) -> int:
    """Tokens that a string counts as."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def text_ids(text: str, vocabulary: int) -> list[int]:
    """An id for each token that a string counts as: its bytes as a number, within the vocabulary."""
    content = text.encode()
    pieces = (content[first : first + BYTES_PER_TOKEN] for first in range(0, len(content), BYTES_PER_TOKEN))
    return [int.from_bytes(piece, "big") % vocabulary for piece in pieces]


def chat_tokens(contents: Iterable[str]) -> int:
    """Tokens that a chat counts as, given the text of each message."""
    return TOKENS_TO_OPEN_ANSWER + sum(text_tokens(content) + TOKENS_PER_MESSAGE for content in contents)


def output_text(start: int, end: int) -> str:
    """Text of the output tokens from `start` to `end` (exclusive)."""
    return "".join(_WORDS[index % len(_WORDS)] for index in range(start, end))


def output_ids(start: int, end: int) -> list[int]:
    """Ids of the output tokens from `start` to `end` (exclusive)."""
    return [_FIRST_TOKEN_ID + index % len(_WORDS) for index in range(start, end)]


def weight_versions(tokens: int) -> list[dict[str, object]]:
    """SGLang's note of which weights made which output tokens: here one version made all."""
    return [{"version": "default", "start": 0, "end": tokens}]
