"""Request bodies, checked as SGLang checks them, and turned into what the engine takes.

Fields that change nothing here (temperature, stop words, ...) are accepted and ignored. What would change the answer
and is not simulated (batches of prompts, n > 1) is refused, rather than answered wrongly.
"""

import uuid
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from dopd_simulator.options import Options
from dopd_simulator.request import Rendezvous, Request
from dopd_simulator.text import chat_tokens, text_tokens

Tokens = Annotated[int, Field(ge=1)]


class OutsideVocabularyError(Exception):
    """A prompt has an id that the model does not."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())

    rid: str | None = None
    stream: bool = False
    bootstrap_host: str | None = None
    bootstrap_port: int | None = None
    bootstrap_room: int | None = None
    priority: int | None = None

    def rendezvous(self, default_port: int) -> Rendezvous | None:
        """Where the gateway lets prefill and decode meet, if it did."""
        if self.bootstrap_room is None:
            return None
        port = default_port if self.bootstrap_port is None else self.bootstrap_port
        return Rendezvous(self.bootstrap_host or "", port, self.bootstrap_room)


class Sampling(BaseModel):
    """SGLang's own sampling parameters, those that matter here."""

    model_config = ConfigDict(extra="ignore")

    max_new_tokens: int | None = 128
    ignore_eos: bool = False
    stream_interval: Annotated[int, Field(ge=1)] | None = None
    n: int = 1


class GenerateBody(_Body):
    """Body of /generate."""

    text: str | list[str] | None = None
    input_ids: list[int] | list[list[int]] | None = None
    sampling_params: Sampling = Sampling()


class StreamOptions(BaseModel):
    """`stream_options` of the OpenAI endpoints."""

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class _OpenAIBody(_Body):
    model: str = "default"
    n: int = 1
    ignore_eos: bool = False
    stream_options: StreamOptions | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with a usage event."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def continuous_usage(self) -> bool:
        """Whether each stream event carries usage."""
        return bool(self.stream_options and self.stream_options.continuous_usage_stats)


class CompletionBody(_OpenAIBody):
    """Body of /v1/completions."""

    prompt: str | list[int] | list[str] | list[list[int]]
    max_tokens: Tokens = 16


class Message(BaseModel):
    """One chat message; content may be parts, of which the texts count."""

    model_config = ConfigDict(extra="ignore")

    role: str
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """All text of the message."""
        if isinstance(self.content, list):
            return "".join(str(part.get("text", "")) for part in self.content)
        return self.content or ""


class ChatBody(_OpenAIBody):
    """Body of /v1/chat/completions."""

    messages: list[Message]
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None


class TokenizeBody(BaseModel):
    """Body of /v1/tokenize."""

    model_config = ConfigDict(extra="ignore")

    prompt: str


class RoleSwitchBody(BaseModel):
    """Body of /pd_role_switch."""

    new_role: Literal["prefill", "decode", ""] = ""
    decode_cuda_graph_bs: list[int] | None = None
    decode_cuda_graph_memory_gb: float | None = None
    prepare_only: bool = False


class PauseBody(BaseModel):
    """Body of /pause_generation."""

    mode: Literal["abort", "retract", "in_place"] = "abort"


class SlowDownBody(BaseModel):
    """Body of /slow_down."""

    forward_sleep_time: float | None


class AbortBody(BaseModel):
    """Body of /abort_request."""

    rid: str | None = None
    abort_all: bool = False


def generate_request(body: GenerateBody, options: Options, kv_tokens: int) -> Request:
    """The request that /generate asks of an engine with `kv_tokens` of KV cache.

    Raises:
        ValueError: SGLang would refuse it, or the simulator cannot do it.
        OutsideVocabularyError: a real engine would take it and die.
    """
    if (body.text is None) == (body.input_ids is None):
        raise ValueError("Either text, input_ids or input_embeds should be provided.")
    prompt = body.text if body.text is not None else body.input_ids
    sampling = body.sampling_params
    if sampling.n != 1:
        raise ValueError(f"sampling_params.n={sampling.n}: the simulator generates one answer a request")
    if sampling.max_new_tokens is not None and sampling.max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must be at least 0, got {sampling.max_new_tokens}.")
    interval = sampling.stream_interval or options.stream_interval
    tokens = _prompt_tokens(prompt)
    if any(isinstance(each, int) and not 0 <= each < options.sim_vocabulary for each in prompt or ()):
        raise OutsideVocabularyError
    return _request(body, options, kv_tokens, tokens, sampling.max_new_tokens, sampling.ignore_eos, interval)


def openai_request(body: CompletionBody | ChatBody, options: Options, kv_tokens: int) -> Request:
    """The request that an OpenAI endpoint asks of an engine with `kv_tokens` of KV cache.

    Raises:
        ValueError: SGLang would refuse it, or the simulator cannot do it.
    """
    if body.n != 1:
        raise ValueError(f"n={body.n}: the simulator generates one answer a request; ask once for each")
    allowed: int | None
    if isinstance(body, CompletionBody):
        tokens, allowed = _prompt_tokens(body.prompt), body.max_tokens
    elif not body.messages:
        raise ValueError("Messages cannot be empty.")
    else:
        tokens = chat_tokens(message.text for message in body.messages)
        allowed = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    return _request(body, options, kv_tokens, tokens, allowed, body.ignore_eos, options.stream_interval)


def _prompt_tokens(prompt: object) -> int:
    if isinstance(prompt, str):
        return max(1, text_tokens(prompt))
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], int):
        return len(prompt)
    if prompt == []:
        raise ValueError("input_ids cannot be empty.")
    raise ValueError("a batch of prompts is not simulated; send one request for each prompt")


def _request(
    body: _Body,
    options: Options,
    kv_tokens: int,
    prompt_tokens: int,
    allowed: int | None,
    ignore_eos: bool,
    interval: int,
) -> Request:
    context = options.context_length
    if prompt_tokens >= context:
        raise ValueError(
            f"The input ({prompt_tokens} tokens) is longer than the model's context length ({context} tokens)."
        )
    if allowed is not None and prompt_tokens + allowed > context:
        raise ValueError(
            f"Requested token count exceeds the model's maximum context length of {context} tokens. You requested a "
            f"total of {prompt_tokens + allowed} tokens: {prompt_tokens} tokens from the input messages and {allowed} "
            "tokens for the completion. Please reduce the number of tokens in the input messages or the completion to "
            "fit within the limit."
        )
    longest = longest_input(context, kv_tokens)
    if prompt_tokens >= longest:
        raise ValueError(
            f"Input length ({prompt_tokens} tokens) exceeds the maximum allowed length ({longest} tokens). "
            "Use a shorter input or enable --allow-auto-truncate."
        )
    room = min(context, kv_tokens) - 1 - prompt_tokens - 1
    limit = room if allowed is None else min(allowed, room)
    return Request(
        rid=body.rid or uuid.uuid4().hex,
        prompt_tokens=prompt_tokens,
        max_new_tokens=limit,
        length=limit if ignore_eos else min(limit, options.sim_output_tokens),
        stream=body.stream,
        stream_interval=interval,
        rendezvous=body.rendezvous(options.disaggregation_bootstrap_port),
        priority=_priority(body, options),
    )


def _priority(body: _Body, options: Options) -> int | None:
    if body.priority is None and options.enable_priority_scheduling:
        return options.default_priority_value
    return body.priority


def longest_input(context_length: int, kv_tokens: int) -> int:
    """SGLang's `max_req_input_len` (tp_worker.py): what fits the context and the KV cache, less a margin."""
    return min(context_length, kv_tokens) - 6
