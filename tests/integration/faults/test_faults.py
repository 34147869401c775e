"""Processes are killed and stopped in mid-stream; nobody who listens can tell, and nothing acknowledged is lost."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from support.checkpoint import tiny_checkpoint
from support.conversation import Answer, generate
from support.fleet import Fleet, Listener, fleet, unbroken
from support.oracle import Oracle
from support.serving import CHATML, wait_for

pytestmark = pytest.mark.timeout(300)

STREAMS = 8
LONG = {"max_tokens": 500, "ignore_eos": True, "temperature": 0.8}
SHORT = LONG | {"max_tokens": 12}

Record = Callable[[str, object], None]


def prompt(i: int) -> str:
    return f"stream {i} " * (1 + i)


def expected(oracle: Oracle, i: int, count: int = LONG["max_tokens"]) -> list[int]:
    return oracle.next(prompt(i).encode(), seed=i, count=count)


def listeners(url: str, heard: int, count: int = LONG["max_tokens"]) -> list[Listener]:
    """Eight clients, each of whom has heard so many tokens, of `count`."""
    found = [Listener(url, prompt=prompt(i), seed=i, **LONG | {"max_tokens": count}) for i in range(STREAMS)]
    for one in found:
        one.heard(heard)
    return found


def check_whole(found: list[Listener], oracle: Oracle, count: int = LONG["max_tokens"]) -> list[Answer]:
    """Every token exactly once, and equal to the undisturbed run."""
    answers = [one.whole() for one in found]
    for i, answer in enumerate(answers):
        assert answer.token_ids == expected(oracle, i, count)
        assert unbroken(answer.event_ids)
        assert answer.done["finish_reason"] == "length"
    return answers


def silence(found: list[Listener], killed: float) -> float:
    """Seconds from a death to the last stream's next token."""
    return max(next(at for at in one.at if at > killed + 0.05) - killed for one in found)


def test_a_worker_dies_under_eight_streams_and_another_goes_on(
    empty_fleet: Fleet, oracle: Oracle, record_property: Record
) -> None:
    first = empty_fleet.worker()
    url, _ = empty_fleet.api()
    for count in (500, 1000, 2000):
        found = listeners(url, 10, count)
        second = empty_fleet.worker()
        if all(one.is_alive() for one in found):
            break
        # The second worker took longer to start than the streams to end: once more, with longer ones.
        empty_fleet.kill(second)
        for one in found:
            one.whole()
    else:
        pytest.fail("a worker's start outlasts any stream")
    killed = time.monotonic()
    empty_fleet.kill(first)
    check_whole(found, oracle, count)
    record_property("seconds_to_resume", round(silence(found, killed), 2))
    assert second.popen.poll() is None


@pytest.mark.full
@pytest.mark.parametrize("pause", [1.0, 10.0])
def test_the_only_worker_dies_under_eight_streams_and_is_started_again(
    empty_fleet: Fleet, oracle: Oracle, record_property: Record, pause: float
) -> None:
    first = empty_fleet.worker()
    url, _ = empty_fleet.api()
    found = listeners(url, heard=10)
    assert all(one.is_alive() for one in found), "too late: it has ended"
    empty_fleet.kill(first)
    time.sleep(pause)  # nobody is there
    began = time.monotonic()
    empty_fleet.worker()
    check_whole(found, oracle)
    record_property("seconds_to_resume_after_restart", round(silence(found, began), 2))


@pytest.mark.full
def test_a_stopped_worker_that_wakes_up_late_writes_nothing(empty_fleet: Fleet, oracle: Oracle) -> None:
    """Another takes its turn over meanwhile; what it then says is refused, and it goes on with other turns."""
    sleeper = empty_fleet.worker()
    url, _ = empty_fleet.api()
    begun = generate(url, prompt="begin", seed=1, **SHORT)
    session = {"session_id": begun.start["session"]}
    heir = empty_fleet.worker()
    # It goes to the worker that has the session warm.
    one = Listener(url, prompt="go on", seed=2, **LONG, **session)
    one.heard(10)
    sleeper.popen.send_signal(signal.SIGSTOP)
    assert one.is_alive(), "too late: it has ended"
    first = one.whole()
    sleeper.popen.send_signal(signal.SIGCONT)
    history = [*b"begin", *begun.token_ids, *b"go on"]
    assert first.token_ids == oracle.next(history, 2, LONG["max_tokens"])
    assert unbroken(first.event_ids)
    wait_for(lambda: '"fenced"' in sleeper.errors())
    history += [*first.token_ids, *b"more"]
    second = generate(url, prompt="more", seed=9, wait_s=20, **session, **SHORT)
    assert second.token_ids == oracle.next(history, 9, SHORT["max_tokens"])
    assert httpx.get(f"{url}/v1/sessions/{first.start['session']}").json()["position"] == len(history) + 12
    empty_fleet.kill(heir)
    third = generate(url, prompt="and", seed=10, wait_s=20, **session, **SHORT)
    assert third.token_ids == oracle.next([*history, *second.token_ids, *b"and"], 10, SHORT["max_tokens"])


def test_an_api_dies_in_mid_stream_and_the_client_resumes_at_another(empty_fleet: Fleet, oracle: Oracle) -> None:
    empty_fleet.worker()
    (here, process), (there, _) = empty_fleet.api(), empty_fleet.api()
    one = Listener(here, prompt=prompt(0), seed=0, **LONG)
    one.heard(30)
    empty_fleet.kill(process)
    one.join(20)
    assert one.broken is not None
    assert not one.answer.done
    last = one.answer.event_ids[-1]
    two = Listener(there, generation=one.answer.start["generation"], after=last)
    rest = two.whole()
    assert unbroken([*one.answer.event_ids, *rest.event_ids])
    assert one.answer.token_ids + rest.token_ids == expected(oracle, 0)
    # After its end too, and from the beginning.
    again = Listener(there, generation=one.answer.start["generation"]).whole()
    assert again.token_ids == expected(oracle, 0)


@pytest.mark.full
@pytest.mark.parametrize("fsync", ["always", "everysec"])
def test_valkey_dies_and_what_was_acknowledged_is_there(
    tmp_path: Path, settings: dict[str, str], oracle: Oracle, fsync: str
) -> None:
    """Three deaths while eight conversations run; with everysec too, since only a dying machine loses its cache."""
    with fleet(tmp_path, fsync=fsync, **settings) as one:
        one.worker()
        url, _ = one.api()
        with ThreadPoolExecutor(STREAMS) as pool:
            talks = [pool.submit(talk, url, i, 8) for i in range(STREAMS)]
            for _ in range(3):
                time.sleep(random.Random(fsync).uniform(0.3, 0.8))
                one.kill_valkey()
                one.revive_valkey()
            acknowledged = [talking.result() for talking in talks]
        for i, (session, history) in enumerate(acknowledged):
            found = httpx.get(f"{url}/v1/sessions/{session}").json()
            assert found["position"] == len(history)
            answer = generate(url, prompt="end", session_id=session, seed=i, wait_s=20, **SHORT)
            assert answer.token_ids == oracle.next([*history, *b"end"], i, SHORT["max_tokens"])


def talk(url: str, i: int, turns: int) -> tuple[str, list[int]]:
    """One client that repeats what is refused because the store is away: its session and all its tokens."""
    history: list[int] = []
    held: dict[str, str] = {}
    for turn in range(turns):
        text = f"turn {turn} of {i}"
        answer = patient(url, {"prompt": text, "seed": turn, "wait_s": 20, **held, **SHORT}, key=f"{i}-{turn}")
        held = {"session_id": answer.start["session"]}
        history += [*text.encode(), *answer.token_ids]
    return held["session_id"], history


def patient(url: str, body: dict[str, object], key: str) -> Answer:
    """Ask until it is answered; an idempotency key makes sure that it runs once."""
    deadline = time.monotonic() + 60
    while True:
        with httpx.Client(timeout=60) as client:
            try:
                response = client.post(
                    f"{url}/v1/generate", json=body | {"stream": False}, headers={"Idempotency-Key": key}
                )
            except httpx.TransportError:
                response = None
        if response is not None and response.status_code == 200:
            said = response.json()
            return Answer(start={"session": said["session"]}, done=said, token_ids=said["token_ids"])
        assert response is None or response.status_code == 503, response.text
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.full
@pytest.mark.parametrize("changed", ["weights", "template", "window"])
def test_a_session_of_what_has_changed_since_is_refused_by_name(
    tmp_path: Path, settings: dict[str, str], checkpoint: Path, changed: str
) -> None:

    with fleet(tmp_path, **settings) as one:
        first = one.worker()
        url, api = one.api()
        session = generate(url, prompt="abc", **SHORT).start["session"]
        one.kill(first)
        one.kill(api)
        other = {
            "weights": lambda: {"model": str(tiny_checkpoint(tmp_path / "other", seed=1))},
            "template": lambda: {"model": str(tiny_checkpoint(tmp_path / "other", template=CHATML + "\n"))},
            "window": lambda: {"sliding_window": "48"},
        }[changed]()
        one.worker(**other)
        url, _ = one.api(**other)
        refused = httpx.post(f"{url}/v1/generate", json={"prompt": "d", "session_id": session})
        assert refused.status_code == 409
        error = refused.json()["error"]
        assert error["code"] == "fingerprint_mismatch"
        assert len(generate(url, prompt="new", **SHORT).token_ids) == SHORT["max_tokens"]
        assert str(checkpoint) not in error["message"]
