"""`Idempotency-Key`: a request that is sent again is answered by the turn that the first one began."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from support.serving import Running, ScriptedWorker, each_event, read_events, texts, until

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}
WHOLE = HELLO | {"stream": False}


def key(name: str) -> dict[str, str]:
    return {"Idempotency-Key": name}


async def answer(turn: Running, *words: str) -> None:
    await turn.start()
    for word in words:
        await turn.say(word)
    await turn.finish()


async def depth(worker: ScriptedWorker) -> int:
    return await worker.store.queue.depth()


async def test_a_retry_gets_the_first_answer(client: httpx.AsyncClient, worker: ScriptedWorker):
    asking = asyncio.create_task(client.post("/v1/generate", json=WHOLE, headers=key("a-1")))
    await answer(await worker.take(), "once")
    first = await asking
    assert "idempotent-replayed" not in first.headers
    again = await client.post("/v1/generate", json=WHOLE, headers=key("a-1"))
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    for name in ("x-session-id", "x-generation-id"):
        assert again.headers[name] == first.headers[name]
    # Written in other words, but the same; and as a stream it would be another request.
    text = '{"stream":false, "messages": [{"content": "\\u0048ello", "role":"user"}]}'
    spelled = await client.post("/v1/generate", content=text, headers=key("a-1") | {"Content-Type": "application/json"})
    assert spelled.json() == first.json()
    assert await depth(worker) == 0


async def test_another_request_with_the_key_is_refused(client: httpx.AsyncClient, worker: ScriptedWorker):
    asking = asyncio.create_task(client.post("/v1/generate", json=WHOLE, headers=key("b-1")))
    await answer(await worker.take(), "once")
    await asking
    for other in (WHOLE | {"seed": 5}, HELLO, WHOLE | {"temperature": 0}):
        refused = await client.post("/v1/generate", json=other, headers=key("b-1"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")
    fresh = asyncio.create_task(client.post("/v1/generate", json=WHOLE, headers=key("b-2")))
    await answer(await worker.take(), "twice")
    assert (await fresh).json()["text"] == "twice"


async def test_a_retry_joins_a_stream_that_runs(client: httpx.AsyncClient, worker: ScriptedWorker):
    async with client.stream("POST", "/v1/generate", json=HELLO, headers=key("c-1")) as first:
        turn = await worker.take()
        await turn.start()
        await turn.say("so ")
        async with client.stream("POST", "/v1/generate", json=HELLO, headers=key("c-1")) as second:
            events = each_event(second.aiter_lines())
            assert [(await anext(events))[1] for _ in range(2)] == ["start", "token"]
            await turn.say("far")
            await turn.finish()
            rest = [event async for event in events]
        both = await read_events(first)
    assert (texts(rest), texts(both)) == ("far", "so far")
    assert first.headers["x-generation-id"] == second.headers["x-generation-id"]


async def test_a_client_that_comes_back_with_its_key_finds_its_turn_running(
    client: httpx.AsyncClient, worker: ScriptedWorker
):
    async with client.stream("POST", "/v1/generate", json=HELLO, headers=key("d-1")) as response:
        turn = await worker.take()
        await turn.start()
        await anext(each_event(response.aiter_lines()))
    # It left. A client without a key would have cancelled; the api has noticed once another stream has had a ping.
    async with client.stream("GET", f"/v1/generations/{turn.begun.generation.id}/events?after=1-0") as rest:
        assert await anext(rest.aiter_lines()) == ": ping"
    assert not await worker.store.queue.cancelled([turn.begun.generation.id])
    async with client.stream("POST", "/v1/generate", json=HELLO, headers=key("d-1")) as again:
        await turn.say("still here")
        await turn.finish()
        assert texts(await read_events(again)) == "still here"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_repeat_that_leaves_cancels_nothing(client: httpx.AsyncClient, worker: ScriptedWorker, stream: bool):
    body = HELLO | {"stream": stream, "on_disconnect": "cancel"}
    headers = key(f"e-{stream}")
    first = asyncio.create_task(client.post("/v1/generate", json=body, headers=headers))
    turn = await worker.take()
    await turn.start()
    if stream:
        async with client.stream("POST", "/v1/generate", json=body, headers=headers) as response:
            assert (await anext(each_event(response.aiter_lines())))[1] == "start"
            assert response.headers["idempotent-replayed"] == "true"
    else:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/generate", json=body, headers=headers, timeout=0.4)
    async with client.stream("GET", f"/v1/generations/{turn.begun.generation.id}/events?after=1-0") as rest:
        assert await anext(rest.aiter_lines()) == ": ping"
    assert not await worker.store.queue.cancelled([turn.begun.generation.id])
    await turn.say("whole")
    await turn.finish()
    assert "whole" in (await first).text


async def test_the_first_request_s_wish_to_be_cancelled_stands(client: httpx.AsyncClient, worker: ScriptedWorker):
    body = HELLO | {"on_disconnect": "cancel"}
    async with client.stream("POST", "/v1/generate", json=body, headers=key("f-1")) as response:
        turn = await worker.take()
        await turn.start()
        await turn.say("some")
        events = each_event(response.aiter_lines())
        assert [(await anext(events))[1] for _ in range(2)] == ["start", "token"]
    async with asyncio.timeout(2.0):
        await turn.cancelled()
    await turn.finish("cancelled")
    again = await client.post("/v1/generate", json=body, headers=key("f-1"))
    assert '"finish_reason":"cancelled"' in again.text


async def test_many_at_once_are_one_turn(client: httpx.AsyncClient, worker: ScriptedWorker):
    asking = [asyncio.create_task(client.post("/v1/generate", json=WHOLE, headers=key("g-1"))) for _ in range(5)]
    turn = await worker.take()
    await answer(turn, "one for all")
    responses = await asyncio.gather(*asking)
    assert {response.json()["generation"] for response in responses} == {turn.begun.generation.id}
    assert sum("idempotent-replayed" not in response.headers for response in responses) == 1
    assert await depth(worker) == 0


async def test_a_retry_in_a_busy_session_is_not_told_that_it_is_busy_with_itself(
    client: httpx.AsyncClient, worker: ScriptedWorker
):
    asking = asyncio.create_task(client.post("/v1/generate", json=WHOLE))
    await answer(await worker.take(), "before")
    session = (await asking).json()["session"]
    body = {"session_id": session, "prompt": "y", "stream": False}
    both = [asyncio.create_task(client.post("/v1/generate", json=body, headers=key("h-1"))) for _ in range(3)]
    await answer(await worker.take(), "after")
    assert {response.status_code for response in await asyncio.gather(*both)} == {200}
    other = await client.post("/v1/generate", json=body | {"prompt": "z"}, headers=key("h-1"))
    assert other.status_code == 422
    # The key is of this session: with another one it is new.
    elsewhere = asyncio.create_task(client.post("/v1/generate", json=WHOLE, headers=key("h-1")))
    await answer(await worker.take(), "new")
    assert (await elsewhere).json()["session"] != session


async def test_a_retry_from_a_turn_finds_the_same_fork(client: httpx.AsyncClient, worker: ScriptedWorker):
    asking = asyncio.create_task(client.post("/v1/generate", json=WHOLE))
    await answer(await worker.take(), "one")
    first = (await asking).json()
    asking = asyncio.create_task(
        client.post("/v1/generate", json={"session_id": first["session"], "prompt": "x", "stream": False})
    )
    await answer(await worker.take(), "two")
    await asking
    body = {"session_id": first["session"], "prompt": "y", "from_turn": first["turn"], "stream": False}
    asking = asyncio.create_task(client.post("/v1/generate", json=body, headers=key("i-1")))
    await answer(await worker.take(), "fork")
    forked = (await asking).json()
    assert forked["session"] != first["session"]
    again = await client.post("/v1/generate", json=body, headers=key("i-1"))
    assert again.json() == forked
    both = [asyncio.create_task(client.post("/v1/generate", json=body, headers=key("i-2"))) for _ in range(3)]
    await answer(await worker.take(), "one fork")
    sessions = {response.json()["session"] for response in await asyncio.gather(*both)}
    assert len(sessions) == 1
    listed = (await client.get("/v1/sessions", params={"limit": 100})).json()["data"]
    family = {one["id"] for one in listed if one["id"].startswith(first["session"][:-1])}
    assert family == {first["session"], forked["session"], *sessions}


async def test_a_retry_is_answered_where_no_worker_is(client: httpx.AsyncClient, worker: ScriptedWorker):
    asking = asyncio.create_task(client.post("/v1/generate", json=WHOLE, headers=key("j-1")))
    await answer(await worker.take(), "kept")
    await asking
    await worker.store.queue.retire(worker.id)

    async def away() -> bool:
        return (await client.get("/health/ready")).status_code == 503

    await until(away)
    again = await client.post("/v1/generate", json=WHOLE, headers=key("j-1"))
    assert again.json()["text"] == "kept"
    await worker.store.queue.heartbeat(worker.id, worker.info)


async def test_a_failed_turn_stays_failed(client: httpx.AsyncClient, worker: ScriptedWorker):
    error = {"message": "Damaged.", "type": "server_error", "param": None, "code": "corrupt_state", "status": 500}
    asking = asyncio.create_task(client.post("/v1/generate", json=WHOLE, headers=key("k-1")))
    await (await worker.take()).fail(error)
    first = await asking
    again = await client.post("/v1/generate", json=WHOLE, headers=key("k-1"))
    assert (again.status_code, again.json()) == (first.status_code, first.json()) == (500, first.json())


async def test_a_request_that_was_refused_can_be_sent_again(client: httpx.AsyncClient, worker: ScriptedWorker):
    refused = await client.post("/v1/generate", json=WHOLE | {"session_id": "nonsense"}, headers=key("l-1"))
    assert refused.status_code == 404
    asking = asyncio.create_task(client.post("/v1/generate", json=WHOLE, headers=key("l-1")))
    await answer(await worker.take(), "fine")
    assert (await asking).json()["text"] == "fine"


@pytest.mark.parametrize("name", ["", "x" * 256, "gr\u00fcn", "a\tb"])
async def test_a_key_is_printable_ascii(client: httpx.AsyncClient, worker: ScriptedWorker, name: str):
    refused = await client.post("/v1/generate", json=WHOLE, headers={"Idempotency-Key": name.encode("latin-1")})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "Idempotency-Key")


async def test_the_longest_key_will_do(client: httpx.AsyncClient, worker: ScriptedWorker):
    asking = asyncio.create_task(client.post("/v1/generate", json=WHOLE, headers=key("~" * 255)))
    await answer(await worker.take(), "fine")
    assert (await asking).status_code == 200
