"""Forking, rewinding and looking at sessions over real HTTP, and turns from any turn."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from support.serving import ScriptedWorker, each_event, read_events, texts


async def say(
    client: httpx.AsyncClient, worker: ScriptedWorker, word: str, *, warm: bool = False, **fields: Any
) -> dict[str, Any]:
    """One whole turn that answers `word`."""
    asking = asyncio.create_task(client.post("/v1/generate", json={"prompt": "x", "stream": False, **fields}))
    turn = await worker.take()
    await turn.start()
    await turn.say(word)
    await turn.finish(warm=warm)
    body: dict[str, Any] = (await asking).json()
    assert body["text"] == word
    return body


async def conversation(client: httpx.AsyncClient, worker: ScriptedWorker, *words: str) -> list[dict[str, Any]]:
    """Turns of one session; each appends the prompt's one token and its word's."""
    bodies = [await say(client, worker, words[0])]
    for word in words[1:]:
        bodies.append(await say(client, worker, word, session_id=bodies[0]["session"]))
    return bodies


async def see(client: httpx.AsyncClient, session: str) -> dict[str, Any]:
    response = await client.get(f"/v1/sessions/{session}")
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def test_a_session_says_what_there_is_to_know(client: httpx.AsyncClient, worker: ScriptedWorker):
    *_, last = await conversation(client, worker, "one", "two", "three" * 5)
    seen = await see(client, last["session"])
    assert set(seen) == {
        *("id", "object", "model", "position", "state_bytes", "stored_bytes", "turns", "turns_kept", "tier"),
        *("window_start", "head", "running", "origin", "created", "updated", "expires"),
    }
    assert (seen["turns"], seen["turns_kept"], seen["head"], seen["origin"]) == (3, 3, last["turn"], None)
    assert (seen["position"], seen["window_start"]) == (34, 34 - 16)
    assert seen["stored_bytes"] > 300


@pytest.mark.parametrize("fields", [{}, {"from_turn": "head"}], ids=["by its session", "by its turn"])
async def test_a_look_at_the_memory_holds_nobody_up(
    client: httpx.AsyncClient, worker: ScriptedWorker, fields: dict[str, str]
):
    """A turn that arrives meanwhile is run after it, in that session: it is not refused, and no fork is made."""
    first = await say(client, worker, "one")
    looking = asyncio.create_task(client.get(f"/v1/sessions/{first['session']}/memory"))
    look = await worker.take()
    more = dict.fromkeys(fields, first["turn"])
    asking = asyncio.create_task(say(client, worker, "two", session_id=first["session"], **more))
    for _ in range(5):  # the turn is at the door by then
        assert (await see(client, first["session"]))["running"] == look.begun.generation.id
    await look.start()
    await look.operate()
    assert (await looking).status_code == 200
    second = await asking
    assert second["session"] == first["session"]
    assert (await see(client, first["session"]))["turns"] == 2


async def test_the_tier_is_that_of_a_live_worker(serving, client: httpx.AsyncClient, worker: ScriptedWorker):
    first = await say(client, worker, "one", warm=True)
    assert (await see(client, first["session"]))["tier"] == "slot"
    await worker.store.turns.place(worker.id, [(first["session"], first["turn"], "ram")])
    assert (await see(client, first["session"]))["tier"] == "ram"
    await worker.store.queue.retire(worker.id)
    gone = await see(client, first["session"])
    assert (gone["tier"], gone["window_start"]) == ("redis", None)


async def test_the_kept_turns_are_listed_newest_first(client: httpx.AsyncClient, worker: ScriptedWorker):
    bodies = await conversation(client, worker, "a", "bb", "ccc")
    path = f"/v1/sessions/{bodies[0]['session']}/turns"
    listed = (await client.get(path)).json()
    assert (listed["object"], listed["has_more"], listed["after"]) == ("list", False, None)
    assert [turn["id"] for turn in listed["data"]] == [body["turn"] for body in reversed(bodies)]
    assert [(turn["tokens"], turn["length"]) for turn in listed["data"]] == [(4, 9), (3, 5), (2, 2)]
    assert [turn["parent"] for turn in listed["data"]] == [bodies[1]["turn"], bodies[0]["turn"], None]
    assert {(turn["finish"], turn["end"], turn["object"]) for turn in listed["data"]} == {("stop", "raw", "turn")}
    one = (await client.get(path, params={"limit": 1, "after": bodies[2]["turn"]})).json()
    assert ([turn["id"] for turn in one["data"]], one["has_more"]) == ([bodies[1]["turn"]], True)
    assert one["after"] == bodies[1]["turn"]
    for query, status in (({"after": "turn_x"}, 404), ({"limit": 0}, 400), ({"order": "asc"}, 400)):
        refused = await client.get(path, params=query)
        assert (refused.status_code, refused.json()["error"]["param"]) == (status, next(iter(query)))
    empty = (await client.post("/v1/sessions")).json()["id"]
    assert (await client.get(f"/v1/sessions/{empty}/turns")).json()["data"] == []


async def test_a_fork_goes_its_own_way(client: httpx.AsyncClient, worker: ScriptedWorker):
    bodies = await conversation(client, worker, "a", "bb", "ccc")
    session = bodies[0]["session"]
    made = await client.post(f"/v1/sessions/{session}/fork", json={"at_turn": bodies[1]["turn"]})
    fork = made.json()
    assert (made.status_code, made.headers["location"]) == (201, f"/v1/sessions/{fork['id']}")
    assert made.headers["x-session-id"] == fork["id"] != session
    assert (fork["head"], fork["position"], fork["turns"]) == (bodies[1]["turn"], 5, 2)
    assert fork["origin"] == {"session": session, "turn": bodies[1]["turn"]}
    ours = await say(client, worker, "dddd", session_id=fork["id"], if_turn=bodies[1]["turn"])
    assert (ours["position"], (await see(client, session))["head"]) == (10, bodies[2]["turn"])
    at_head = (await client.post(f"/v1/sessions/{session}/fork")).json()
    assert (at_head["head"], at_head["position"]) == (bodies[2]["turn"], 9)
    assert (await client.delete(f"/v1/sessions/{session}")).status_code == 200
    assert len((await client.get(f"/v1/sessions/{fork['id']}/turns")).json()["data"]) == 3


@pytest.mark.parametrize("at_turn", ["nonsense", "turn_00000000000000000000_000000000000", "a turn of another session"])
async def test_a_fork_at_no_turn_of_the_session_is_refused(
    client: httpx.AsyncClient, worker: ScriptedWorker, at_turn: str
):
    mine, other = await say(client, worker, "a"), await say(client, worker, "b")
    body = {"at_turn": other["turn"] if " " in at_turn else at_turn}
    refused = await client.post(f"/v1/sessions/{mine['session']}/fork", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "turn_not_found")
    asked = {"session_id": mine["session"], "prompt": "x", "from_turn": body["at_turn"]}
    refused = await client.post("/v1/generate", json=asked)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "turn_not_found")


async def test_a_session_is_rewound_and_goes_on(client: httpx.AsyncClient, worker: ScriptedWorker):
    bodies = await conversation(client, worker, "a", "bb", "ccc")
    session = bodies[0]["session"]
    rewound = await client.post(f"/v1/sessions/{session}/rewind", json={"turns": 1})
    assert (rewound.status_code, rewound.json()["head"], rewound.json()["position"]) == (200, bodies[1]["turn"], 5)
    exact = await client.post(f"/v1/sessions/{session}/rewind", json={"to_turn": bodies[0]["turn"]})
    assert (exact.json()["head"], exact.json()["turns"], exact.json()["position"]) == (bodies[0]["turn"], 1, 2)
    again = await say(client, worker, "zz", session_id=session)
    assert again["position"] == 5
    all_of_it = (await client.post(f"/v1/sessions/{session}/rewind", json={"turns": 2})).json()
    assert (all_of_it["head"], all_of_it["tier"], all_of_it["position"]) == (None, "new", 0)
    too_far = await client.post(f"/v1/sessions/{session}/rewind", json={"turns": 1})
    assert (too_far.status_code, too_far.json()["error"]["code"]) == (404, "turn_not_found")


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("rewind", {}, None),
        ("rewind", {"turns": 1, "to_turn": "x"}, None),
        ("rewind", {"turns": 0}, "turns"),
        ("rewind", {"turns": "1"}, "turns"),
        ("rewind", {"turns": True}, "turns"),
        ("rewind", {"to_turn": 5}, "to_turn"),
        ("rewind", {"at_turn": "x"}, "at_turn"),
        ("fork", {"at_turn": ""}, "at_turn"),
        ("fork", {"turns": 1}, "turns"),
    ],
)
async def test_a_wrong_body_is_named(
    client: httpx.AsyncClient, worker: ScriptedWorker, path: str, body: dict[str, Any], param: str | None
):
    session = (await client.post("/v1/sessions")).json()["id"]
    refused = await client.post(f"/v1/sessions/{session}/{path}", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


async def test_what_is_unknown_is_not_found(client: httpx.AsyncClient, worker: ScriptedWorker):
    for session in ("nonsense", "sess_00000000000000000000_0"):
        for method, path, body in (
            ("GET", "turns", None),
            ("GET", "export", None),
            ("POST", "fork", {}),
            ("POST", "rewind", {"turns": 1}),
        ):
            refused = await client.request(method, f"/v1/sessions/{session}/{path}", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "session_not_found")


async def test_a_busy_session_is_forked_at_its_last_turn_and_not_rewound(
    client: httpx.AsyncClient, worker: ScriptedWorker
):
    first = await say(client, worker, "one")
    session = first["session"]
    asked = {"session_id": session, "prompt": "x", "stream": False}
    asking = asyncio.create_task(client.post("/v1/generate", json=asked))
    turn = await worker.take()
    refused = await client.post(f"/v1/sessions/{session}/rewind", json={"turns": 1})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "session_busy")
    fork = (await client.post(f"/v1/sessions/{session}/fork")).json()
    assert (fork["head"], fork["running"]) == (first["turn"], None)
    await turn.finish()
    await asking


async def test_from_the_head_of_an_idle_session_it_just_goes_on(client: httpx.AsyncClient, worker: ScriptedWorker):
    first = await say(client, worker, "one")
    second = await say(client, worker, "two", session_id=first["session"], from_turn=first["turn"])
    assert (second["session"], second["position"]) == (first["session"], 8)


async def test_from_an_earlier_turn_a_fork_goes_on(client: httpx.AsyncClient, worker: ScriptedWorker):
    bodies = await conversation(client, worker, "one", "two")
    session = bodies[0]["session"]
    asked = {"session_id": session, "prompt": "y", "from_turn": bodies[0]["turn"]}
    async with client.stream("POST", "/v1/generate", json=asked) as response:
        forked = response.headers["x-session-id"]
        turn = await worker.take()
        await turn.start()
        await turn.say("other")
        await turn.finish()
        events = await read_events(response)
    assert events[0][2]["session"] == forked != session
    assert (events[0][2]["position"], texts(events)) == (4, "other")
    seen = await see(client, forked)
    assert seen["origin"] == {"session": session, "turn": bodies[0]["turn"]}
    assert (await see(client, session))["head"] == bodies[1]["turn"]


async def test_two_children_of_one_turn_do_not_collide(client: httpx.AsyncClient, worker: ScriptedWorker):
    first = await say(client, worker, "one")
    asked = {"session_id": first["session"], "prompt": "y", "from_turn": first["turn"], "stream": False}
    asking = [asyncio.create_task(client.post("/v1/generate", json=asked)) for _ in range(3)]
    turns = [await worker.take() for _ in asking]
    for turn in turns:
        await turn.start()
        await turn.say("child")
        await turn.finish()
    bodies = [(await one).json() for one in asking]
    assert len({body["session"] for body in bodies}) == 3
    assert {body["position"] for body in bodies} == {10}


async def test_a_fork_for_a_turn_that_is_not_stored_goes_with_it(client: httpx.AsyncClient, worker: ScriptedWorker):
    bodies = await conversation(client, worker, "one", "two")
    session = bodies[0]["session"]
    body = await say(client, worker, "fleeting", session_id=session, from_turn=bodies[0]["turn"], store=False)
    assert body["session"] != session
    assert (await client.get(f"/v1/sessions/{body['session']}")).status_code in (404, 410)
    assert len((await client.get(f"/v1/sessions/{session}/turns")).json()["data"]) == 2


async def test_a_turn_that_is_refused_leaves_no_fork(client: httpx.AsyncClient, worker: ScriptedWorker):
    bodies = await conversation(client, worker, "one", "two")
    before = {one["id"] for one in (await client.get("/v1/sessions", params={"limit": 100})).json()["data"]}
    asked = {"session_id": bodies[0]["session"], "input_ids": [300], "from_turn": bodies[0]["turn"]}
    refused = await client.post("/v1/generate", json=asked)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input_ids[0]")
    assert {one["id"] for one in (await client.get("/v1/sessions", params={"limit": 100})).json()["data"]} == before


@pytest.mark.parametrize(
    "wrong",
    [{"from_turn": "t"}, {"session_id": "s", "from_turn": "t", "if_turn": "t"}, {"session_id": "s", "from_turn": 1}],
)
async def test_from_turn_is_checked(client: httpx.AsyncClient, worker: ScriptedWorker, wrong: dict[str, Any]):
    refused = await client.post("/v1/generate", json={"prompt": "x", **wrong})
    assert refused.status_code == 400
    assert "from_turn" in refused.json()["error"]["message"]


async def test_waiting_for_a_busy_session_is_measured(client: httpx.AsyncClient, worker: ScriptedWorker):
    async def waits() -> dict[str, float]:
        name = "perennial_busy_session_wait_seconds_count"
        lines = (await client.get("/metrics")).text.splitlines()
        return {line.split('"')[1]: float(line.split()[-1]) for line in lines if line.startswith(name)}

    before = await waits()
    asking = asyncio.create_task(client.post("/v1/generate", json={"prompt": "x", "stream": False}))
    turn = await worker.take()
    again = {"session_id": turn.begun.session.id, "prompt": "y", "stream": False}
    assert (await client.post("/v1/generate", json=again | {"wait_s": 0.1})).status_code == 409
    waiting = asyncio.create_task(client.post("/v1/generate", json=again | {"wait_s": 20}))
    await turn.say("first")
    await turn.finish()
    await asking
    second = await worker.take()
    await second.finish()
    await waiting
    after = await waits()
    assert after.get("refused", 0) - before.get("refused", 0) == 1
    # The second may have come when the session was free already.
    assert after.get("taken", 0) - before.get("taken", 0) in (0, 1)


async def test_a_stream_taken_up_is_counted(client: httpx.AsyncClient, worker: ScriptedWorker):
    async def resumes() -> float:
        lines = (await client.get("/metrics")).text.splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith("perennial_stream_resumes_total"))

    first = await say(client, worker, "one")
    before = await resumes()
    path = f"/v1/generations/{first['generation']}/events"
    async with client.stream("GET", path, params={"after": "1-0"}) as response:
        assert [kind async for _, kind, _ in each_event(response.aiter_lines())] == ["token", "done"]
    async with client.stream("GET", path) as response:
        await read_events(response)
    assert await resumes() - before == 1
