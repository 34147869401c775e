"""Chat completions over real HTTP, with a worker that says what a test wants: shapes, endings, refusals, departures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from support.serving import Running, ScriptedWorker

PATH = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "zabaglione"}]}


async def chunks(response: httpx.Response) -> AsyncIterator[Any]:
    """What a stream says, its last word as a text."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            said = line.removeprefix("data: ")
            yield said if said == "[DONE]" else json.loads(said)
        else:
            assert not line or line.startswith(":")


async def answer(worker: ScriptedWorker, *words: str, reason: str = "stop") -> Running:
    turn = await worker.take()
    await turn.start()
    for word in words:
        await turn.say(word)
    await turn.finish(reason)
    return turn


async def whole(client: httpx.AsyncClient, worker: ScriptedWorker, reason: str = "stop", **fields: Any) -> Any:
    asking = asyncio.create_task(client.post(PATH, json=ASK | fields))
    turn = await answer(worker, "Hel", "lo", reason=reason)
    response = await asking
    assert response.status_code == 200, response.text
    assert response.headers["x-session-id"] == turn.begun.session.id
    assert response.headers["x-generation-id"] == turn.begun.generation.id
    return response.json()


async def test_a_whole_answer_has_the_documented_shape(client: httpx.AsyncClient, worker: ScriptedWorker):
    body = await whole(client, worker, metadata={"a": "b"}, seed=5)
    about = body.pop("perennial")
    assert body["id"].startswith("chatcmpl-")
    assert (body["object"], body["model"], body["metadata"]) == ("chat.completion", "tiny", {"a": "b"})
    assert body["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    read = len("<user\nzabaglione>\n<assistant\n")
    assert body["usage"] == {
        "prompt_tokens": read,
        "completion_tokens": 5,
        "total_tokens": read + 5,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert (about["seed"], about["known_messages"], about["why"], about["continued_from"]) == (5, 0, None, None)
    assert about["turn"].removeprefix("turn_") == about["generation"].removeprefix("gen_")


@pytest.mark.parametrize(
    ("ours", "theirs"), [("eos", "stop"), ("stop", "stop"), ("length", "length"), ("cancelled", "stop")]
)
async def test_endings_have_openais_names(client: httpx.AsyncClient, worker: ScriptedWorker, ours: str, theirs: str):
    assert (await whole(client, worker, ours))["choices"][0]["finish_reason"] == theirs


async def test_what_was_asked_reaches_the_worker(client: httpx.AsyncClient, worker: ScriptedWorker):
    fields = {
        "max_tokens": 7,
        "max_completion_tokens": 9,
        "stop": "x",
        "top_p": 0.5,
        "logit_bias": {"5": -1},
        "seed": 2,
    }
    more = {"presence_penalty": 1, "frequency_penalty": -1, "logprobs": True, "top_logprobs": 3, "top_k": 4}
    asking = asyncio.create_task(client.post(PATH, json=ASK | fields | more))
    request = (await answer(worker, "a")).begun.request
    await asking
    assert (request.max_tokens, request.stop, request.logprobs, request.on_disconnect) == (9, ("x",), 3, "cancel")
    assert request.history is not None
    sampling = request.sampling
    assert (sampling["top_p"], sampling["top_k"], sampling["seed"], sampling["logit_bias"]) == (0.5, 4, 2, {"5": -1})
    assert (sampling["presence_penalty"], sampling["frequency_penalty"]) == (1, -1)


async def test_a_stream_ends_in_its_usage_and_done(client: httpx.AsyncClient, worker: ScriptedWorker):
    asked = ASK | {"stream": True, "stream_options": {"include_usage": True}}
    async with asyncio.TaskGroup() as group:
        group.create_task(answer(worker, "Hel", "lo", reason="length"))
        async with client.stream("POST", PATH, json=asked) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            *said, last, done = [chunk async for chunk in chunks(response)]
    assert done == "[DONE]"
    assert [one["choices"][0]["delta"] for one in said] == [
        {"role": "assistant", "content": ""},
        {"content": "Hel"},
        {"content": "lo"},
        {},
    ]
    assert [one["choices"][0]["finish_reason"] for one in said] == [None, None, None, "length"]
    assert all(one["usage"] is None for one in said)
    assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 5)
    assert {one["object"] for one in (*said, last)} == {"chat.completion.chunk"}


async def test_choices_are_told_apart_and_seeded_apart(client: httpx.AsyncClient, worker: ScriptedWorker):
    async with client.stream("POST", PATH, json=ASK | {"stream": True, "n": 2, "seed": 5}) as response:
        turns = [await worker.take(), await worker.take()]
        turns.sort(key=lambda turn: turn.begun.request.sampling["seed"] != 5)
        for turn in turns:
            await turn.start()
        for word in "ab":
            for i, turn in enumerate(turns):
                await turn.say(f"{word}{i}")
        for turn in turns:
            await turn.finish()
        said = [chunk async for chunk in chunks(response)][:-1]
    texts = ["", ""]
    for one in said:
        texts[one["choices"][0]["index"]] += one["choices"][0]["delta"].get("content", "")
    assert texts == ["a0b0", "a1b1"]
    assert len({turn.begun.session.id for turn in turns}) == 2
    assert len({turn.begun.request.sampling["seed"] for turn in turns}) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_every_choice(
    client: httpx.AsyncClient, worker: ScriptedWorker, stream: bool
):
    asking = asyncio.create_task(client.post(PATH, json=ASK | {"n": 3, "stream": stream}))
    turns = [await worker.take() for _ in range(3)]
    for turn in turns:
        await turn.start()
        await turn.say("a")
    asking.cancel()
    for turn in turns:
        await turn.cancelled()
        await turn.finish("cancelled")


async def test_an_error_in_mid_stream_is_said_and_ends_the_others(client: httpx.AsyncClient, worker: ScriptedWorker):
    async with client.stream("POST", PATH, json=ASK | {"stream": True, "n": 2}) as response:
        one, two = await worker.take(), await worker.take()
        await one.start()
        await one.say("a")
        await two.start()
        await two.fail({"message": "It broke.", "type": "server_error", "code": "corrupt_state", "status": 500})
        *_, last = [chunk async for chunk in chunks(response)]
    assert last == {"error": {"message": "It broke.", "type": "server_error", "param": None, "code": "corrupt_state"}}
    await one.cancelled()
    await one.finish("cancelled")


async def test_an_error_of_a_whole_answer_has_its_status(client: httpx.AsyncClient, worker: ScriptedWorker):
    asking = asyncio.create_task(client.post(PATH, json=ASK))
    turn = await worker.take()
    await turn.fail({"message": "It broke.", "type": "server_error", "code": "corrupt_state", "status": 500})
    response = await asking
    assert (response.status_code, response.json()["error"]["code"]) == (500, "corrupt_state")


REFUSED: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({"model": "gpt-9"}, 404, "model", "model_not_found"),
    ({"stream_options": {"include_usage": True}}, 400, "stream_options", "invalid_request"),
    ({"top_logprobs": 2}, 400, "top_logprobs", "invalid_request"),
    ({"max_completion_tokens": 4097}, 400, "max_completion_tokens", "invalid_request"),
    ({"max_tokens": 4097}, 400, "max_tokens", "invalid_request"),
    ({"logit_bias": {"999": 1}}, 400, "logit_bias", "invalid_request"),
    ({"wait_s": 3600}, 400, "wait_s", "invalid_request"),
    ({"tools": [{}]}, 400, "tools", "invalid_request"),
    ({"nonsense": 1}, 400, "nonsense", "unknown_parameter"),
    ({"session_id": "sess_nothing"}, 404, None, "session_not_found"),
    ({"session_id": "sess_nothing", "n": 2}, 404, None, "session_not_found"),
    ({"messages": [{"role": "tool", "content": "a", "tool_call_id": "c"}]}, 400, "messages", "invalid_request"),
    ({"messages": [{"role": "user", "content": "x"}] * 20_001}, 413, None, "too_large"),
]


@pytest.mark.parametrize(("fields", "status", "param", "code"), REFUSED, ids=[str(f)[:40] for f, *_ in REFUSED])
async def test_what_cannot_be_done_is_refused_by_name(
    client: httpx.AsyncClient, worker: ScriptedWorker, fields: dict[str, Any], status: int, param: str, code: str
):
    response = await client.post(PATH, json=ASK | fields)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (status, param, code)
    assert "zabaglione" not in response.text


async def test_choices_in_a_session_share_their_base(client: httpx.AsyncClient, worker: ScriptedWorker):
    first = (await whole(client, worker))["perennial"]
    asking = asyncio.create_task(client.post(PATH, json=ASK | {"session_id": first["session_id"], "n": 2}))
    turns = [await answer(worker, "x"), await answer(worker, "y")]
    about = (await asking).json()["perennial"]
    assert {turn.begun.session.head for turn in turns} == {first["turn"]}
    assert about["session_id"] == first["session_id"]
    assert about["choices"][1]["session_id"] not in (first["session_id"], None)


async def test_nothing_of_a_message_is_logged(serving, client: httpx.AsyncClient, worker: ScriptedWorker):
    await whole(client, worker)
    assert "zabaglione" not in serving.process.errors()
