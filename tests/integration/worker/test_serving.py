"""api, worker and store together: what a session's text is, whatever happens around it."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from redis import Redis

from server.store.embedded import EmbeddedValkey
from server.store.records import TurnRequest
from server.store.store import StoreOptions, open_store
from support.checkpoint import tiny_checkpoint
from support.conversation import Serve, generate, serving, stream
from support.serving import wait_for

pytestmark = pytest.mark.timeout(300)

RUN = {"max_tokens": 20, "temperature": 0.8, "ignore_eos": True}


def lone(server: Serve, prompts: list[str], seed: int) -> list[list[int]]:
    """The turns of one session, nobody else there."""
    session, out = {}, []
    for i, prompt in enumerate(prompts):
        answer = generate(server.url, prompt=prompt, seed=seed + i, **RUN, **session)
        session = {"session_id": answer.start["session"]}
        out.append(answer.token_ids)
    return out


def test_a_session_is_one_text_however_it_was_cut_in_turns(server: Serve) -> None:
    """Three turns, then one turn that is given all of what they read and generated: the same next tokens."""
    turns = lone(server, ["abc", "def", "ghi"], seed=1)
    ids = [*b"abc", *turns[0], *b"def", *turns[1], *b"ghi"]
    at_once = generate(server.url, input_ids=ids, seed=3, **RUN)
    assert at_once.token_ids == turns[2]


def in_any_order(
    server: Serve, prompts: list[str], sessions: int, seed: int
) -> tuple[list[list[list[int]]], set[str], list[str]]:
    """Each session's turns, in random order and four at a time; the tiers that their states came from; their ids."""
    ids: list[str | None] = [None] * sessions
    got: list[list[list[int]]] = [[] for _ in range(sessions)]
    tiers = set()

    def turn(s: int) -> None:
        i = len(got[s])
        held = {"session_id": ids[s]} if ids[s] else {}
        answer = generate(server.url, prompt=prompts[i], seed=100 * s + i, **RUN, **held)
        ids[s] = answer.start["session"]
        tiers.add(answer.start["restored"]["from"])
        got[s].append(answer.token_ids)

    order = random.Random(seed)
    for _ in prompts:
        batch = list(range(sessions))
        order.shuffle(batch)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(turn, batch))
    return got, tiers, [s for s in ids if s is not None]


def test_many_sessions_over_few_slots_in_any_order(
    server: Serve, settings: dict[str, str], state_bytes: int, tmp_path: Path
) -> None:
    """6 sessions, 2 slots, 3 turns each: each as if alone; with memory for all of them, for one, for none."""
    prompts = ["one", "two two two two two two", "three"]
    expected = [lone(server, prompts, seed=100 * s) for s in range(6)]
    got, tiers, _ = in_any_order(server, prompts, 6, seed=5)
    assert got == expected
    assert tiers == {"new", "ram"} | (tiers & {"slot"})
    for states in (1, 0):
        own = settings | {"key_prefix": f"ram{states}", "ram_bytes": str(states * state_bytes)}
        with serving(tmp_path, **own) as small:
            got, tiers, ids = in_any_order(small, prompts, 6, seed=6 + states)
            assert got == expected
            assert tiers >= {"new", "redis"}
            if states == 0:
                assert "ram" not in tiers
                continue
            # Whether any turn found its own session in the one place there is, is chance. Somebody is there at the end.
            at = {small.session(one)["tier"]: one for one in ids}
            assert at.keys() >= {"ram", "redis"}
            again = generate(small.url, prompt="four", seed=1, session_id=at["ram"], **RUN)
            assert again.start["restored"]["from"] == "ram"


def test_a_session_that_lost_its_slot_goes_on_from_memory(server: Serve) -> None:
    expected = lone(server, ["one", "two"], seed=40)
    first = generate(server.url, prompt="one", seed=40, **RUN)
    session = first.start["session"]
    assert server.session(session)["tier"] == "slot"
    for other in range(2):  # as many as there are slots
        generate(server.url, prompt=f"other {other}", **RUN)
    wait_for(lambda: server.session(session)["tier"] == "ram")
    second = generate(server.url, prompt="two", seed=41, session_id=session, **RUN)
    assert second.start["restored"] == {"from": "ram", "replayed_tokens": 0}
    assert [first.token_ids, second.token_ids] == expected
    assert server.session(session)["tier"] == "slot"


def test_rewound_it_goes_on_as_if_it_had_never_gone_the_other_way(server: Serve) -> None:
    """Its warm state is of a turn that is its head no more: it is not used, from a slot or from memory."""
    one, two = lone(server, ["abc", "xyz"], seed=60)
    for from_memory in (False, True):
        answers = []
        held: dict[str, str] = {}
        for i, prompt in enumerate(["abc", "def", "ghi"]):
            answers.append(generate(server.url, prompt=prompt, seed=60 + i, **RUN, **held))
            held = {"session_id": answers[0].start["session"]}
        if from_memory:
            for other in range(2):
                generate(server.url, prompt=f"other {other}", **RUN)
        back = httpx.post(f"{server.url}/v1/sessions/{held['session_id']}/rewind", json={"turns": 2})
        assert back.status_code == 200, back.text
        after = generate(server.url, prompt="xyz", seed=61, **RUN, **held)
        assert after.start["restored"]["from"] == "redis"
        assert after.start["position"] == answers[0].done["position"]
        assert [answers[0].token_ids, after.token_ids] == [one, two]
        again = generate(server.url, prompt="and on", seed=62, **RUN, **held)
        assert again.start["restored"]["from"] == "slot"


@pytest.mark.full
def test_a_turn_goes_to_the_worker_that_has_its_session_warm(server: Serve) -> None:
    """4 sessions at once fill both workers' 2 slots; then each goes on where it is warm."""
    with server.another_worker():
        with ThreadPoolExecutor(4) as pool:
            first = list(
                pool.map(
                    lambda s: generate(server.url, prompt="abc", seed=s, max_tokens=1500, ignore_eos=True), range(4)
                )
            )
        order = random.Random(1).sample(first * 3, 12)
        found = [
            generate(server.url, prompt="d", session_id=answer.start["session"], **RUN).start["restored"]
            for answer in order
        ]
    assert found == [{"from": "slot", "replayed_tokens": 0}] * 12


def test_a_turn_that_was_accepted_and_never_enqueued_is_run_all_the_same(
    server: Serve, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an api leaves it that dies between the two."""
    known = generate(server.url, prompt="abc", **RUN).start

    async def dies() -> str:
        store = await open_store(StoreOptions(url=settings["redis_url"], prefix="shared"))

        async def nothing(*_: object) -> None:
            pass

        monkeypatch.setattr(store.queue, "enqueue", nothing)
        tenant = await store.context.connection.call("HGET", store.context.keys.session(known["session"]), "tenant")
        session = await store.sessions.get_session(tenant.decode(), known["session"])
        asked = TurnRequest((5, 6), 4, {"temperature": 0.0, "seed": 1}, raw=True)
        accepted = await store.sessions.accept(session, asked)
        # A minute ago, as far as the sweepers can see.
        noted = repr(time.time() - 60)
        await store.context.connection.call("ZADD", store.context.keys.intended, "XX", noted, accepted.id)
        await store.close()
        return accepted.id

    gid = asyncio.run(dies())
    wait_for(lambda: httpx.get(f"{server.url}/v1/generations/{gid}").json()["status"] == "done", 60)


@pytest.mark.full
def test_a_worker_that_was_held_up_does_not_go_on_from_what_it_has(
    server: Serve, settings: dict[str, str], tmp_path: Path
) -> None:
    """SIGSTOP of the worker that has a session warm: another takes it on. When it comes back to the first one, the
    state that this one still has is a turn behind."""
    prompts = ["one", "two", "three", "four"]
    expected = lone(server, prompts, seed=80)
    with serving(tmp_path, **settings, key_prefix="held") as two, two.another_worker() as other:
        workers = [two.children()["worker"], psutil.Process(other.popen.pid)]
        got, tiers = [], []
        held: dict[str, str] = {}

        def turn() -> None:
            i = len(got)
            answer = generate(two.url, prompt=prompts[i], seed=80 + i, **RUN, **held)
            held["session_id"] = answer.start["session"]
            got.append(answer.token_ids)
            tiers.append(answer.start["restored"]["from"])

        workers[1].suspend()
        turn()
        workers[1].resume()
        workers[0].suspend()
        turn()
        workers[0].resume()
        turn()
        workers[1].suspend()
        turn()
        workers[1].resume()
    assert got == expected
    assert tiers == ["new", "redis", "slot", "redis"]


def test_a_client_that_leaves_cancels_and_what_it_saw_is_kept(server: Serve) -> None:
    events = stream(server.url, prompt="abc", max_tokens=4000, ignore_eos=True, seed=1)
    for kind, _, answer in events:
        if kind == "token" and len(answer.token_ids) >= 3:
            break
    events.close()
    session = answer.start["session"]
    after = generate(server.url, prompt="d", session_id=session, wait_s=20, **RUN)
    assert answer.start["prompt_tokens"] + 3 <= after.start["position"] < 2000
    first = httpx.get(f"{server.url}/v1/generations/{answer.start['generation']}").json()
    assert first["status"] == "cancelled"
    assert first["text"].startswith(answer.text)


def test_cancelled_by_request_in_a_long_prompt_commits_nothing(server: Serve) -> None:
    events = stream(server.url, prompt="x" * 30_000, max_tokens=5)
    _, _, answer = next(events)
    assert httpx.delete(f"{server.url}/v1/generations/{answer.start['generation']}").status_code == 200
    *_, (_, _, answer) = events
    assert answer.done["finish_reason"] == "cancelled"
    assert answer.done["position"] == 0
    assert answer.text == ""


def test_a_busy_session_refuses_a_second_turn(server: Serve) -> None:
    events = stream(server.url, prompt="abc", max_tokens=4000, ignore_eos=True)
    next(events)
    _, _, answer = next(events)
    body = {"prompt": "d", "session_id": answer.start["session"]}
    refused = httpx.post(f"{server.url}/v1/generate", json=body)
    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "session_busy"
    events.close()


def test_a_stop_string_ends_the_committed_text(server: Serve) -> None:
    free = generate(server.url, prompt="abc", seed=9, **RUN)
    stop = free.text[8:10]
    cut = generate(server.url, prompt="abc", seed=9, stop=[stop], **RUN)
    visible = free.text[: free.text.index(stop)]
    assert cut.text == visible
    assert cut.done["finish_reason"] == "stop"
    after = generate(server.url, prompt="z", seed=4, session_id=cut.start["session"], **RUN)
    fresh = generate(server.url, prompt="abc" + visible + "z", seed=4, **RUN)
    assert after.token_ids == fresh.token_ids
    assert after.start["restored"]["from"] == "redis"


def test_turns_cut_by_stop_strings_are_saved_too(server: Serve) -> None:
    """Their rows are dropped, so their states are rebuilt: what a turn replays does not grow with the history."""
    held: dict[str, str] = {}
    replayed, cut = [], 0
    for turn in range(12):
        answer = generate(server.url, prompt="tell me more", seed=turn, stop=["e", "a", "i"], wait_s=20, **RUN, **held)
        held = {"session_id": answer.start["session"]}
        replayed.append(answer.start["restored"]["replayed_tokens"])
        cut += answer.done["finish_reason"] == "stop"
    assert cut >= 4
    assert answer.done["position"] > 12 * len("tell me more")
    # At most what came since the last snapshot (24), the turn that made it due, and one whose snapshot is on its way.
    assert max(replayed) <= 24 + 3 * (12 + 20)


def test_a_worker_killed_in_mid_stream_is_replaced_and_nobody_sees_it(server: Serve) -> None:
    """Every token exactly once, equal to the undisturbed run with the same seed."""
    body = {"prompt": "once", "max_tokens": 1500, "ignore_eos": True, "seed": 11, "temperature": 0.9}
    undisturbed = generate(server.url, **body)
    events = stream(server.url, **body)
    for kind, _, answer in events:
        if kind == "token" and len(answer.token_ids) >= 20:
            break
    server.children()["worker"].send_signal(signal.SIGKILL)
    *_, (_, _, answer) = events
    assert answer.done["finish_reason"] == "length"
    assert answer.token_ids == undisturbed.token_ids
    assert answer.text == undisturbed.text
    assert answer.event_ids == [f"{n}-0" for n in range(1, len(answer.event_ids) + 1)]


@pytest.mark.full
def test_redis_gone_and_back_in_mid_stream(settings: dict[str, str], tmp_path: Path) -> None:
    """kill -9 of Valkey while two streams run: both go on when it is back, nothing is lost or doubled."""
    valkey = EmbeddedValkey(tmp_path / "valkey", fsync="always")
    asyncio.run(valkey.start())
    own = settings | {"redis_url": valkey.url}
    try:
        with serving(tmp_path, **own) as server:
            body = {"prompt": "once", "max_tokens": 1500, "ignore_eos": True, "seed": 3}
            undisturbed = generate(server.url, **body)
            events = stream(server.url, **body)
            for kind, _, answer in events:
                if kind == "token" and len(answer.token_ids) >= 20:
                    break
            asyncio.run(valkey.stop())
            refused = httpx.post(f"{server.url}/v1/generate", json={"prompt": "x"}, timeout=30)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "store_unavailable"
            assert int(refused.headers["retry-after"]) >= 1
            assert httpx.get(f"{server.url}/health/ready", timeout=30).status_code == 503
            asyncio.run(valkey.start())
            *_, (_, _, answer) = events
            assert answer.token_ids == undisturbed.token_ids
            after = generate(server.url, prompt="x", session_id=answer.start["session"], **RUN)
            assert after.start["position"] == answer.done["position"]
    finally:
        asyncio.run(valkey.stop())


def test_damaged_and_foreign_sessions_are_refused_by_name(
    settings: dict[str, str], valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    own = settings | {"key_prefix": "damage"}
    with serving(tmp_path, **own) as server:
        sessions = [generate(server.url, prompt="abc", seed=i, **RUN).start["session"] for i in range(5)]
    with Redis(unix_socket_path=valkey.url.removeprefix("unix://")) as redis:
        lineage = sessions[0].split("_")[1]
        (turn,) = redis.hgetall(f"damage:{{{lineage}}}:turns").items()
        redis.hset(f"damage:{{{lineage}}}:turns", turn[0], turn[1][:-3] + b"\0\0\0")
        redis.delete(f"damage:{{{sessions[1].split('_')[1]}}}:turns")
    with serving(tmp_path, **own) as server:
        for session in sessions[:2]:
            answer = generate(server.url, prompt="d", session_id=session, **RUN)
            assert answer.error is not None
            assert answer.error["code"] == "corrupt_state"
            assert "turn_" in answer.error["message"]
        unharmed = generate(server.url, prompt="d", session_id=sessions[2], **RUN)
        assert len(unharmed.token_ids) == 20
    other = tiny_checkpoint(tmp_path / "other", seed=1)
    with serving(tmp_path, **own | {"model": str(other)}) as server:
        refused = httpx.post(f"{server.url}/v1/generate", json={"prompt": "d", "session_id": sessions[3]})
        assert refused.status_code == 409
        assert refused.json()["error"]["code"] == "fingerprint_mismatch"
        assert len(generate(server.url, prompt="new", **RUN).token_ids) == 20


def test_running_streams_go_on_while_a_long_prompt_is_read(server: Serve) -> None:
    """6,000 tokens beside a stream: the stream gets tokens all along, not none until the prompt is read."""
    events = stream(server.url, prompt="abc", max_tokens=20_000, ignore_eos=True)
    next(events)
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(generate, server.url, prompt="y" * 6_000, max_tokens=1)
        began = time.monotonic()
        during = 0
        while not long.done():
            next(events)
            during += 1
        assert long.result().done["finish_reason"] in ("length", "eos")
    assert time.monotonic() > began
    # 64 tokens of the prompt a tick, and a token of the stream in each: 93 ticks.
    assert during >= 75
    events.close()
