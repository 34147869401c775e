"""Sessions, tokenising and what operators ask, over real HTTP."""

from __future__ import annotations

import asyncio
import hashlib
from importlib.metadata import version

import httpx

from model.tokenizer import load_tokenizer
from support.serving import ScriptedWorker, running_api, scripted_worker, tiny_tokenizer


async def test_a_session_is_made_seen_listed_and_deleted(client: httpx.AsyncClient, worker: ScriptedWorker):
    made = await client.post("/v1/sessions")
    session = made.json()
    assert made.status_code == 201
    assert made.headers["x-session-id"] == session["id"]
    assert (session["position"], session["head"], session["tier"], session["turns_kept"]) == (0, None, "new", 0)
    assert (session["state_bytes"], session["model"]) == (4096, "tiny")
    assert session["created"] <= session["updated"] < session["expires"]
    path = made.headers["location"]
    session.pop("expires")  # counted from now on, to the millisecond
    seen = (await client.get(path)).json()
    assert seen | session == seen
    listed = (await client.get("/v1/sessions")).json()["data"]
    assert any(one | session == one for one in listed)
    assert (await client.delete(path)).json() == {"id": session["id"], "object": "session.deleted", "deleted": True}
    assert (await client.get(path)).status_code in (404, 410)
    gone = await client.post("/v1/generate", json={"session_id": session["id"], "prompt": "x"})
    assert gone.status_code in (404, 410)


async def test_an_empty_session_runs_its_first_turn(client: httpx.AsyncClient, worker: ScriptedWorker):
    session = (await client.post("/v1/sessions", json={})).json()["id"]
    asking = asyncio.create_task(
        client.post(
            "/v1/generate",
            json={"session_id": session, "messages": [{"role": "user", "content": "Hi"}], "stream": False},
        )
    )
    turn = await worker.take()
    assert turn.begun.request.input_ids[0] == 256
    await turn.start()
    await turn.say("Ho")
    await turn.finish()
    assert (await asking).json()["session"] == session
    seen = (await client.get(f"/v1/sessions/{session}")).json()
    assert (seen["tier"], seen["turns_kept"]) == ("redis", 1)


async def test_sessions_are_paged(client: httpx.AsyncClient, worker: ScriptedWorker):
    made = {(await client.post("/v1/sessions")).json()["id"] for _ in range(5)}
    seen: list[str] = []
    query: dict[str, str | int] = {"limit": 2}
    while True:
        page = (await client.get("/v1/sessions", params=query)).json()
        assert len(page["data"]) <= 2
        seen += [session["id"] for session in page["data"]]
        if not page["has_more"]:
            break
        query["after"] = page["after"]
    assert made <= set(seen)
    assert len(seen) == len(set(seen))
    for wrong in ({"limit": 0}, {"limit": "many"}, {"order": "asc"}):
        refused = await client.get("/v1/sessions", params=wrong)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, next(iter(wrong)))


async def test_text_becomes_tokens_and_text_again(client: httpx.AsyncClient):
    text = "Grüße, 東京! 👋🏽"
    tokens = (await client.post("/v1/tokenize", json={"prompt": text})).json()
    assert tokens == {"tokens": list(text.encode()), "count": len(text.encode())}
    back = await client.post("/v1/detokenize", json={"tokens": tokens["tokens"]})
    assert back.json() == {"text": text}
    chat = (await client.post("/v1/tokenize", json={"messages": [{"role": "user", "content": "Hi"}]})).json()
    assert chat["tokens"][0] == 256
    for wrong in ({}, {"prompt": "a", "messages": [{"role": "user", "content": "Hi"}]}, {"text": "a"}):
        assert (await client.post("/v1/tokenize", json=wrong)).status_code == 400
    refused = await client.post("/v1/detokenize", json={"tokens": [1, 258]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tokens[1]")


async def test_readiness_needs_a_live_worker_of_this_model(serving, client: httpx.AsyncClient):
    async def reason() -> str:
        response = await client.get("/health/ready")
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        message: str = response.json()["error"]["message"]
        return message

    assert "No worker" in await reason()
    refused = await client.post("/v1/generate", json={"prompt": "x"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_worker")
    async with scripted_worker(serving.redis_url, serving.prefix, "another tokeniser"):
        assert "another model" in await reason()
    async with scripted_worker(serving.redis_url, serving.prefix, serving.tokenizer.fingerprint):
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["workers"]) == (200, 1)
    await reason()
    assert (await client.get("/health/live")).status_code == 200


async def test_version_and_index(serving, client: httpx.AsyncClient, worker: ScriptedWorker):
    shown = (await client.get("/version")).json()
    assert shown["version"] == version("perennial")
    assert shown["tokenizer"] == serving.tokenizer.fingerprint
    assert shown["fingerprints"] == ["model-1"]
    assert (await client.get("/")).json()["generate"] == "POST /v1/generate"
    schema = (await client.get("/openapi.json")).json()
    body = schema["paths"]["/v1/generate"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "max_tokens" in body["properties"]


def sample(text: str, name: str) -> float:
    """One line's value in Prometheus' text format; 0 where the line is not there yet."""
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " ")), 0.0)


async def test_metrics_count_what_happened(client: httpx.AsyncClient, worker: ScriptedWorker):
    names = {
        'perennial_http_requests_total{method="POST",route="/v1/generate",status="200"}': 1,
        'perennial_http_requests_total{method="POST",route="/v1/generate",status="400"}': 1,
        "perennial_generations_accepted_total": 1,
        'perennial_request_success_total{finish_reason="stop"}': 1,
        'perennial_restored_total{source="ram"}': 1,
        'perennial_refused_total{code="unknown_parameter"}': 1,
        "perennial_prompt_tokens_total": 6,
        "perennial_generation_tokens_total": 4,
        "perennial_time_to_first_token_seconds_count": 1,
        "perennial_inter_token_latency_seconds_count": 2,
        "perennial_e2e_request_latency_seconds_count": 1,
        "perennial_request_queue_time_seconds_count": 1,
        "perennial_open_streams": 0,
    }

    async def measured() -> dict[str, float]:
        text = (await client.get("/metrics")).text
        return {name: sample(text, name) for name in names}

    before = await measured()
    asking = asyncio.create_task(client.post("/v1/generate", json={"prompt": "123456"}))
    turn = await worker.take()
    await turn.start("ram")
    await turn.say("ab")
    await turn.say("cd")
    await turn.finish()
    await asking
    await client.post("/v1/generate", json={"prompt": "x", "colour": "red"})
    after = await measured()
    assert {name: after[name] - before[name] for name in names} == names
    gauges = (await client.get("/metrics")).text
    assert sample(gauges, "perennial_store_up") == 1
    assert sample(gauges, "perennial_queue_depth") == 0


async def test_keys_and_tenants(serving, tmp_path):
    def digest(key: str) -> str:
        return hashlib.sha256(key.encode()).hexdigest()

    (tmp_path / "keys").write_text(f"# ours\nblue:{digest('key-blue')}\n\n")
    settings = serving.settings | {"api_keys": f"red:{digest('key-red')}", "api_keys_file": str(tmp_path / "keys")}
    settings["key_prefix"] += "-keys"
    with running_api(tmp_path, **settings) as (url, process):
        async with (
            scripted_worker(serving.redis_url, settings["key_prefix"], serving.tokenizer.fingerprint) as worker,
            httpx.AsyncClient(base_url=url) as client,
        ):
            for headers in (
                {},
                {"Authorization": "key-red"},
                {"Authorization": "Bearer nonsense"},
            ):
                refused = await client.get("/v1/sessions", headers=headers)
                assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
                assert refused.headers["www-authenticate"] == "Bearer"
            assert (await client.post("/v1/generate", json={"prompt": "x"})).status_code == 401
            assert (await client.get("/health/ready")).status_code == 200
            red, blue = ({"Authorization": f"Bearer key-{name}"} for name in ("red", "blue"))
            asking = asyncio.create_task(
                client.post("/v1/generate", json={"prompt": "x", "stream": False}, headers=red)
            )
            turn = await worker.take()
            assert turn.begun.session.tenant == "red"
            await turn.start()
            await turn.say("y")
            await turn.finish()
            body = (await asking).json()
            for path in (f"/v1/sessions/{body['session']}", f"/v1/generations/{body['generation']}"):
                assert (await client.get(path, headers=red)).status_code == 200
                hidden = await client.get(path, headers=blue)
                unknown = await client.get(path[:-4] + "zzzz", headers=blue)
                assert (hidden.status_code, hidden.json()) == (404, unknown.json())
                assert (await client.delete(path, headers=blue)).status_code == 404
            stolen = await client.post(
                "/v1/generate", json={"prompt": "x", "session_id": body["session"]}, headers=blue
            )
            assert stolen.status_code == 404
            assert (await client.get("/v1/sessions", headers=blue)).json()["data"] == []
    assert "key-red" not in process.errors()


async def test_a_model_without_a_usable_template_refuses_messages_by_name(serving, tmp_path):
    for name, template in (
        ("none", None),
        ("unstable", "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"),
    ):
        model = tiny_tokenizer(tmp_path / name, template)
        settings = serving.settings | {"model": str(model), "key_prefix": f"{serving.prefix}-{name}"}
        with running_api(tmp_path, **settings) as (url, _):
            fingerprint = load_tokenizer(model, None).fingerprint
            async with (
                scripted_worker(serving.redis_url, settings["key_prefix"], fingerprint),
                httpx.AsyncClient(base_url=url) as client,
            ):
                body = {"messages": [{"role": "user", "content": "Hi"}]}
                refused = await client.post("/v1/generate", json=body)
                assert (refused.status_code, refused.json()["error"]["param"]) == (400, "messages")
                assert "template" in refused.json()["error"]["message"]
