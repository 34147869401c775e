"""Responses and conversations over real HTTP, with a worker that says what a test wants."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from model.tokenizer import Tokenizer
from server.store import keys as ids
from support.serving import Running, ScriptedWorker

PATH = "/v1/responses"
ASK: dict[str, Any] = {"model": "tiny", "input": "zabaglione"}


async def answer(worker: ScriptedWorker, *words: str, reason: str = "stop") -> Running:
    turn = await worker.take()
    await turn.start()
    for word in words:
        await turn.say(word)
    await turn.finish(reason)
    return turn


async def ask(
    client: httpx.AsyncClient, worker: ScriptedWorker, *, reason: str = "stop", **fields: Any
) -> tuple[dict[str, Any], Running]:
    asking = asyncio.create_task(client.post(PATH, json=ASK | fields))
    turn = await answer(worker, "Hel", "lo", reason=reason)
    response = await asking
    assert response.status_code == 200, response.text
    return dict(response.json()), turn


def events_of(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    names = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert names == [event["type"] for event in found]
    return found


def text_of(response: dict[str, Any]) -> str:
    return "".join(part["text"] for item in response["output"] for part in item["content"])


async def forget_events(worker: ScriptedWorker, turn: Running, *, ending: bool = False) -> None:
    """As if its events had expired; ending: and nobody had noted how it ended."""
    keys, call, gid = worker.store.context.keys, worker.store.context.connection.call, turn.begun.generation.id
    await call("DEL", keys.generation(gid), keys.events(gid))
    if ending:
        await call("HDEL", keys.responses(ids.lineage_of(gid)), gid.rpartition("_")[2] + ":end")


async def test_a_response_has_the_documented_shape_and_can_be_had_again(
    client: httpx.AsyncClient, worker: ScriptedWorker
):
    body, turn = await ask(client, worker, metadata={"a": "b"}, seed=5, instructions="Be brief.", user="me")
    generation = turn.begun.generation
    assert body["id"] == ids.response_of(generation.id)
    assert body["output"] == [
        {
            "id": "msg_" + body["id"].removeprefix("resp_"),
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
        }
    ]
    read = len(turn.begun.request.input_ids)
    assert body["usage"] == {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + 5,
    }
    said = {name: body[name] for name in ("object", "status", "model", "metadata", "instructions", "user", "store")}
    assert said == {
        "object": "response",
        "status": "completed",
        "model": "tiny",
        "metadata": {"a": "b"},
        "instructions": "Be brief.",
        "user": "me",
        "store": True,
    }
    assert (body["error"], body["incomplete_details"], body["previous_response_id"], body["conversation"]) == (
        None,
    ) * 4
    assert body["perennial"]["turn"] == ids.turn_of(generation.id)
    assert body["perennial"]["seed"] == 5
    again = await client.get(f"{PATH}/{body['id']}")
    assert again.json() == body
    assert again.headers["x-session-id"] == generation.session
    # When its events have expired, and also where nobody noted how it ended.
    await forget_events(worker, turn)
    assert (await client.get(f"{PATH}/{body['id']}")).json() == body
    await forget_events(worker, turn, ending=True)
    rebuilt = (await client.get(f"{PATH}/{body['id']}")).json()
    assert (rebuilt["output"], rebuilt["usage"], rebuilt["status"]) == (body["output"], body["usage"], "completed")
    refused = await client.get(f"{PATH}/{body['id']}", params={"stream": "true"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "stream")


async def test_events_are_numbered_alike_wherever_one_begins(client: httpx.AsyncClient, worker: ScriptedWorker):
    asking = asyncio.create_task(client.post(PATH, json=ASK | {"stream": True}))
    turn = await answer(worker, "Hel", "lo")
    events = events_of((await asking).text)
    assert [event["type"].removeprefix("response.") for event in events] == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *("output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["delta"] for event in events if "delta" in event] == ["Hel", "lo"]
    assert events[6]["text"] == "Hello"
    whole = (await client.get(f"{PATH}/{ids.response_of(turn.begun.generation.id)}")).json()
    assert events[-1]["response"] == whole
    assert (events[0]["response"]["status"], events[0]["response"]["output"]) == ("in_progress", [])
    for after in (None, 0, 4, len(events) - 1):
        query = {"stream": "true"} | ({} if after is None else {"starting_after": str(after)})
        rest = await client.get(f"{PATH}/{whole['id']}", params=query)
        assert events_of(rest.text) == events[0 if after is None else after + 1 :]
    refused = await client.get(f"{PATH}/{whole['id']}", params={"starting_after": "3"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "starting_after")


async def test_two_responses_continue_one(client: httpx.AsyncClient, worker: ScriptedWorker):
    parent, first = await ask(client, worker)
    head = first.begun.session
    children = [await ask(client, worker, previous_response_id=parent["id"], input=word) for word in ("one", "two")]
    turn = parent["perennial"]["turn"]
    assert [child["previous_response_id"] for child, _ in children] == [parent["id"]] * 2
    assert [run.begun.session.head for _, run in children] == [turn] * 2
    assert [run.begun.session.id == head.id for _, run in children] == [True, False]
    assert [child["usage"]["input_tokens_details"]["cached_tokens"] for child, _ in children] == [
        first.begun.session.length + parent["usage"]["total_tokens"]
    ] * 2
    # Instructions of before stand; new ones are read after them.
    _, run = await ask(client, worker, previous_response_id=children[0][0]["id"], instructions="In French.")
    assert bytes(i for i in run.begun.request.input_ids if i < 256).startswith(
        b"\nsystem\nIn French.\nuser\nzabaglione"
    )


async def test_what_cannot_be_continued_is_said(client: httpx.AsyncClient, worker: ScriptedWorker):
    begun = await client.post(PATH, json=ASK | {"background": True})
    name = begun.json()["id"]
    turn = await worker.take()
    busy = await client.post(PATH, json=ASK | {"previous_response_id": name})
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "session_busy")
    await turn.start()
    await turn.fail({"message": "It broke.", "type": "server_error", "code": "internal_error", "param": None})
    failed = (await client.get(f"{PATH}/{name}")).json()
    assert (failed["status"], failed["error"]) == ("failed", {"code": "server_error", "message": "It broke."})
    nothing = await client.post(PATH, json=ASK | {"previous_response_id": name})
    assert (nothing.status_code, nothing.json()["error"]["code"]) == (404, "turn_not_found")
    await forget_events(worker, turn)
    assert (await client.get(f"{PATH}/{name}")).json() == failed


async def test_a_failure_is_an_error_or_an_event(client: httpx.AsyncClient, worker: ScriptedWorker):
    for stream in (False, True):
        asking = asyncio.create_task(client.post(PATH, json=ASK | {"stream": stream}))
        turn = await worker.take()
        await turn.start()
        await turn.say("He")
        await turn.fail(
            {"message": "Full.", "type": "server_error", "code": "store_full", "param": None, "status": 507}
        )
        response = await asking
        if stream:
            last = events_of(response.text)[-1]
            assert (last["type"], last["response"]["error"]["message"]) == ("response.failed", "Full.")
        else:
            assert (response.status_code, response.json()["error"]["code"]) == (507, "store_full")


async def test_a_cut_answer_is_incomplete(client: httpx.AsyncClient, worker: ScriptedWorker):
    body, _ = await ask(client, worker, reason="length", max_output_tokens=5)
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert body["output"][0]["status"] == "incomplete"


async def test_a_background_response_is_made_without_its_client(client: httpx.AsyncClient, worker: ScriptedWorker):
    begun = (await client.post(PATH, json=ASK | {"background": True})).json()
    assert (begun["status"], begun["background"], begun["output"]) == ("queued", True, [])
    turn = await worker.take()
    await turn.start()
    await turn.say("Hel")
    path = f"{PATH}/{begun['id']}"
    running = (await client.get(path)).json()
    assert (running["status"], text_of(running), running["usage"]) == ("in_progress", "Hel", None)
    # A client that follows and leaves disturbs nothing.
    async with client.stream("GET", path, params={"stream": "true", "starting_after": "3"}) as following:
        lines = following.aiter_lines()
        assert await anext(lines) == "event: response.output_text.delta"
    await turn.say("lo")
    cancelling = asyncio.create_task(client.post(f"{path}/cancel"))
    await turn.cancelled()
    await turn.finish("cancelled")
    cancelled = (await cancelling).json()
    assert (cancelled["status"], text_of(cancelled)) == ("cancelled", "Hello")
    assert (await client.get(path)).json() == cancelled
    assert (await client.post(f"{path}/cancel")).json() == cancelled
    rest = events_of((await client.get(path, params={"stream": "true", "starting_after": "5"})).text)
    assert (rest[-1]["type"], rest[-1]["response"]) == ("response.incomplete", cancelled)
    # What it had said stands, and can be continued.
    child, _ = await ask(client, worker, previous_response_id=begun["id"])
    assert child["perennial"]["continued_from"] == cancelled["perennial"]["turn"]


async def test_one_that_waits_is_cancelled_at_once(client: httpx.AsyncClient, worker: ScriptedWorker):
    begun = (await client.post(PATH, json=ASK | {"background": True})).json()
    cancelled = (await client.post(f"{PATH}/{begun['id']}/cancel")).json()
    assert (cancelled["status"], cancelled["output"], cancelled["usage"]) == ("cancelled", [], None)
    events = events_of((await client.get(f"{PATH}/{begun['id']}", params={"stream": "true"})).text)
    assert [event["type"] for event in events] == ["response.created", "response.incomplete"]
    body, _ = await ask(client, worker)
    refused = await client.post(f"{PATH}/{body['id']}/cancel")
    assert refused.status_code == 400
    assert "background" in refused.json()["error"]["message"]


async def test_a_client_that_leaves_cancels(client: httpx.AsyncClient, worker: ScriptedWorker):
    async with client.stream("POST", PATH, json=ASK | {"stream": True}):
        turn = await worker.take()
        await turn.start()
    await turn.cancelled()
    await turn.finish("cancelled")
    async with client.stream("POST", PATH, json=ASK | {"stream": True, "background": True}):
        turn = await worker.take()
        await turn.start()
    await turn.say("yes")
    await turn.finish()
    name = ids.response_of(turn.begun.generation.id)
    said = (await client.get(f"{PATH}/{name}")).json()
    assert (said["status"], text_of(said)) == ("completed", "yes")


async def test_what_is_not_stored_is_nowhere(client: httpx.AsyncClient, worker: ScriptedWorker):
    body, _ = await ask(client, worker, store=False)
    assert (text_of(body), body["store"], body["perennial"]["session_id"]) == ("Hello", False, None)
    for known in (
        await client.get(f"{PATH}/{body['id']}"),
        await client.post(PATH, json=ASK | {"previous_response_id": body["id"]}),
    ):
        assert (known.status_code, known.json()["error"]["code"]) == (404, "response_not_found")


async def test_a_deleted_response_leaves_its_turn(client: httpx.AsyncClient, worker: ScriptedWorker):
    body, _ = await ask(client, worker)
    child, _ = await ask(client, worker, previous_response_id=body["id"])
    deleted = await client.delete(f"{PATH}/{body['id']}")
    assert deleted.json() == {"id": body["id"], "object": "response", "deleted": True}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        assert (await client.request(method, f"{PATH}/{body['id']}{path}")).status_code == 404
    assert (await client.post(PATH, json=ASK | {"previous_response_id": body["id"]})).status_code == 404
    assert (await client.get(f"{PATH}/{child['id']}")).json() == child
    turns = (await client.get(f"/v1/sessions/{body['perennial']['session_id']}/turns")).json()["data"]
    assert [turn["id"] for turn in turns] == [child["perennial"]["turn"], body["perennial"]["turn"]]


async def test_an_idempotency_key_names_one_response(client: httpx.AsyncClient, worker: ScriptedWorker):
    headers = {"Idempotency-Key": "a-response"}
    asking = asyncio.create_task(client.post(PATH, json=ASK, headers=headers))
    await answer(worker, "once")
    first = await asking
    again = await client.post(PATH, json=ASK, headers=headers)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"


async def test_a_conversation_is_a_session(client: httpx.AsyncClient, worker: ScriptedWorker, serving: Any):
    tokenizer: Tokenizer = serving.tokenizer
    assert tokenizer.chat is not None
    items = [
        {"type": "message", "role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Ho", "annotations": []}]},
    ]
    made = (await client.post("/v1/conversations", json={"items": items, "metadata": {"a": "b"}})).json()
    name = made["id"]
    assert made | {"created_at": 0} == {"id": name, "object": "conversation", "created_at": 0, "metadata": {"a": "b"}}
    assert (await client.get(f"/v1/conversations/{name}")).json() == made
    first, run = await ask(client, worker, conversation=name)
    assert first["conversation"] == {"id": name}
    plain = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"},
        {"role": "user", "content": "zabaglione"},
    ]
    assert list(run.begun.request.input_ids) == tokenizer.chat.render_first(plain)
    second, run = await ask(client, worker, conversation={"id": name}, input="more")
    assert list(run.begun.request.input_ids) == tokenizer.chat.render_next(
        [{"role": "user", "content": "more"}], after="open"
    )
    assert run.begun.session.id == first["perennial"]["session_id"] == name.replace("conv_", "sess_")
    changed = await client.post(f"/v1/conversations/{name}", json={"metadata": {"c": "d"}})
    assert changed.json()["metadata"] == {"c": "d"}
    assert (await client.get(f"/v1/conversations/{name}")).json() == changed.json()
    running = asyncio.create_task(client.post(PATH, json=ASK | {"conversation": name}))
    turn = await worker.take()
    busy = await client.post(PATH, json=ASK | {"conversation": name})
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "session_busy")
    await turn.start()
    await turn.finish()
    assert (await running).status_code == 200
    deleted = await client.delete(f"/v1/conversations/{name}")
    assert deleted.json() == {"id": name, "object": "conversation.deleted", "deleted": True}
    assert (await client.get(f"/v1/conversations/{name}")).status_code == 410
    assert (await client.get(f"{PATH}/{second['id']}")).status_code == 404
    for unknown in ("conv_0", "x", name.replace("conv_", "sess_"), name[:-1] + "7"):
        refused = await client.get(f"/v1/conversations/{unknown}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "conversation_not_found")
    assert (await client.post("/v1/conversations")).json()["metadata"] == {}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user", "content": ""}]}, "input[0]"),
        ({"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "json_object"}}}, "text"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"truncation": "never"}, "truncation"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"include": ["reasoning.encrypted_content"]}, None),
        ({"top_logprobs": 2}, None),
        ({"background": True, "store": False}, None),
        ({"previous_response_id": "resp_x", "conversation": "conv_x"}, None),
        ({"max_output_tokens": 10**6}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"metadata": {"a": 1}}, "metadata.a"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(
    client: httpx.AsyncClient, worker: ScriptedWorker, fields: dict[str, Any], param: str | None
):
    refused = await client.post(PATH, json=ASK | fields)
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, param), error
    if param is None:
        assert any(name in error["message"] for name in fields), error
    else:
        assert param.partition("[")[0].partition(".")[0] in error["message"]


async def test_neutral_values_and_logprobs_are_taken(client: httpx.AsyncClient, worker: ScriptedWorker):
    neutral = {
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "text": {"format": {"type": "text"}},
        "truncation": "auto",
        "service_tier": "auto",
        "reasoning": {},
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
    }
    body, run = await ask(client, worker, **neutral)
    assert run.begun.request.logprobs == 2
    assert (body["truncation"], body["top_logprobs"]) == ("auto", 2)
    # An answer's items can be sent again as they are.
    _, run = await ask(client, worker, input=[*body["output"], {"role": "user", "content": "And?"}])
    assert b"assistant\nHello" in bytes(i for i in run.begun.request.input_ids if i < 256)
    missing = await client.post(PATH, json=ASK | {"model": "gpt-5"})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
