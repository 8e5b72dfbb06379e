"""Whole requests on an engine without disaggregation: /generate and the OpenAI endpoints."""

import asyncio
import itertools
import json

SAMPLING = {"max_new_tokens": 4, "temperature": 0, "ignore_eos": True}


async def test_tokenize(regular):
    """entrypoints/openai/serving_tokenize.py; ids of the model's own vocabulary."""
    for path in ("/v1/tokenize", "/tokenize"):
        status, answer = await regular.post(path, {"model": "any", "prompt": "hello, Straße"})
        assert status == 200
        assert set(answer) == {"tokens", "count", "max_model_len"}
        assert answer["count"] == len(answer["tokens"]) > 0
        body = {"input_ids": answer["tokens"], "sampling_params": {"max_new_tokens": 1}}
        assert (await regular.post("/generate", body))[0] == 200


async def test_generate(regular):
    """managers/tokenizer_manager.py: _handle_batch_output; schedule_batch.py: FINISH_LENGTH."""
    status, answer = await regular.post("/generate", {"input_ids": [5, 6, 7], "sampling_params": SAMPLING})
    assert status == 200
    assert len(answer["output_ids"]) == 4
    meta = answer["meta_info"]
    assert meta["finish_reason"] == {"type": "length", "length": 4}
    assert (meta["prompt_tokens"], meta["completion_tokens"]) == (3, 4)
    assert meta["weight_version"] == "default"
    assert meta["e2e_latency"] > 0


async def test_generate_keeps_the_request_id(regular, rid):
    """managers/io_struct.py: GenerateReqInput.rid."""
    _, answer = await regular.post("/generate", {"text": "hello", "rid": rid, "sampling_params": SAMPLING})
    assert answer["meta_info"]["id"] == rid


async def test_generate_streams_the_whole_text_each_time(regular):
    """entrypoints/http_server.py: serve_generate_request; not incremental by default."""
    status, events = await regular.stream("/generate", {"input_ids": [5, 6, 7], "sampling_params": SAMPLING})
    assert status == 200
    assert events[-1] == "[DONE]"
    answers = [json.loads(event) for event in events[:-1]]
    for earlier, later in itertools.pairwise(answers):
        assert later["output_ids"][: len(earlier["output_ids"])] == earlier["output_ids"]
        assert earlier["meta_info"]["finish_reason"] is None
    assert len(answers[-1]["output_ids"]) == 4
    assert answers[-1]["meta_info"]["finish_reason"] == {"type": "length", "length": 4}


async def test_generate_with_no_new_tokens(regular):
    """sampling/sampling_params.py: max_new_tokens may be 0, not less."""
    status, answer = await regular.post("/generate", {"text": "a", "sampling_params": {"max_new_tokens": 0}})
    assert (status, answer["meta_info"]["completion_tokens"], answer["output_ids"]) == (200, 0, [])
    status, answer = await regular.post("/generate", {"text": "a", "sampling_params": {"max_new_tokens": -1}})
    assert (status, answer) == (400, {"error": {"message": "max_new_tokens must be at least 0, got -1."}})


async def test_generate_without_a_prompt(regular):
    """managers/io_struct.py: _validate_inputs."""
    status, answer = await regular.post("/generate", {})
    assert (status, answer["error"]["message"]) == (400, "Either text, input_ids or input_embeds should be provided.")
    assert (await regular.post("/generate", {"input_ids": []}))[0] == 400


async def test_generate_with_broken_json(regular):
    """entrypoints/http_server.py: RequestValidationError becomes 400."""
    async with regular.http.post(
        regular.url + "/generate", data='{"text":', headers={"Content-Type": "application/json"}
    ) as got:
        assert got.status == 400
        assert (await got.json())["type"] == "Bad Request"


async def test_more_tokens_than_the_context_holds(regular):
    """managers/tokenizer_manager.py: _validate_one_request; three shapes of the same refusal."""
    context = (await regular.json("/v1/models"))["data"][0]["max_model_len"]
    native = {"input_ids": [5], "sampling_params": {"max_new_tokens": context + 1}}
    status, answer = await regular.post("/generate", native)
    assert status == 400
    message = answer["error"]["message"]
    assert message.startswith(f"Requested token count exceeds the model's maximum context length of {context} tokens.")
    status, events = await regular.stream("/generate", native)
    assert status == 200
    assert json.loads(events[0])["error"] == {
        "message": message, "type": "invalid_request_error", "code": 400, "retryable": False,
    }  # fmt: skip
    openai = {"model": "any", "prompt": [5], "max_tokens": context + 1}
    expected = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": 400}
    assert await regular.post("/v1/completions", openai) == (400, expected)
    assert await regular.post("/v1/completions", {**openai, "stream": True}) == (400, expected)


async def test_prompt_longer_than_the_context(regular):
    """managers/tokenizer_manager.py: _validate_one_request."""
    context = (await regular.json("/v1/models"))["data"][0]["max_model_len"]
    status, answer = await regular.post("/generate", {"input_ids": [5] * context, "sampling_params": SAMPLING})
    expected = f"The input ({context} tokens) is longer than the model's context length ({context} tokens)."
    assert (status, answer["error"]["message"]) == (400, expected)


async def test_completion(regular):
    """entrypoints/openai/serving_completions.py: _build_completion_response."""
    body = {"model": "any", "prompt": [5, 6, 7], "max_tokens": 4, "temperature": 0, "ignore_eos": True}
    status, answer = await regular.post("/v1/completions", body)
    assert status == 200
    assert set(answer) == {"id", "object", "created", "model", "choices", "usage", "metadata"}
    assert (answer["object"], answer["model"]) == ("text_completion", "any")
    (choice,) = answer["choices"]
    assert set(choice) == {"index", "text", "logprobs", "finish_reason", "matched_stop"}
    assert choice["finish_reason"] == "length"
    assert answer["usage"] == {
        "prompt_tokens": 3, "total_tokens": 7, "completion_tokens": 4, "prompt_tokens_details": None,
        "reasoning_tokens": 0, "completion_tokens_details": None,
    }  # fmt: skip


async def test_completion_stream(regular):
    """serving_completions.py: _generate_completion_stream; the usage event leaves out what is null."""
    body = {"model": "any", "prompt": [5, 6, 7], "max_tokens": 4, "temperature": 0, "ignore_eos": True}
    status, events = await regular.stream("/v1/completions", {**body, "stream_options": {"include_usage": True}})
    assert status == 200
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert all(set(chunk) == {"id", "object", "created", "model", "choices", "usage"} for chunk in chunks)
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {"prompt_tokens": 3, "total_tokens": 7, "completion_tokens": 4, "reasoning_tokens": 0}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]][-1] == "length"
    _, events = await regular.stream("/v1/completions", body)
    assert json.loads(events[-2])["choices"]


async def test_chat(regular):
    """entrypoints/openai/serving_chat.py: _build_chat_response."""
    messages = [{"role": "user", "content": "hello"}]
    body = {"model": "any", "messages": messages, "max_tokens": 4, "temperature": 0, "ignore_eos": True}
    status, answer = await regular.post("/v1/chat/completions", body)
    assert status == 200
    assert answer["object"] == "chat.completion"
    (choice,) = answer["choices"]
    assert set(choice) == {"index", "message", "logprobs", "finish_reason", "matched_stop"}
    assert set(choice["message"]) == {"role", "content", "reasoning_content"}
    assert choice["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] == 4
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 4


async def test_chat_stream(regular):
    """serving_chat.py: _generate_chat_stream; openai/sse_utils.py: build_sse_content."""
    messages = [{"role": "user", "content": "hello"}]
    body = {"model": "any", "messages": messages, "max_completion_tokens": 4, "temperature": 0, "ignore_eos": True}
    options = {"include_usage": True, "continuous_usage_stats": True}
    status, events = await regular.stream("/v1/chat/completions", {**body, "stream_options": options})
    assert status == 200
    first, *middle, last, usage = [json.loads(event) for event in events[:-1]]
    assert first["object"] == "chat.completion.chunk"
    assert first["choices"][0]["delta"] == {"reasoning_content": None, "role": "assistant", "content": ""}
    assert "usage" not in first
    assert all(set(chunk["choices"][0]["delta"]) == {"reasoning_content", "content"} for chunk in middle)
    assert all(chunk["usage"]["completion_tokens"] <= 4 for chunk in middle)
    assert last["choices"][0]["delta"] == {"reasoning_content": None}
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 4


async def test_openai_refusals(regular):
    """http_server.py: validate_json_request; protocol.py: max_tokens; serving_chat.py: _validate_request."""
    async with regular.http.post(regular.url + "/v1/completions", data='{"prompt": "x"}') as answer:
        assert answer.status == 400
        assert "Only 'application/json' is allowed" in (await answer.json())["message"]
    for body in ({"model": "any"}, {"prompt": "x", "max_tokens": 0}):
        status, answer = await regular.post("/v1/completions", body)
        assert (status, answer["type"]) == (400, "Bad Request")
    status, answer = await regular.post("/v1/chat/completions", {"messages": []})
    assert (status, answer["message"]) == (400, "Messages cannot be empty.")


async def test_a_request_id_in_use(regular, rid):
    """managers/tokenizer_manager.py: _init_req_state."""
    body = {"input_ids": [5], "rid": rid, "sampling_params": {"max_new_tokens": 3000, "ignore_eos": True}}
    running = asyncio.create_task(regular.post("/generate", body))
    await regular.until(lambda load: load["num_running_reqs"] == 1)
    status, answer = await regular.post("/generate", body)
    assert (status, answer) == (400, {"error": {"message": f"Duplicate request ID detected: {rid}"}})
    await regular.post("/abort_request", {"rid": rid})
    assert (await running)[0] == 200


async def test_abort(regular, rid):
    """managers/scheduler.py: abort_request; a running request ends with what it has, finish reason abort."""
    body = {"input_ids": [5], "rid": rid, "sampling_params": {"max_new_tokens": 3000, "ignore_eos": True}}
    running = asyncio.create_task(regular.post("/generate", body))
    await regular.until(lambda load: load["num_running_reqs"] == 1)
    assert (await regular.post("/abort_request", {"rid": rid}))[0] == 200
    status, answer = await running
    assert status == 200
    assert answer["meta_info"]["finish_reason"]["type"] == "abort"
    assert answer["meta_info"]["completion_tokens"] < 3000
    await regular.until_idle()


async def test_client_that_leaves_aborts(regular):
    """entrypoints/http_server.py: create_abort_task."""
    body = {"input_ids": [5], "stream": True, "sampling_params": {"max_new_tokens": 3000, "ignore_eos": True}}
    async with regular.http.post(regular.url + "/generate", json=body) as answer:
        await answer.content.readany()
        await regular.until(lambda load: load["num_running_reqs"] == 1)
    await asyncio.sleep(0)
    await regular.until(lambda load: load["num_running_reqs"] == 0, seconds=20)
    await regular.until_idle()
