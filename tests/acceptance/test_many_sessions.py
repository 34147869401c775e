"""Twelve conversations with the default model over four slots: states come from everywhere, the texts stay the same."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.conversation import Answer, generate, serving

pytestmark = [pytest.mark.weights, pytest.mark.full, pytest.mark.timeout(1800)]

SESSIONS, TURNS = 12, 4
TOPICS = [
    "the sea",
    "bread",
    "mountains",
    "trains",
    "music",
    "rain",
    "chess",
    "bees",
    "maps",
    "glass",
    "snow",
    "clocks",
]


def ask(url: str, s: int, i: int, session: str | None) -> Answer:
    """Turn i of session s: some 100 tokens to read, 24 to say."""
    held = {"session_id": session} if session else {}
    text = f"Tell me about {TOPICS[s]}, part {i}. " * 12
    return generate(url, prompt=text, max_tokens=24, ignore_eos=True, seed=100 * s + i, temperature=0.8, **held)


def test_twelve_sessions_over_four_slots(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    settings = {"slots": "4", "batch_invariant": "true", "snapshot_every": "96", "ram_bytes": "30000000"}
    with serving(tmp_path, **settings) as server:
        expected: list[list[list[int]]] = []
        for s in range(SESSIONS):
            session, turns = None, []
            for i in range(TURNS):
                answer = ask(server.url, s, i, session)
                session = answer.start["session"]
                turns.append(answer.token_ids)
            expected.append(turns)
        sessions: list[str | None] = [None] * SESSIONS
        got: list[list[list[int]]] = [[] for _ in sessions]
        restored: list[tuple[str, int]] = []

        def turn(s: int, i: int) -> None:
            answer = ask(server.url, s, i, sessions[s])
            sessions[s] = answer.start["session"]
            got[s].append(answer.token_ids)
            restored.append((answer.start["restored"]["from"], answer.start["restored"]["replayed_tokens"]))

        order = random.Random(1)
        for i in range(TURNS):
            batch = list(range(SESSIONS))
            order.shuffle(batch)
            with ThreadPoolExecutor(6) as pool:
                list(pool.map(turn, batch, [i] * SESSIONS))
        assert got == expected
        assert {tier for tier, _ in restored} >= {"new", "ram", "redis"}

        # Cold: what was in memory is gone with the process, the state comes from Redis and the log after it.
        server.stop()
        server.start()
        cold = [ask(server.url, s, TURNS, sessions[s]) for s in range(SESSIONS)]
        assert {answer.start["restored"]["from"] for answer in cold} == {"redis"}
        load = [answer.done["timing"]["queued_s"] for answer in cold]
        record_property("cold_seconds_until_in_a_slot", round(statistics.median(load), 3))
        record_property("cold_replayed_tokens", statistics.median(a.start["restored"]["replayed_tokens"] for a in cold))
