"""Many more sessions than slots, two workers, turns at random; and what the store holds of them."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from redis import Redis

from support.conversation import generate
from support.fleet import fleet
from support.oracle import Oracle

pytestmark = pytest.mark.timeout(570)

RUN = {"max_tokens": 8, "temperature": 0.8, "ignore_eos": True, "wait_s": 60}


@pytest.mark.full
@pytest.mark.parametrize("count", [200])
def test_many_sessions_over_four_slots(tmp_path: Path, settings: dict[str, str], oracle: Oracle, count: int) -> None:
    """Three turns each, in random order, eight clients: each session as if it were alone; every key has an end."""
    with fleet(tmp_path, **settings | {"slots": "2", "ram_bytes": "250000"}) as one:
        one.worker()
        one.worker()
        url, _ = one.api()
        sessions: list[str | None] = [None] * count
        histories: list[list[int]] = [[] for _ in sessions]
        tiers: list[str] = []

        def turn(s: int, i: int) -> None:
            text = f"{i} says {s}; " * (1 + s % 3)
            held = {"session_id": sessions[s]} if sessions[s] else {}
            answer = generate(url, prompt=text, seed=10 * s + i, **RUN, **held)
            sessions[s] = answer.start["session"]
            tiers.append(answer.start["restored"]["from"])
            before = [*histories[s], *text.encode()]
            assert answer.token_ids == oracle.next(before, 10 * s + i, RUN["max_tokens"])
            histories[s] = [*before, *answer.token_ids]

        order = random.Random(3)
        for i in range(3):
            batch = list(range(len(sessions)))
            order.shuffle(batch)
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(turn, batch, [i] * len(batch)))
        assert len(tiers) == 3 * count
        assert set(tiers) >= {"new", "ram", "redis"}
        with Redis(unix_socket_path=one.valkey.url.removeprefix("unix://")) as redis:
            immortal = {name for name in redis.scan_iter(count=1000) if redis.pttl(name) == -1}
        assert {name.split(b":")[1] for name in immortal} <= {b"{queue}"}


@pytest.mark.full
def test_a_sessions_bytes_stop_growing(tmp_path: Path, settings: dict[str, str]) -> None:
    """Turns of one size: once retention is full, what the store holds of a session comes back to the same bytes."""
    with fleet(tmp_path, **settings | {"turns_kept": "4"}) as one:
        one.worker()
        url, _ = one.api()
        session = generate(url, prompt="x" * 8, seed=0, **RUN).start["session"]
        said, held = [], []
        with Redis(unix_socket_path=one.valkey.url.removeprefix("unix://")) as redis:
            for i in range(1, 72):
                generate(url, prompt="x" * 8, seed=i, session_id=session, **RUN)
                said.append(httpx.get(f"{url}/v1/sessions/{session}").json()["stored_bytes"])
                held.append(stored(redis, session))
        assert max(said[24:48]) == pytest.approx(max(said[48:]), rel=0.02)
        assert max(held[24:48]) == pytest.approx(max(held[48:]), rel=0.02)


def stored(redis: Redis, session: str) -> int:
    """Bytes of the session's turns, snapshots and blocks."""
    tag = f"perennial:{{{session.split('_')[1]}}}"
    return sum(len(value) for kind in ("turns", "snaps", "blocks") for value in redis.hvals(f"{tag}:{kind}"))
