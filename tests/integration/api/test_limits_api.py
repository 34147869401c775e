"""Each limit met over HTTP: refused before anything is tokenised, with when to come back, and only its tenant."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from server.store.embedded import EmbeddedValkey
from support.serving import ScriptedWorker, running_api, scripted_worker, until

WHOLE: dict[str, Any] = {"prompt": "x", "stream": False}


def entry(label: str, limits: str = "", key: str = "") -> str:
    return f"{label}:{hashlib.sha256((key or label).encode()).hexdigest()}{limits}"


KEYS = ",".join(
    [
        entry("free"),
        entry("rated", ";rpm=3;concurrent=9"),
        entry("busy", ";concurrent=2"),
        entry("stuffed", ";stored_bytes=100"),
        entry("short", ";max_tokens=7"),
        entry("short", ";max_tokens=70", key="also-short"),
    ]
)


@pytest.fixture(scope="module")
def urls(serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two apis of one system."""
    settings = serving.settings | {"key_prefix": f"{serving.prefix}-limits", "api_keys": KEYS, "max_concurrent": "5"}
    with (
        running_api(tmp_path_factory.mktemp("one"), **settings) as (one, first),
        running_api(tmp_path_factory.mktemp("two"), **settings) as (two, second),
    ):
        yield one, two
    for process in (first, second):
        assert "Traceback" not in process.errors()
        assert all(name not in process.errors() for name in ("also-short", KEYS[:40]))


@pytest.fixture
async def limited(serving: Any, urls: tuple[str, str]) -> Any:
    async with scripted_worker(serving.redis_url, f"{serving.prefix}-limits", serving.tokenizer.fingerprint) as worker:
        yield worker


def client(url: str, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, timeout=20, headers={"Authorization": f"Bearer {key}"})


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


async def answer(worker: ScriptedWorker) -> str:
    turn = await worker.take()
    await turn.start()
    await turn.say("yes")
    await turn.finish()
    return turn.begun.session.tenant


async def test_requests_in_a_minute_are_counted_over_all_routes_and_apis(urls: tuple[str, str], limited: Any):
    async with client(urls[0], "rated") as one, client(urls[1], "rated") as two, client(urls[0], "free") as free:
        assert (await one.get("/v1/sessions")).status_code == 200
        assert (await two.post("/v1/tokenize", json={"prompt": "x"})).status_code == 200
        assert (await one.get("/v1/generations/gen_unknown")).status_code == 404
        for response in (
            await one.get("/v1/sessions"),
            await two.post("/v1/generate", json=WHOLE),
            await two.post("/v1/sessions"),
            await one.delete("/v1/sessions/sess_unknown"),
        ):
            assert refusal(response) == (429, "rate_limit_exceeded")
            assert 1 <= int(response.headers["retry-after"]) <= 20
        assert (await one.get("/health/ready")).status_code == 200
        assert (await free.get("/v1/sessions")).status_code == 200
        refused = (await one.get("/metrics")).text
        assert 'perennial_refused_total{code="rate_limit_exceeded"} 2.0' in refused


async def test_generations_at_once_are_bounded_for_their_tenant_alone(urls: tuple[str, str], limited: Any):
    async with client(urls[0], "busy") as one, client(urls[1], "busy") as two, client(urls[0], "free") as free:
        asking = [asyncio.create_task(api.post("/v1/generate", json=WHOLE)) for api in (one, two)]
        turns = [await limited.take() for _ in asking]
        for api in (one, two):
            refused = await api.post("/v1/generate", json=WHOLE)
            assert refusal(refused) == (429, "too_many_generations")
            assert int(refused.headers["retry-after"]) >= 1
            assert "x-session-id" not in refused.headers
        other = asyncio.create_task(free.post("/v1/generate", json=WHOLE))
        assert await answer(limited) == "free"
        assert (await other).status_code == 200
        # One ends, and there is room for one.
        await turns[0].start()
        await turns[0].say("done")
        await turns[0].finish()
        assert "done" in {
            (await asked).json().get("text")
            for asked in (await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED))[0]
        }
        asking.append(asyncio.create_task(two.post("/v1/generate", json=WHOLE)))
        turns.append(await limited.take())
        assert refusal(await one.post("/v1/generate", json=WHOLE)) == (429, "too_many_generations")
        for turn in turns[1:]:
            await turn.start()
            await turn.say("done")
            await turn.finish()
        assert {response.status_code for response in await asyncio.gather(*asking)} == {200}


async def test_a_repeat_needs_no_place_of_its_own(urls: tuple[str, str], limited: Any):
    async with client(urls[0], "busy") as api:
        asking = [
            asyncio.create_task(api.post("/v1/generate", json=WHOLE, headers={"Idempotency-Key": f"k-{n}"}))
            for n in range(2)
        ]
        turns = [await limited.take() for _ in asking]
        asking.append(asyncio.create_task(api.post("/v1/generate", json=WHOLE, headers={"Idempotency-Key": "k-0"})))
        for turn in turns:
            await turn.start()
            await turn.say("y")
            await turn.finish()
        responses = await asyncio.gather(*asking)
    assert [response.status_code for response in responses] == [200] * 3
    assert responses[0].json() == responses[2].json()


async def test_who_waits_gets_a_place_in_the_end(urls: tuple[str, str], limited: Any):
    async with client(urls[0], "busy") as api:
        session = (await api.post("/v1/sessions")).json()["id"]
        body = WHOLE | {"session_id": session, "wait_s": 20}
        asking = [asyncio.create_task(api.post("/v1/generate", json=body)) for _ in range(4)]
        for _ in asking:
            await answer(limited)
        assert {response.status_code for response in await asyncio.gather(*asking)} == {200}


async def test_what_is_refused_leaves_its_place(urls: tuple[str, str], limited: Any):
    async with client(urls[0], "busy") as api:
        session = (await api.post("/v1/sessions")).json()["id"]
        for _ in range(3):
            refused = await api.post("/v1/generate", json=WHOLE | {"session_id": session, "from_turn": "turn_x"})
            assert refusal(refused) == (404, "turn_not_found")
        asking = [asyncio.create_task(api.post("/v1/generate", json=WHOLE)) for _ in range(2)]
        for _ in asking:
            await answer(limited)
        assert {response.status_code for response in await asyncio.gather(*asking)} == {200}


async def test_stored_bytes_stop_what_would_be_stored(urls: tuple[str, str], limited: Any, serving: Any):
    async with client(urls[0], "stuffed") as api:
        asking = asyncio.create_task(api.post("/v1/generate", json=WHOLE | {"input_ids": [65] * 300, "prompt": None}))
        await answer(limited)
        session = (await asking).json()["session"]
        assert (await api.get(f"/v1/sessions/{session}")).json()["stored_bytes"] > 100

        async def stopped() -> bool:
            asked = asyncio.create_task(api.post("/v1/generate", json=WHOLE))
            claimed = asyncio.create_task(answer(limited))
            await asyncio.wait({asked, claimed}, return_when=asyncio.FIRST_COMPLETED)
            if (await asked).status_code == 200:
                await claimed
                return False
            claimed.cancel()
            return refusal(asked.result()) == (403, "storage_limit")

        await until(stopped)
        refused = await api.post("/v1/generate", json=WHOLE)
        assert refused.headers["x-should-retry"] == "false"
        sent = {"Content-Type": "application/octet-stream"}
        assert refusal(await api.post("/v1/sessions/import", content=b"x", headers=sent)) == (403, "storage_limit")
        # What is not stored may be asked, and what is may be deleted.
        asking = asyncio.create_task(api.post("/v1/generate", json=WHOLE | {"store": False}))
        await answer(limited)
        assert (await asking).status_code == 200
        while listed := (await api.get("/v1/sessions", params={"limit": 100})).json()["data"]:
            for one in listed:
                assert (await api.delete(f"/v1/sessions/{one['id']}")).status_code == 200
        asking = asyncio.create_task(_until_taken(api))
        await answer(limited)
        assert (await asking).status_code == 200


async def _until_taken(api: httpx.AsyncClient) -> httpx.Response:
    while (response := await api.post("/v1/generate", json=WHOLE)).status_code == 403:
        await asyncio.sleep(0.05)
    return response


@pytest.mark.parametrize("key", ["short", "also-short"])
async def test_max_tokens_are_bounded_by_the_tightest_of_a_tenant_s_keys(urls: tuple[str, str], limited: Any, key: str):
    async with client(urls[1], key) as api:
        refused = await api.post("/v1/generate", json=WHOLE | {"max_tokens": 8})
        assert (refusal(refused), refused.json()["error"]["param"]) == ((400, "invalid_request"), "max_tokens")
        for body, most in ((WHOLE, 7), (WHOLE | {"max_tokens": 5}, 5)):
            asking = asyncio.create_task(api.post("/v1/generate", json=body))
            turn = await limited.take()
            assert turn.begun.request.max_tokens == most
            await turn.start()
            await turn.say("y")
            await turn.finish()
            assert (await asking).status_code == 200


async def test_a_store_that_is_away_is_said_to_be_away(serving: Any, tmp_path: Path):
    valkey = EmbeddedValkey(tmp_path / "valkey", fsync="no")
    await valkey.start()
    try:
        settings = serving.settings | {"redis_url": valkey.url, "requests_per_minute": "2", "max_concurrent": "1"}
        with running_api(tmp_path, **settings) as (url, _):
            async with httpx.AsyncClient(base_url=url, timeout=30) as api:
                for _ in range(2):
                    assert (await api.post("/v1/tokenize", json={"prompt": "x"})).status_code == 200
                assert refusal(await api.post("/v1/tokenize", json={"prompt": "x"})) == (429, "rate_limit_exceeded")
                await valkey.stop()

                async def away() -> bool:
                    return refusal(await api.get("/v1/sessions")) == (503, "store_unavailable")

                await until(away)
                refused = await api.post("/v1/generate", json=WHOLE)
                assert refusal(refused) == (503, "store_unavailable")
                assert int(refused.headers["retry-after"]) >= 1
    finally:
        await valkey.stop()
