"""`POST /v1/generate` over real HTTP, with the worker's side played by the test."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import httpx
import pytest

from server.api.auth import LOCAL
from server.errors import CorruptState, FingerprintMismatch, PerennialError, StoreFull, StoreUnavailable
from server.store.records import Status
from support.serving import ScriptedWorker, each_event, read_events, scripted_worker, texts, until, wait_for

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


async def run(worker: ScriptedWorker, *words: str, source: str = "new") -> None:
    turn = await worker.take()
    await turn.start(source)
    for word in words:
        await turn.say(word)
    await turn.finish()


async def test_a_stream_has_start_tokens_and_done_each_with_its_id(client: httpx.AsyncClient, worker: ScriptedWorker):
    answering = asyncio.create_task(run(worker, "Good ", "day", "\nto you"))
    async with client.stream("POST", "/v1/generate", json=HELLO) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        events = await read_events(response)
    await answering
    assert [kind for _, kind, _ in events] == ["start", "token", "token", "token", "done"]
    assert [event_id for event_id, _, _ in events] == ["1-0", "2-0", "3-0", "4-0", "5-0"]
    assert texts(events) == "Good day\nto you"
    start, done = events[0][2], events[-1][2]
    assert response.headers["x-session-id"] == start["session"]
    assert response.headers["x-generation-id"] == start["generation"]
    assert response.headers["x-request-id"]
    assert start["restored"] == {"from": "new", "replayed_tokens": 0}
    assert done["finish_reason"] == "stop"
    assert done["usage"]["completion_tokens"] == 15
    assert done["position"] == done["usage"]["total_tokens"]


async def test_a_whole_answer_is_one_object(client: httpx.AsyncClient, worker: ScriptedWorker):
    answering = asyncio.create_task(run(worker, "Yes", ", it is"))
    response = await client.post("/v1/generate", json={"prompt": "Is it?", "stream": False, "seed": 7})
    await answering
    body = response.json()
    assert response.status_code == 200
    assert body["text"] == "Yes, it is"
    assert bytes(body["token_ids"]) == b"Yes, it is"
    assert (body["finish_reason"], body["seed"], body["position"]) == ("stop", 7, 16)
    assert body["restored"] == {"from": "new", "replayed_tokens": 0}
    assert body["session"] == response.headers["x-session-id"]
    assert body["usage"]["prompt_tokens"] == 6
    assert {"timing", "generation", "turn"} <= set(body)


async def test_the_worker_gets_what_was_asked_for(client: httpx.AsyncClient, worker: ScriptedWorker):
    asked = {
        "input_ids": [72, 105],
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "min_p": 0.05,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.1,
        "frequency_penalty": -0.2,
        "logit_bias": {"65": 1.5},
        "seed": 11,
        "stop": "\n",
        "stop_token_ids": [10, 257],
        "ignore_eos": True,
        "logprobs": 2,
        "store": False,
        "on_disconnect": "continue",
        "stream": False,
    }
    answering = asyncio.create_task(client.post("/v1/generate", json=asked))
    turn = await worker.take()
    request = turn.begun.request
    await turn.start()
    await turn.say("x")
    await turn.finish()
    await answering
    assert request.input_ids == (72, 105)
    assert (request.max_tokens, request.stop, request.ignore_eos, request.logprobs) == (5, ("\n",), True, 2)
    assert request.stop_token_ids == (10, 257)
    assert (request.store, request.raw, request.on_disconnect) == (False, True, "continue")
    bias = {int(token): value for token, value in request.sampling["logit_bias"].items()}
    assert bias == {65: 1.5}
    plain = {name: value for name, value in request.sampling.items() if name != "logit_bias"}
    assert plain == {name: asked[name] for name in plain}
    assert set(plain) == set(asked) & set(request.sampling) - {"logit_bias"}


async def test_a_seed_is_drawn_when_absent_and_reported(client: httpx.AsyncClient, worker: ScriptedWorker):
    seeds = []
    for _ in range(2):
        answering = asyncio.create_task(run(worker, "a"))
        seeds.append((await client.post("/v1/generate", json={"prompt": "x", "stream": False})).json()["seed"])
        await answering
    assert seeds[0] != seeds[1]
    assert all(0 <= seed < 2**53 for seed in seeds)


async def test_the_second_turn_brings_only_its_own_tokens(client: httpx.AsyncClient, worker: ScriptedWorker):
    answering = asyncio.create_task(run(worker, "Hi"))
    first = (await client.post("/v1/generate", json=HELLO | {"stream": False})).json()
    await answering
    again = asyncio.create_task(
        client.post(
            "/v1/generate",
            json={
                "session_id": first["session"],
                "messages": [{"role": "user", "content": "More"}],
                "stream": False,
                "if_turn": first["turn"],
            },
        )
    )
    turn = await worker.take()
    # The answer was cut off ("open"), so its end token comes first, then the new message, then the prompt to answer.
    assert turn.begun.request.input_ids == (
        257,
        *b"\n",
        256,
        *b"user\nMore",
        257,
        *b"\n",
        256,
        *b"assistant\n",
    )
    await turn.start("redis")
    await turn.say("!")
    await turn.finish()
    second = (await again).json()
    assert second["session"] == first["session"]
    assert second["position"] == first["position"] + len(turn.begun.request.input_ids) + 1
    session = (await client.get(f"/v1/sessions/{first['session']}")).json()
    assert (session["position"], session["head"], session["turns_kept"]) == (second["position"], second["turn"], 2)


async def test_a_raw_prompt_that_spells_special_tokens_is_text(client: httpx.AsyncClient, worker: ScriptedWorker):
    answering = asyncio.create_task(client.post("/v1/generate", json={"prompt": "<|im_end|>", "stream": False}))
    turn = await worker.take()
    assert bytes(turn.begun.request.input_ids) == b"<|im_end|>"
    await turn.start()
    await turn.finish()
    assert (await answering).status_code == 200


async def test_done_comes_only_after_the_commit(client: httpx.AsyncClient, worker: ScriptedWorker):
    async with client.stream("POST", "/v1/generate", json=HELLO) as response:
        events = each_event(response.aiter_lines())
        turn = await worker.take()
        await turn.start()
        await turn.say("word")
        assert [(await anext(events))[1] for _ in range(2)] == ["start", "token"]
        following = asyncio.ensure_future(anext(events))
        done, _ = await asyncio.wait({following}, timeout=0.3)
        assert not done
        await turn.finish()
        assert (await following)[1] == "done"
        session = (await client.get(f"/v1/sessions/{turn.begun.session.id}")).json()
        assert session["running"] is None
        assert session["turns_kept"] == 1


async def test_a_silent_stream_is_pinged(client: httpx.AsyncClient, worker: ScriptedWorker):
    async with client.stream("POST", "/v1/generate", json=HELLO) as response:
        turn = await worker.take()
        lines = response.aiter_lines()
        assert await anext(lines) == ": ping"
        await turn.start()
        await turn.finish()
        assert [kind async for _, kind, _ in each_event(lines)] == ["start", "done"]


async def test_a_client_that_leaves_cancels_at_once(client: httpx.AsyncClient, worker: ScriptedWorker):
    async with client.stream("POST", "/v1/generate", json=HELLO) as response:
        turn = await worker.take()
        await turn.start()
        await turn.say("one ")
        events = each_event(response.aiter_lines())
        assert [(await anext(events))[1] for _ in range(2)] == ["start", "token"]
    async with asyncio.timeout(2.0):
        await turn.cancelled()
    await turn.finish("cancelled")
    generation = (await client.get(f"/v1/generations/{turn.begun.generation.id}")).json()
    assert (generation["status"], generation["text"], generation["finish_reason"]) == ("cancelled", "one ", "cancelled")
    session = (await client.get(f"/v1/sessions/{turn.begun.session.id}")).json()
    assert session["turns_kept"] == 1


async def test_a_client_that_leaves_a_whole_answer_cancels_too(client: httpx.AsyncClient, worker: ScriptedWorker):
    asking = asyncio.create_task(client.post("/v1/generate", json=HELLO | {"stream": False}))
    turn = await worker.take()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    async with asyncio.timeout(2.0):
        await turn.cancelled()
    await turn.finish("cancelled")


async def test_on_disconnect_continue_lets_it_run(client: httpx.AsyncClient, worker: ScriptedWorker):
    async with client.stream("POST", "/v1/generate", json=HELLO | {"on_disconnect": "continue"}) as response:
        turn = await worker.take()
        await turn.start()
        events = each_event(response.aiter_lines())
        await anext(events)
    # The api has noticed the departure once another stream of the same generation has had a ping.
    async with client.stream("GET", f"/v1/generations/{turn.begun.generation.id}/events?after=1-0") as rest:
        assert await anext(rest.aiter_lines()) == ": ping"
    assert not await worker.store.queue.cancelled([turn.begun.generation.id])
    await turn.say("all of it")
    await turn.finish()
    generation = (await client.get(f"/v1/generations/{turn.begun.generation.id}")).json()
    assert (generation["status"], generation["text"]) == ("done", "all of it")


async def test_a_stream_goes_on_from_the_last_event_id(client: httpx.AsyncClient, worker: ScriptedWorker):
    answering = asyncio.create_task(run(worker, "a", "b", "c"))
    body = (await client.post("/v1/generate", json=HELLO | {"stream": False})).json()
    await answering
    path = f"/v1/generations/{body['generation']}/events"
    for after in ({"headers": {"Last-Event-ID": "3-0"}}, {"params": {"after": "3"}}, {"params": {"after": "3-0"}}):
        async with client.stream("GET", path, **after) as response:
            events = await read_events(response)
        assert [(event_id, kind) for event_id, kind, _ in events] == [("4-0", "token"), ("5-0", "done")]
    assert (await client.get(path, params={"after": "5-0"})).status_code == 204
    refused = await client.get(path, params={"after": "yesterday"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")


async def test_delete_cancels_and_what_was_streamed_stays(client: httpx.AsyncClient, worker: ScriptedWorker):
    async with client.stream("POST", "/v1/generate", json=HELLO) as response:
        turn = await worker.take()
        await turn.start()
        await turn.say("half")
        deleting = asyncio.create_task(client.delete(f"/v1/generations/{turn.begun.generation.id}"))
        async with asyncio.timeout(2.0):
            await turn.cancelled()
        await turn.finish("cancelled")
        assert (await deleting).json()["status"] == "cancelled"
        events = await read_events(response)
    assert (texts(events), events[-1][2]["finish_reason"]) == ("half", "cancelled")


async def test_delete_ends_a_queued_turn_right_there(client: httpx.AsyncClient, worker: ScriptedWorker):
    async with client.stream("POST", "/v1/generate", json=HELLO) as response:
        generation = response.headers["x-generation-id"]
        answer = await client.delete(f"/v1/generations/{generation}")
        assert (answer.status_code, answer.json()["status"]) == (200, Status.CANCELLED.value)
        assert [kind for _, kind, _ in await read_events(response)] == ["done"]


async def test_a_busy_session_is_refused_or_waited_for(client: httpx.AsyncClient, worker: ScriptedWorker):
    asking = asyncio.create_task(client.post("/v1/generate", json=HELLO | {"stream": False}))
    turn = await worker.take()
    session = turn.begun.session.id
    again = {"session_id": session, "prompt": "and", "stream": False}
    refused = await client.post("/v1/generate", json=again)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_busy")
    assert turn.begun.generation.id in refused.json()["error"]["message"]
    assert (await client.delete(f"/v1/sessions/{session}")).status_code == 409
    waiting = asyncio.create_task(client.post("/v1/generate", json=again | {"wait_s": 10}))
    await turn.start()
    await turn.say("first")
    await turn.finish()
    second = await worker.take()
    assert second.begun.session.length == (await asking).json()["position"]
    await second.start("slot")
    await second.say("second")
    await second.finish()
    assert (await waiting).json()["text"] == "second"


async def test_a_busy_session_is_not_waited_for_beyond_the_limit(client: httpx.AsyncClient, worker: ScriptedWorker):
    asking = asyncio.create_task(client.post("/v1/generate", json=HELLO | {"stream": False}))
    turn = await worker.take()
    again = {"session_id": turn.begun.session.id, "prompt": "and", "stream": False}
    async with asyncio.timeout(5.0):
        refused = await client.post("/v1/generate", json=again | {"wait_s": 3600})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "wait_s")
    await turn.finish()
    await asking


@pytest.mark.parametrize("on_disconnect", ["cancel", "continue"])
async def test_a_client_that_leaves_while_it_waits_for_a_session_is_forgotten(
    serving, client: httpx.AsyncClient, worker: ScriptedWorker, on_disconnect: str
):
    asking = asyncio.create_task(client.post("/v1/generate", json=HELLO | {"stream": False}))
    turn = await worker.take()
    again = {"session_id": turn.begun.session.id, "prompt": "and", "wait_s": 60, "on_disconnect": on_disconnect}
    request_id = f"leaves-{on_disconnect}"
    said = None
    with suppress(httpx.ReadTimeout):
        said = (await client.post("/v1/generate", json=again, headers={"X-Request-Id": request_id}, timeout=0.5)).text
    assert said is None
    # Its line is written while the session is still busy: the api did not wait for the session to find out.
    wait_for(lambda: f'"{request_id}"' in serving.process.errors(), 5.0)
    line = next(line for line in serving.process.errors().splitlines() if f'"{request_id}"' in line)
    assert '"client": "left"' in line
    await turn.finish()
    await asking
    assert await worker.store.queue.depth() == 0


async def test_if_turn_is_a_precondition(client: httpx.AsyncClient, worker: ScriptedWorker):
    answering = asyncio.create_task(run(worker, "one"))
    first = (await client.post("/v1/generate", json=HELLO | {"stream": False})).json()
    await answering
    wrong = first["turn"][:-1] + ("a" if first["turn"][-1] != "a" else "b")
    refused = await client.post(
        "/v1/generate", json={"session_id": first["session"], "prompt": "x", "if_turn": wrong, "stream": False}
    )
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "turn_mismatch")
    assert refused.headers["x-should-retry"] == "false"


async def test_a_worker_s_error_is_the_answer(client: httpx.AsyncClient, worker: ScriptedWorker):
    error = {"message": "The state is damaged.", "type": "server_error", "param": None, "code": "corrupt_state"}
    for stream in (True, False):
        asking = asyncio.create_task(client.post("/v1/generate", json=HELLO | {"stream": stream}))
        turn = await worker.take()
        await turn.start()
        await turn.fail(error | {"status": 500})
        response = await asking
        if stream:
            assert (
                response.text.rstrip().splitlines()[-1].startswith('data: {"error":{"message":"The state is damaged."')
            )
        else:
            assert (response.status_code, response.json()) == (500, {"error": error})
        generation = (await client.get(f"/v1/generations/{turn.begun.generation.id}")).json()
        assert generation["status"] == "failed"
        assert generation["error"]["code"] == "corrupt_state"


@pytest.mark.parametrize(
    ("error", "retry_after", "should_retry"),
    [
        (FingerprintMismatch("Another model."), None, "false"),
        (StoreFull("No room."), None, "false"),
        (StoreUnavailable("Away."), "2", None),
        (CorruptState("Damaged."), None, "false"),
        (PerennialError("Broken."), None, None),
    ],
    ids=lambda value: value.code if isinstance(value, PerennialError) else str(value),
)
async def test_a_failed_turn_answers_with_its_own_status(
    client: httpx.AsyncClient,
    worker: ScriptedWorker,
    error: PerennialError,
    retry_after: str | None,
    should_retry: str | None,
):
    asking = asyncio.create_task(client.post("/v1/generate", json=HELLO | {"stream": False}))
    turn = await worker.take()
    await turn.fail({**error.body()["error"], "status": error.status})
    response = await asking
    assert (response.status_code, response.json()) == (error.status, error.body())
    assert response.headers.get("retry-after") == retry_after
    assert response.headers.get("x-should-retry") == should_retry
    assert response.headers["x-generation-id"] == turn.begun.generation.id


async def test_the_status_of_an_error_unknown_here_is_kept(client: httpx.AsyncClient, worker: ScriptedWorker):
    error = {"message": "Too warm.", "type": "server_error", "param": None, "code": "too_warm"}
    asking = asyncio.create_task(client.post("/v1/generate", json=HELLO | {"stream": False}))
    await (await worker.take()).fail(error | {"status": 503})
    response = await asking
    assert (response.status_code, response.json()) == (503, {"error": error})


async def test_a_full_queue_refuses_before_anything_else_is_done(client: httpx.AsyncClient, worker: ScriptedWorker):
    filling = [asyncio.create_task(client.post("/v1/generate", json=HELLO | {"stream": False})) for _ in range(8)]

    async def full() -> bool:
        return await worker.store.queue.depth() == 8

    await until(full)
    refused = await client.post("/v1/generate", json=HELLO)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
    assert int(refused.headers["retry-after"]) >= 1
    for _ in filling:
        await run(worker, "x")
    assert {response.status_code for response in await asyncio.gather(*filling)} == {200}


async def test_a_session_of_another_model_is_a_conflict_naming_both(serving, client: httpx.AsyncClient):
    fingerprint = serving.tokenizer.fingerprint

    async def served() -> list[str]:
        found: list[str] = (await client.get("/version")).json()["fingerprints"]
        return found

    async with scripted_worker(serving.redis_url, serving.prefix, fingerprint, fingerprint="old") as old:
        assert await served() == ["old"]
        answering = asyncio.create_task(run(old, "one"))
        first = (await client.post("/v1/generate", json=HELLO | {"stream": False})).json()
        await answering
    async with scripted_worker(serving.redis_url, serving.prefix, fingerprint, fingerprint="new"):
        assert await served() == ["new"]
        response = await client.post("/v1/generate", json={"session_id": first["session"], "prompt": "x"})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "fingerprint_mismatch")
    assert "old" in response.json()["error"]["message"]
    assert "new" in response.json()["error"]["message"]


async def test_a_session_is_never_made_for_a_worker_that_has_gone(
    serving, client: httpx.AsyncClient, worker: ScriptedWorker
):
    fingerprint = serving.tokenizer.fingerprint
    for i in range(3):
        async with scripted_worker(serving.redis_url, serving.prefix, fingerprint, fingerprint=f"gone-{i}") as gone:
            gone.info["started"] = 2.0  # younger than the other, so sessions are made for its model
            await gone.store.queue.heartbeat(gone.id, gone.info)
            assert (await client.get("/health/ready")).json()["workers"] == 2
            assert gone.info["fingerprint"] in (await client.get("/version")).json()["fingerprints"]
            for _ in range(2):
                session = (await client.post("/v1/sessions")).json()["id"]
                made = await gone.store.sessions.get_session(LOCAL, session)
                assert made.fingerprint == f"gone-{i}"
        # The api's own look at the workers is up to half a second old by now.
        session = (await client.post("/v1/sessions")).json()["id"]
        assert (await worker.store.sessions.get_session(LOCAL, session)).fingerprint == "model-1"


async def test_the_log_has_ids_and_counts_but_no_text(serving, client: httpx.AsyncClient, worker: ScriptedWorker):
    secret = "tiramisu-4711"
    answering = asyncio.create_task(run(worker, "Delicious"))
    body = {"messages": [{"role": "user", "content": secret}], "stream": False}
    response = await client.post("/v1/generate", json=body, headers={"X-Request-Id": "my-id-1"})
    await answering
    assert response.headers["x-request-id"] == "my-id-1"
    wait_for(lambda: '"request": "my-id-1"' in serving.process.errors())
    log = serving.process.errors()
    assert secret not in log
    assert "Delicious" not in log
    line = next(line for line in log.splitlines() if '"my-id-1"' in line)
    for part in (response.json()["session"], response.json()["generation"], '"status": 200', '"completion_tokens": 9'):
        assert part in line


@pytest.mark.parametrize("given", ["two words", "x" * 200, "a\u00e9".encode().decode("latin-1")])
async def test_a_strange_request_id_is_replaced(client: httpx.AsyncClient, given: str):
    response = await client.get("/health/live", headers={"X-Request-Id": given.encode("latin-1")})
    assert response.headers["x-request-id"].startswith("req_")
