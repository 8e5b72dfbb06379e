"""From a manifest to a streamed completion."""

import time

import openai

from e2e.stack import Stack, wait_for
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.resources import GATEWAY_NODE_PORT, MODEL, static

ASKED_TOKENS = 40


def test_a_manifest_becomes_a_streamed_completion(stack: Stack, apply: Apply) -> None:
    client = openai.OpenAI(base_url=f"{stack.gateway_url}/v1", api_key="none", max_retries=0, timeout=5)

    def stream() -> list[str]:
        try:
            return complete(client)
        except openai.OpenAIError:
            return []

    start = time.monotonic()
    name = apply(static("light", node_port=GATEWAY_NODE_PORT))
    pieces = wait_for(stream, "a streamed completion", timeout_seconds=60, every_seconds=0.25)
    took = time.monotonic() - start
    assert len(pieces) > 1, "the completion came in one piece: it was not streamed"
    assert len("".join(pieces).split()) == ASKED_TOKENS
    resource = until_ready(stack, name)
    assert resource["status"]["prefill"]["summary"] == "1/1"
    assert resource["status"]["decode"]["summary"] == "1/1"
    assert "finalizers" not in resource["metadata"]
    print(f"\nfirst completion {took:.1f} s after apply")


def complete(client: openai.OpenAI) -> list[str]:
    """Stream one completion; its pieces."""
    events = client.completions.create(
        model=MODEL, prompt="Hello", max_tokens=ASKED_TOKENS, stream=True, extra_body={"ignore_eos": True}
    )
    return [event.choices[0].text for event in events if event.choices and event.choices[0].text]
