"""A tiny model that needs no download: SGLang makes its weights up (`--load-format dummy`, the same ones each time).

Only its shape and its tokenizer are files. Every id of the vocabulary has a text, so that each token that is made up is
also seen by a client; the context is long enough for the prompts that scheduling is about.
"""

import json
from pathlib import Path
from typing import Any

from e2e.cluster.cache import cached, digest

NAME = "tiny"
VOCABULARY = 20_480
"""Ids that `dopd profile measure` sends go up to 20,000; one outside the vocabulary ends a real engine."""
CONTEXT_TOKENS = 32_768
_VERSION = "1"
_SPECIAL = ("<pad>", "<s>", "</s>")

_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "max_position_embeddings": CONTEXT_TOKENS,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # Not bfloat16: of 20,480 logits several would be equal, and the greedy token a matter of luck.
    "dtype": "float32",
}

_CHAT_TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant:"


def model_folder() -> Path:
    """Return the folder of the model, written when it is not there."""
    files = _files()
    return cached("tiny-model", _VERSION, digest(*(name + text for name, text in files.items())), _writer(files))


def _writer(files: dict[str, str]) -> Any:
    def build(target: Path) -> None:
        for name, text in files.items():
            (target / name).write_text(text)

    return build


def _files() -> dict[str, str]:
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "model_max_length": CONTEXT_TOKENS,
        "clean_up_tokenization_spaces": False,
        "chat_template": _CHAT_TEMPLATE,
    }
    contents: dict[str, Any] = {
        "config.json": _CONFIG,
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": tokenizer_config,
    }
    return {name: json.dumps(content, ensure_ascii=False) for name, content in contents.items()}


def _tokenizer() -> dict[str, Any]:
    """A byte-level tokenizer: one token for each byte of a prompt, and a word for each id that is left."""
    tokens = [*_SPECIAL, *_bytes_as_characters()]
    # U+0120 is how a byte-level tokenizer writes the blank before a word.
    tokens += [f"\u0120w{number}" for number in range(len(tokens), VOCABULARY)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": text, **flags} for number, text in enumerate(_SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {text: number for number, text in enumerate(tokens)},
            "merges": [],
        },
    }


def _bytes_as_characters() -> list[str]:
    """The printable character that byte-level tokenizers (GPT-2's `bytes_to_unicode`) write for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(0x100 + place) for place in range(len(others))]
