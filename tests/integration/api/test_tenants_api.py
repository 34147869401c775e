"""Another tenant's id is answered exactly like an unknown one: on every route, in its path, its query and its body.

The routes are the application's own, so a new one that takes an id fails here until it is said how it is called.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from server.api.app import create_app
from server.settings import load_settings
from support.routes import Door, doors
from support.serving import ScriptedWorker, running_api, scripted_worker

# What a route needs besides ids, so that nothing but the id can be refused.
BODIES: dict[str, dict[str, Any]] = {
    "POST /v1/generate": {"prompt": "x", "stream": False},
    "POST /v1/completions": {"model": "tiny", "prompt": "x"},
    "POST /v1/chat/completions": {"model": "tiny", "messages": [{"role": "user", "content": "x"}]},
    "POST /v1/responses": {"model": "tiny", "input": "x"},
    "POST /v1/sessions/{session_id}/rewind": {"turns": 1},
    "POST /v1/sessions/{session_id}/memory/reset": {"scope": "memory"},
    "POST /v1/conversations/{conversation_id}": {"metadata": {}},
    "POST /v1/conversations/{conversation_id}/items": {
        "items": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}]
    },
}
# Fields that hold an id: whose, and, where one stands only beside another, what stands beside it.
FIELDS: dict[str, dict[str, Any]] = {
    "session_id": {},
    "from_turn": {"session_id": "own"},
    "if_turn": {"session_id": "own"},
    "at_turn": {},
    "to_turn": {"turns": None},
    "previous_response_id": {},
    "conversation": {},
    "after": {},
}
AN_ID = re.compile(r"(_id|_turn|^after|^conversation|^session)$")
NOBODYS = {"model_id", "tool_call_id", "response_format_id"}
# Where an id of nobody's is not answered 404.
CHANGES = ("reset", "svd-clean", "freeze", "unfreeze")
ANSWERS = {"POST /v1/generate: if_turn": 409, "GET /v1/sessions: after": 200} | {
    f"POST /v1/sessions/{{session_id}}/memory/{change}: if_turn": 409 for change in CHANGES
}
NO_IDS = {"GET /v1/generations/{generation_id}/events: after"}


@dataclass
class Owned:
    """A tenant's things, by the name of the field or of the path's part that names them."""

    ids: dict[str, str]
    session: str
    deleted: str


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer key-{name}"}


@pytest.fixture(scope="module")
def api(serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keys = ",".join(f"{name}:{hashlib.sha256(f'key-{name}'.encode()).hexdigest()}" for name in ("red", "blue"))
    settings = serving.settings | {"key_prefix": f"{serving.prefix}-tenants", "api_keys": keys}
    with running_api(tmp_path_factory.mktemp("tenants"), **settings) as (url, process):
        yield url
    assert "Traceback" not in process.errors()
    assert "key-red" not in process.errors()


@pytest.fixture
async def worker(serving: Any) -> AsyncIterator[ScriptedWorker]:
    prefix = f"{serving.prefix}-tenants"
    async with scripted_worker(serving.redis_url, prefix, serving.tokenizer.fingerprint) as one:
        yield one


async def run(worker: ScriptedWorker, asking: asyncio.Task[httpx.Response], tenant: str) -> dict[str, Any]:
    turn = await worker.take()
    assert turn.begun.session.tenant == tenant
    await turn.start()
    await turn.say("y")
    await turn.finish()
    answer = await asking
    assert answer.is_success, answer.text
    return dict(answer.json())


def post(client: httpx.AsyncClient, path: str, body: dict[str, Any], **headers: str) -> asyncio.Task[httpx.Response]:
    return asyncio.create_task(client.post(path, json=body, headers=headers))


async def made(client: httpx.AsyncClient, worker: ScriptedWorker, tenant: str, paths: set[str]) -> Owned:
    """One of everything that has an id."""
    body = BODIES["POST /v1/generate"]
    first = await run(worker, post(client, "/v1/generate", body, **{"Idempotency-Key": f"{tenant}-1"}), tenant)
    turn = await run(worker, post(client, "/v1/generate", body | {"session_id": first["session"]}), tenant)
    made = await client.post("/v1/sessions")
    assert made.status_code == 201, made.text
    deleted = made.json()["id"]
    assert (await client.delete(f"/v1/sessions/{deleted}")).status_code == 200
    ids = {
        "session_id": first["session"],
        "generation_id": turn["generation"],
        **dict.fromkeys(("from_turn", "if_turn", "at_turn", "to_turn"), turn["turn"]),
    }
    if "POST /v1/responses" in paths:
        response = await run(worker, post(client, "/v1/responses", BODIES["POST /v1/responses"]), tenant)
        ids |= {"response_id": response["id"], "previous_response_id": response["id"]}
    if "POST /v1/conversations" in paths:
        conversation = (await client.post("/v1/conversations", json={})).json()["id"]
        ids |= {"conversation_id": conversation, "conversation": conversation}
    return Owned(ids, first["session"], deleted)


def unknown(known: str) -> str:
    """An id of the same kind and length that nobody has."""
    return re.sub(r"[0-9a-z]{12,}(?=(_\d+)?$)", lambda found: "z" * len(found[0]), known)


async def seen(client: httpx.AsyncClient, door: Door, identity: str, request: dict[str, Any]) -> tuple[Any, ...]:
    """All that the caller is told, with the id it sent taken out."""
    response = await client.request(door.method, **request)
    headers = {name: value for name, value in response.headers.items() if name not in ("date", "x-request-id")}
    return response.status_code, response.text.replace(identity, "ID"), headers


def parts(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)


async def test_every_route_that_takes_an_id_hides_whose_it_is(api: str, worker: ScriptedWorker, serving: Any):
    app = create_app(load_settings(env_file=None), serving.tokenizer)
    every = [door for door in doors(app) if door.path.startswith("/v1/")]
    components = app.openapi().get("components", {}).get("schemas", {})
    names, tried = {str(door) for door in every}, 0
    async with (
        httpx.AsyncClient(base_url=api, timeout=20, headers=bearer("red")) as red,
        httpx.AsyncClient(base_url=api, timeout=20, headers=bearer("blue")) as blue,
    ):
        theirs = await made(red, worker, "red", names)
        own = await made(blue, worker, "blue", names)
        for door in every:
            body = BODIES.get(str(door), {})
            sent: dict[str, Any] = {"json": body} if door.method == "POST" else {}
            # In the path.
            in_path = [name for name in parts(door.path) if name not in NOBODYS]
            for name in in_path:
                assert name in theirs.ids, f"{door}: say in `made` what a {name} is"
                others = {other: own.ids.get(other, "x") for other in parts(door.path) if other != name}
                told = [
                    await seen(blue, door, identity, sent | {"url": door.path.format(**others, **{name: identity})})
                    for identity in _candidates(theirs, name)
                ]
                assert told[0][0] == 404, f"{door}: {told[0]}"
                assert told == told[:1] * len(told), f"{door} tells whose {name} it is"
                tried += 1
            # In the query and in the body.
            path = door.path.format(**{name: own.ids.get(name, "x") for name in parts(door.path)})
            fields = {one["name"]: "params" for one in door.query()} | dict.fromkeys(door.body(components), "json")
            for name, where in fields.items():
                at = f"{door}: {name}"
                if not AN_ID.search(name) or name in NOBODYS or at in NO_IDS:
                    continue
                assert name in FIELDS, f"{door}: say in FIELDS how {name} is sent"
                beside = {
                    other: own.ids["session_id"] if value == "own" else value
                    for other, value in FIELDS[name].items()
                    if other in fields
                }
                value = f"1.0_{theirs.session}" if path == "/v1/sessions" else None  # a cursor
                told = []
                for identity in _candidates(theirs, name, value):
                    more = {where: (body if where == "json" else {}) | beside | {name: identity}}
                    told.append(await seen(blue, door, identity, {"url": path} | sent | more))
                assert told[0][0] == ANSWERS.get(at, 404), f"{at}: {told[0]}"
                assert told == told[:1] * len(told), f"{at}: tells whose it is"
                tried += 1
        assert tried >= 15
        # All that was theirs is there yet.
        for path in (f"/v1/sessions/{theirs.session}", f"/v1/generations/{theirs.ids['generation_id']}"):
            assert (await red.get(path)).status_code == 200
        assert (await red.get(f"/v1/sessions/{theirs.session}")).json()["turns"] == 2
        mine = {one["id"] for one in (await blue.get("/v1/sessions", params={"limit": 100})).json()["data"]}
        assert own.session in mine
        assert theirs.session not in mine


def _candidates(theirs: Owned, name: str, value: str | None = None) -> list[str]:
    """Another tenant's, unknown ones, one that was deleted."""
    # Of an `after` that is no cursor: a turn.
    known = value or theirs.ids.get(name) or theirs.ids["from_turn"]
    out = [known, unknown(known)]
    if known.startswith("sess_"):
        out += [theirs.deleted, re.sub(r"_\d+$", "_9", known)]
    return out


async def test_an_idempotency_key_is_its_tenant_s_own(api: str, worker: ScriptedWorker):
    body = BODIES["POST /v1/generate"]
    async with (
        httpx.AsyncClient(base_url=api, timeout=20, headers=bearer("red")) as red,
        httpx.AsyncClient(base_url=api, timeout=20, headers=bearer("blue")) as blue,
    ):
        key = {"Idempotency-Key": "one-for-both"}
        first = await run(worker, post(red, "/v1/generate", body, **key), "red")
        second = await run(worker, post(blue, "/v1/generate", body, **key), "blue")
        assert first["generation"] != second["generation"]
        # Nor does it say that another request has it.
        other = await blue.post("/v1/generate", json=body | {"seed": 5}, headers=key)
        assert other.status_code == 422
        for session in (first["session"], unknown(first["session"])):
            hidden = await blue.post("/v1/generate", json=body | {"session_id": session}, headers=key)
            assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "session_not_found")
        again = await red.post("/v1/generate", json=body, headers=key)
        assert again.json()["generation"] == first["generation"]


async def test_every_v1_route_asks_for_a_key_before_anything_else(api: str, serving: Any):
    app = create_app(load_settings(env_file=None), serving.tokenizer)
    asked = 0
    async with httpx.AsyncClient(base_url=api, timeout=20) as nobody:
        for door in doors(app):
            if not door.path.startswith("/v1/"):
                continue
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic a2V5LXJlZDo="}):
                path = door.path.format(**dict.fromkeys(parts(door.path), "x"))
                refused = await nobody.request(door.method, path, content=b"{not json", headers=headers)
                assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key"), door
                assert refused.headers["www-authenticate"] == "Bearer"
                assert refused.headers["x-should-retry"] == "false"
                assert "x-session-id" not in refused.headers
            asked += 1
    assert asked >= 19
