"""Sessions out and in over real HTTP: equal afterwards; what is wrong is refused by name and leaves nothing."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.torch import load

from fixtures_store import own_keys
from model.spec_hash import spec_hash
from server.store.archive_format import Archive, write_archive
from server.store.archive_manifest import TurnEntry
from server.store.records import LeafBytes, Outcome, Snapshot
from support.serving import Running, ScriptedWorker, running_api, scripted_worker, until

OCTETS = {"Content-Type": "application/octet-stream"}
LEAVES = [("position", (), "int64", None), ("pending", (), "int64", None), ("k", (2, 128, 4), "bfloat16", 1)]
SPEC = spec_hash(LEAVES)


@pytest.fixture
async def stateful(worker: ScriptedWorker) -> ScriptedWorker:
    """A worker whose model has the leaves above."""
    worker.info["state_spec"] = SPEC
    await worker.store.queue.heartbeat(worker.id, worker.info)
    return worker


def state(position: int, pending: int) -> Snapshot:
    return Snapshot(
        "model-1",
        SPEC,
        position,
        {
            "position": LeafBytes("int64", (), None, position.to_bytes(8, "little")),
            "pending": LeafBytes("int64", (), None, (pending + 1).to_bytes(8, "little")),
            "k": LeafBytes("bfloat16", (2, 128, 4), 1, random.Random(position).randbytes(2048)),
        },
    )


async def converse(
    client: httpx.AsyncClient, worker: ScriptedWorker, *words: str, save: bool = False, **fields: Any
) -> dict[str, Any]:
    """A turn per word, of one session; the last turn's answer. save: a snapshot after each."""
    body: dict[str, Any] = {}
    for word in words:
        asked = {"prompt": "x", "stream": False, **fields} | ({"session_id": body["session"]} if body else {})
        asking = asyncio.create_task(client.post("/v1/generate", json=asked))
        turn = await worker.take()
        await turn.start()
        await turn.say(word)
        await turn.finish()
        body = (await asking).json()
        if save:
            await keep(worker, turn, body, word)
    return body


async def keep(worker: ScriptedWorker, turn: Running, body: dict[str, Any], word: str) -> None:
    snapshot = state(body["position"] - 1, word.encode()[-1])
    outcome = await worker.store.snapshots.put_snapshot(turn.begun.session, turn.begun.fence, body["turn"], snapshot)
    assert outcome is Outcome.OK


async def export(client: httpx.AsyncClient, session: str) -> bytes:
    response = await client.get(f"/v1/sessions/{session}/export")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"] == f'attachment; filename="{session}.safetensors"'
    assert int(response.headers["content-length"]) == len(response.content)
    return response.content


async def bring(client: httpx.AsyncClient, data: bytes) -> httpx.Response:
    return await client.post("/v1/sessions/import", content=data, headers=OCTETS)


def archive(tokens: list[int], fingerprint: str = "model-1", saved: Snapshot | None = None) -> Archive:
    turn = TurnEntry(
        id="a" * 12, parent=None, count=len(tokens), length=len(tokens), end="raw", finish="stop", created=0.0
    )
    snapshots = {turn.id: saved} if saved else {}
    spec = saved.spec_hash if saved else None
    return Archive("tiny", fingerprint, spec, 1, (turn,), np.array(tokens, np.int32), snapshots)


@pytest.mark.parametrize("save", [True, False])
async def test_exported_deleted_and_imported_it_is_the_same(
    client: httpx.AsyncClient, stateful: ScriptedWorker, save: bool
):
    body = await converse(client, stateful, "one", "two", "three", save=save)
    before = (await client.get(f"/v1/sessions/{body['session']}")).json()
    data = await export(client, body["session"])
    assert (await client.delete(f"/v1/sessions/{body['session']}")).status_code == 200
    made = await bring(client, data)
    after = made.json()
    assert (made.status_code, made.headers["location"]) == (201, f"/v1/sessions/{after['id']}")
    assert made.headers["x-session-id"] == after["id"] != before["id"]
    same = ("model", "position", "state_bytes", "stored_bytes", "turns", "turns_kept", "tier", "window_start")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert load(await export(client, after["id"])).keys() == load(data).keys()
    listed = (await client.get(f"/v1/sessions/{after['id']}/turns")).json()["data"]
    assert [turn["length"] for turn in listed] == [14, 8, 4]
    # What a worker is given for the next turn is what it would have been given.
    asking = asyncio.create_task(
        client.post("/v1/generate", json={"session_id": after["id"], "prompt": "y", "stream": False})
    )
    turn = await stateful.take()
    assert (turn.begun.session.length, turn.begun.request.input_ids) == (14, tuple(b"y"))
    run = [token for one in await stateful.store.turns.read_turns(turn.begun.session) for token in one.tokens]
    assert bytes(run) == b"xonextwoxthree"
    assert turn.begun.session.head is not None
    kept = await stateful.store.snapshots.get_snapshot(after["id"], turn.begun.session.head)
    assert (kept is not None) is save
    assert kept is None or {n: bytes(x.data) for n, x in kept.leaves.items()} == {
        n: bytes(x.data) for n, x in state(13, ord("e")).leaves.items()
    }
    await turn.start()
    await turn.finish()
    await asking


async def test_a_file_is_whole_while_a_turn_runs(client: httpx.AsyncClient, stateful: ScriptedWorker):
    body = await converse(client, stateful, "one")
    asked = {"session_id": body["session"], "prompt": "x", "stream": False}
    asking = asyncio.create_task(client.post("/v1/generate", json=asked))
    turn = await stateful.take()
    made = (await bring(client, await export(client, body["session"]))).json()
    assert (made["position"], made["running"]) == (4, None)
    await turn.finish()
    await asking


async def test_an_empty_session_is_a_file_too(client: httpx.AsyncClient, worker: ScriptedWorker):
    empty = (await client.post("/v1/sessions")).json()["id"]
    made = (await bring(client, await export(client, empty))).json()
    assert (made["position"], made["head"], made["tier"]) == (0, None, "new")


async def refused(
    client: httpx.AsyncClient, worker: ScriptedWorker, data: bytes, status: int, code: str, *words: str
) -> None:
    """It is refused with these words, and the store is what it was."""
    before = set(await own_keys(worker.store))
    response = await bring(client, data)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code), response.text
    assert all(word in response.json()["error"]["message"] for word in words), response.text
    # A turn's notes of other tests may expire meanwhile.
    assert set(await own_keys(worker.store)) <= before


async def test_what_is_no_session_is_refused(client: httpx.AsyncClient, stateful: ScriptedWorker):
    body = await converse(client, stateful, "one", "two", save=True)
    data = await export(client, body["session"])
    changed = bytearray(data)
    changed[-1] ^= 1
    for wrong, word in (
        (b"", "not a safetensors file"),
        (b"\x80\x04K\x01.", "not a safetensors file"),
        (data[:-7], "truncated"),
        (data[:300], "truncated"),
        (bytes(changed), "checksum"),
        (data.replace(b'"version":"1"', b'"version":"7"'), "version 7"),
    ):
        await refused(client, stateful, wrong, 400, "invalid_archive", word)


async def test_another_model_s_session_is_a_conflict_naming_both(client: httpx.AsyncClient, stateful: ScriptedWorker):
    data = write_archive(archive([1, 2, 3], "elsewhere-9"))
    await refused(client, stateful, data, 409, "fingerprint_mismatch", "elsewhere-9", "model-1")
    odd = Snapshot("model-1", "f" * 16, 2, state(2, 3).leaves)
    data = write_archive(archive([1, 2, 3], saved=odd))
    await refused(client, stateful, data, 409, "fingerprint_mismatch", "f" * 16, SPEC)


@pytest.mark.parametrize("tokens", [[1, 258], [1, 2**31 - 1], [-1, 2], [1, 2, 300, 4]])
async def test_tokens_outside_the_vocabulary_are_refused(
    client: httpx.AsyncClient, stateful: ScriptedWorker, tokens: list[int]
):
    await refused(client, stateful, write_archive(archive(tokens)), 400, "invalid_archive", "tokens", "257")


@pytest.mark.parametrize(
    "leaf",
    [
        LeafBytes("float16", (2, 128, 4), 1, bytes(2048)),
        LeafBytes("bfloat16", (2, 64, 8), 1, bytes(2048)),
        LeafBytes("bfloat16", (2, 128, 4), 2, bytes(2048)),
        LeafBytes("bfloat16", (2, 128, 4), None, bytes(2048)),
        LeafBytes("bfloat16", (1, 128, 4), 1, bytes(1024)),
    ],
)
async def test_leaves_that_are_not_the_specification_s_are_refused(
    client: httpx.AsyncClient, stateful: ScriptedWorker, leaf: LeafBytes
):
    lying = Snapshot("model-1", SPEC, 2, {**state(2, 3).leaves, "k": leaf})
    data = write_archive(archive([1, 2, 3], saved=lying))
    await refused(client, stateful, data, 400, "invalid_archive", "specification")
    more = Snapshot("model-1", SPEC, 2, {**state(2, 3).leaves, "more": leaf})
    await refused(client, stateful, write_archive(archive([1, 2, 3], saved=more)), 400, "invalid_archive")


@pytest.mark.parametrize("position", [-1, 3, 2**62, -(2**62)])
async def test_a_state_that_lies_about_its_position_is_refused(
    client: httpx.AsyncClient, stateful: ScriptedWorker, position: int
):
    leaf = LeafBytes("int64", (), None, position.to_bytes(8, "little", signed=True))
    lying = Snapshot("model-1", SPEC, 2, {**state(2, 3).leaves, "position": leaf})
    data = write_archive(archive([1, 2, 3], saved=lying))
    await refused(client, stateful, data, 400, "invalid_archive", "position")


async def test_a_good_one_of_the_same_make_is_taken(client: httpx.AsyncClient, stateful: ScriptedWorker):
    made = await bring(client, write_archive(archive([1, 2, 3], saved=state(2, 3))))
    assert (made.status_code, made.json()["position"]) == (201, 3)


async def test_a_run_that_no_snapshot_covers_is_bounded(client: httpx.AsyncClient, stateful: ScriptedWorker, serving):
    most = sum(int(serving.settings[name]) for name in ("max_prompt_tokens", "max_tokens_limit")) + 512
    assert (await bring(client, write_archive(archive([1] * most)))).status_code == 201
    long = [1] * (most + 1)
    await refused(client, stateful, write_archive(archive(long)), 400, "invalid_archive", f"at most {most} again")
    made = await bring(client, write_archive(archive(long, saved=state(most, 1))))
    assert (made.status_code, made.json()["position"]) == (201, most + 1)


async def test_a_file_has_so_many_turns_at_most(client: httpx.AsyncClient, stateful: ScriptedWorker):
    turns, before = [], None
    for length in range(1, 64 * 64 + 2):
        name = f"t{length:011d}"
        turns.append(TurnEntry(id=name, parent=before, count=1, length=length, end="raw", finish="stop", created=0.0))
        before = name
    many = Archive("tiny", "model-1", None, len(turns), tuple(turns), np.ones(len(turns), np.int32), {})
    await refused(client, stateful, write_archive(many), 400, "invalid_archive", "4097 turns", "4096")


async def test_a_file_needs_its_content_type_and_a_worker(serving, client: httpx.AsyncClient):
    data = write_archive(archive([1, 2, 3]))
    async with scripted_worker(serving.redis_url, serving.prefix, serving.tokenizer.fingerprint):
        for kind in ("application/json", "application/x-www-form-urlencoded", ""):
            wrong = await client.post("/v1/sessions/import", content=data, headers={"Content-Type": kind})
            assert (wrong.status_code, "application/octet-stream" in wrong.text) == (400, True)
    nobody = await bring(client, data)
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (503, "no_worker")


async def test_large_files_are_refused_by_what_they_declare_and_by_what_they_are(serving, tmp_path):
    settings = serving.settings | {"key_prefix": serving.prefix + "-small", "max_import_bytes": "5000"}
    with running_api(tmp_path, **settings) as (url, _):
        async with (
            scripted_worker(serving.redis_url, settings["key_prefix"], serving.tokenizer.fingerprint) as worker,
            httpx.AsyncClient(base_url=url) as client,
        ):
            large = write_archive(archive([1] * 2000))

            async def pieces() -> AsyncIterator[bytes]:
                for start in range(0, len(large), 1000):
                    yield large[start : start + 1000]

            for content in (large, pieces()):
                response = await client.post("/v1/sessions/import", content=content, headers=OCTETS)
                assert (response.status_code, response.json()["error"]["code"]) == (413, "too_large")
                assert "5000" in response.json()["error"]["message"]
            assert not [name for name in await own_keys(worker.store) if ":turns" in name and "{queue}" not in name]
            assert (await bring(client, write_archive(archive([1, 2, 3])))).status_code == 201


async def test_few_are_under_way_at_once(serving, client: httpx.AsyncClient, worker: ScriptedWorker):
    """One tenant has half of the places."""
    host, port = serving.url.removeprefix("http://").split(":")
    head = f"POST /v1/sessions/import HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/octet-stream\r\n"
    sockets = [socket.create_connection((host, int(port))) for _ in range(2)]
    data = write_archive(archive([1, 2, 3]))
    try:
        for one in sockets:
            one.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data[:10])

        async def full() -> bool:
            return (await bring(client, data)).status_code == 429

        await until(full)
        busy = await bring(client, data)
        assert (busy.json()["error"]["code"], int(busy.headers["retry-after"]) >= 1) == ("queue_full", True)
        session = (await client.post("/v1/sessions")).json()["id"]
        assert (await client.get(f"/v1/sessions/{session}/export")).status_code == 429
        for one in sockets:
            one.sendall(data[10:])
            assert one.recv(100).startswith(b"HTTP/1.1 201")
    finally:
        for one in sockets:
            one.close()

    async def free() -> bool:
        return (await client.get(f"/v1/sessions/{session}/export")).status_code == 200

    await until(free)


async def test_another_tenant_s_session_is_not_exported(serving, tmp_path):
    settings = serving.settings | {"key_prefix": serving.prefix + "-tenants"}
    red, blue = "red-key", "blue-key"
    keys = ",".join(f"{name.split('-')[0]}:{hashlib.sha256(name.encode()).hexdigest()}" for name in (red, blue))
    with running_api(tmp_path, **settings, api_keys=keys) as (url, _):
        async with (
            scripted_worker(serving.redis_url, settings["key_prefix"], serving.tokenizer.fingerprint) as worker,
            httpx.AsyncClient(base_url=url) as client,
        ):
            client.headers["Authorization"] = f"Bearer {red}"
            body = await converse(client, worker, "mine")
            data = await export(client, body["session"])
            client.headers["Authorization"] = f"Bearer {blue}"
            for method, path in (("GET", "export"), ("GET", "turns"), ("POST", "fork")):
                hidden = await client.request(method, f"/v1/sessions/{body['session']}/{path}")
                assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "session_not_found")
            theirs = (await bring(client, data)).json()
            assert (await client.get(f"/v1/sessions/{theirs['id']}")).status_code == 200
            client.headers["Authorization"] = f"Bearer {red}"
            assert (await client.get(f"/v1/sessions/{theirs['id']}")).status_code == 404
