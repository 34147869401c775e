"""A response that is deleted while it is made: it stops, and nothing of it is left."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from server.store import keys as ids
from support.serving import Running, ScriptedWorker, until

PATH = "/v1/responses"
ASK: dict[str, Any] = {"model": "tiny", "input": "zabaglione"}


async def whole(client: httpx.AsyncClient, worker: ScriptedWorker, **fields: Any) -> dict[str, Any]:
    """A response that has ended."""
    asking = asyncio.create_task(client.post(PATH, json=ASK | fields))
    turn = await worker.take()
    await turn.start()
    await turn.say("Hello")
    await turn.finish()
    return dict((await asking).json())


async def begun(client: httpx.AsyncClient, worker: ScriptedWorker, **fields: Any) -> tuple[str, Running]:
    """A background response that has said something; its path."""
    made = await client.post(PATH, json=ASK | {"background": True} | fields)
    assert made.status_code == 200, made.text
    turn = await worker.take()
    await turn.start()
    await turn.say("Hel")
    return f"{PATH}/{made.json()['id']}", turn


async def deleted(client: httpx.AsyncClient, path: str, turn: Running) -> None:
    """Delete it; its worker is told to stop, and commits what it has."""
    deleting = asyncio.create_task(client.delete(path))
    await turn.cancelled()
    await turn.finish("cancelled")
    said = await deleting
    assert said.json() == {"id": path.rpartition("/")[2], "object": "response", "deleted": True}
    for known in (
        await client.get(path),
        await client.delete(path),
        await client.post(f"{path}/cancel"),
        await client.post(PATH, json=ASK | {"previous_response_id": path.rpartition("/")[2]}),
    ):
        assert (known.status_code, known.json()["error"]["code"]) == (404, "response_not_found")
    generation = await client.get(f"/v1/generations/{turn.begun.generation.id}")
    assert generation.status_code == 404


async def keys_of(worker: ScriptedWorker, turn: Running) -> set[str]:
    """The keys of a turn's lineage, by what they are."""
    lineage = ids.lineage_of(turn.begun.generation.id)
    found = await worker.store.context.connection.call("KEYS", f"*{{{lineage}}}*")
    return {name.decode().partition("}:")[2] for name in found}


@pytest.mark.parametrize("said", [True, False])
async def test_a_response_of_its_own_takes_its_session_with_it(
    client: httpx.AsyncClient, worker: ScriptedWorker, said: bool
):
    """Also where it had said nothing yet and so commits nothing."""
    if said:
        path, turn = await begun(client, worker)
    else:
        made = (await client.post(PATH, json=ASK | {"background": True})).json()
        path, turn = f"{PATH}/{made['id']}", await worker.take()
        await turn.start()
    await deleted(client, path, turn)
    assert await keys_of(worker, turn) == {"gone:0"}
    gone = await client.get(f"/v1/sessions/{turn.begun.session.id}")
    assert gone.status_code == 410


async def test_one_that_waits_never_begins(client: httpx.AsyncClient, worker: ScriptedWorker):
    made = (await client.post(PATH, json=ASK | {"background": True})).json()
    session = made["perennial"]["session_id"]
    assert (await client.delete(f"{PATH}/{made['id']}")).status_code == 200
    assert (await client.get(f"{PATH}/{made['id']}")).status_code == 404
    assert (await client.get(f"/v1/sessions/{session}")).status_code == 410
    assert await worker.store.queue.claim(worker.id, 1, 0) == []


async def test_the_session_it_went_on_in_stands_where_it_stood(client: httpx.AsyncClient, worker: ScriptedWorker):
    """In its parent's session, in a conversation, and in a fork that was made for it; what others continued stays."""
    parent = await whole(client, worker)
    session, head = parent["perennial"]["session_id"], parent["perennial"]["turn"]
    before = (await client.get(f"/v1/sessions/{session}")).json()
    path, turn = await begun(client, worker, previous_response_id=parent["id"])
    assert turn.begun.session.id == session
    await deleted(client, path, turn)
    after = (await client.get(f"/v1/sessions/{session}")).json()
    changing = ("updated", "expires", "worker", "tier")
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    turns = (await client.get(f"/v1/sessions/{session}/turns")).json()["data"]
    assert [one["id"] for one in turns] == [head]
    stored = await worker.store.context.connection.call(
        "HKEYS", worker.store.context.keys.turns(ids.lineage_of(session))
    )
    assert stored == [head.encode()]

    child = await whole(client, worker, previous_response_id=parent["id"])
    path, turn = await begun(client, worker, previous_response_id=parent["id"])  # a fork: its parent is no head
    assert turn.begun.session.id != session
    await deleted(client, path, turn)
    assert (await client.get(f"/v1/sessions/{turn.begun.session.id}")).status_code == 410
    for one in (parent, child):
        assert (await client.get(f"{PATH}/{one['id']}")).json() == one

    conversation = (await client.post("/v1/conversations")).json()["id"]
    path, turn = await begun(client, worker, conversation=conversation)
    await deleted(client, path, turn)
    kept = (await client.get(f"/v1/sessions/{turn.begun.session.id}")).json()
    assert (kept["position"], kept["turns_kept"]) == (0, 0)
    assert (await whole(client, worker, conversation=conversation))["conversation"] == {"id": conversation}


async def test_what_a_slow_worker_ends_late_is_taken_back_then(client: httpx.AsyncClient, worker: ScriptedWorker):
    """The answer to a deletion doesn't wait for ever; what is left goes when the turn has ended."""
    path, turn = await begun(client, worker)
    assert (await client.delete(path)).status_code == 200
    assert (await client.get(path)).status_code == 404
    assert (await client.get(f"/v1/sessions/{turn.begun.session.id}")).status_code == 200
    await turn.finish("cancelled")

    async def gone() -> bool:
        return (await client.get(f"/v1/sessions/{turn.begun.session.id}")).status_code == 410

    await until(gone)
    assert await keys_of(worker, turn) == {"gone:0"}
