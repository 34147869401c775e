"""The store away at start and in mid-stream, and the api stopped in mid-stream."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from server.store.embedded import EmbeddedValkey
from support.serving import ScriptedWorker, each_event, read_events, running_api, scripted_worker, texts, until

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    """A Valkey that a test may stop and start."""
    server = EmbeddedValkey(tmp_path / "valkey", fsync="always")
    yield server
    await server.stop()


async def ready(client: httpx.AsyncClient) -> bool:
    return (await client.get("/health/ready")).status_code == 200


async def test_an_api_starts_without_its_store_and_finds_it_later(serving, own_valkey: EmbeddedValkey, tmp_path: Path):
    settings = serving.settings | {"redis_url": own_valkey.url}
    with running_api(tmp_path, **settings) as (url, process):
        async with httpx.AsyncClient(base_url=url) as client:
            for path in ("/health/ready", "/v1/sessions", "/v1/generations/gen_x"):
                refused = await client.get(path)
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
                assert int(refused.headers["retry-after"]) >= 1
            assert (await client.post("/v1/generate", json=HELLO)).status_code == 503
            assert (await client.post("/v1/tokenize", json={"prompt": "works without"})).status_code == 200
            assert "perennial_store_up 0.0" in (await client.get("/metrics")).text
            await own_valkey.start()
            async with scripted_worker(own_valkey.url, serving.prefix, serving.tokenizer.fingerprint) as worker:
                await until(lambda: ready(client))
                asking = asyncio.create_task(client.post("/v1/generate", json=HELLO | {"stream": False}))
                await answer(worker)
                assert (await asking).json()["text"] == "ok"
    assert own_valkey.url not in process.errors()


async def answer(worker: ScriptedWorker) -> None:
    turn = await worker.take()
    await turn.start()
    await turn.say("ok")
    await turn.finish()


async def test_a_stream_outlasts_a_restart_of_the_store(serving, own_valkey: EmbeddedValkey, tmp_path: Path):
    await own_valkey.start()
    with running_api(tmp_path, **serving.settings | {"redis_url": own_valkey.url}) as (url, _):
        async with (
            scripted_worker(own_valkey.url, serving.prefix, serving.tokenizer.fingerprint) as worker,
            httpx.AsyncClient(base_url=url, timeout=30) as client,
        ):
            async with client.stream("POST", "/v1/generate", json=HELLO) as response:
                lines = response.aiter_lines()
                events = each_event(lines)
                turn = await worker.take()
                await turn.start()
                await turn.say("before ")
                assert [(await anext(events))[1] for _ in range(2)] == ["start", "token"]
                await own_valkey.stop()
                refused = await client.post("/v1/generate", json=HELLO)
                assert refused.status_code == 503
                while await anext(lines) != ": ping":
                    pass
                await own_valkey.start()
                await turn.say("after")
                await turn.finish()
                rest = [event async for event in each_event(lines)]
            assert (texts(rest), rest[-1][1]) == ("after", "done")
            assert [event_id for event_id, _, _ in rest] == ["3-0", "4-0"]


async def test_a_store_that_stays_away_ends_the_stream_with_an_error(
    serving, own_valkey: EmbeddedValkey, tmp_path: Path
):
    await own_valkey.start()
    settings = serving.settings | {"redis_url": own_valkey.url, "store_patience_s": "0.5"}
    with running_api(tmp_path, **settings) as (url, _):
        async with (
            scripted_worker(own_valkey.url, serving.prefix, serving.tokenizer.fingerprint) as worker,
            httpx.AsyncClient(base_url=url, timeout=30) as client,
        ):
            async with client.stream("POST", "/v1/generate", json=HELLO) as response:
                events = each_event(response.aiter_lines())
                turn = await worker.take()
                await turn.start()
                await turn.say("so far")
                assert [(await anext(events))[1] for _ in range(2)] == ["start", "token"]
                await own_valkey.stop()
                event_id, kind, data = await anext(events)
                assert (event_id, kind, data["error"]["code"]) == ("2-0", "error", "store_unavailable")
                assert [event async for event in events] == []
            await own_valkey.start()
            await turn.say(", and more")
            await turn.finish()
            await until(lambda: ready(client))
            path = f"/v1/generations/{turn.begun.generation.id}/events"
            async with client.stream("GET", path, headers={"Last-Event-ID": event_id}) as response:
                rest = await read_events(response)
            assert (texts(rest), rest[-1][1]) == (", and more", "done")


async def refused(url: str) -> bool:
    """Whether nobody listens there any more."""
    try:
        async with httpx.AsyncClient() as client:
            await client.get(f"{url}/health/live")
    except httpx.TransportError:
        return True
    return False


async def test_a_stop_lets_streams_finish_and_takes_no_more(serving, tmp_path: Path):
    settings = serving.settings | {"key_prefix": f"{serving.prefix}-stop"}
    with running_api(tmp_path, **settings) as (url, process):
        async with (
            scripted_worker(serving.redis_url, settings["key_prefix"], serving.tokenizer.fingerprint) as worker,
            httpx.AsyncClient(base_url=url) as client,
            client.stream("POST", "/v1/generate", json=HELLO) as response,
        ):
            turn = await worker.take()
            await turn.start()
            events = each_event(response.aiter_lines())
            await anext(events)
            process.popen.send_signal(signal.SIGTERM)
            await until(lambda: refused(url))
            await turn.say("to the end")
            await turn.finish()
            rest = [event async for event in events]
        assert (texts(rest), rest[-1][1]) == ("to the end", "done")
        assert await asyncio.to_thread(process.wait) == 0


@pytest.mark.parametrize(("drain_s", "hurry"), [("0", False), ("600", True)])
async def test_a_stop_is_bounded_and_cancels_nothing(serving, tmp_path: Path, drain_s: str, hurry: bool):
    settings = serving.settings | {"key_prefix": f"{serving.prefix}-cut{drain_s}", "drain_s": drain_s}
    with running_api(tmp_path, **settings) as (url, process):
        async with (
            scripted_worker(serving.redis_url, settings["key_prefix"], serving.tokenizer.fingerprint) as worker,
            httpx.AsyncClient(base_url=url) as client,
        ):
            async with client.stream("POST", "/v1/generate", json=HELLO) as response:
                turn = await worker.take()
                await turn.start()
                events = each_event(response.aiter_lines())
                await anext(events)
                process.popen.send_signal(signal.SIGTERM)
                await until(lambda: refused(url))
                if hurry:
                    process.popen.send_signal(signal.SIGTERM)
                with pytest.raises(httpx.RemoteProtocolError):
                    await anext(events)
            assert await asyncio.to_thread(process.wait) == 0
            assert not await worker.store.queue.cancelled([turn.begun.generation.id])
            await turn.finish()
        assert "Traceback" not in process.errors()
