"""Every architecture behind the same server: streamed, killed, resumed, forked, equal to the lone run."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from model.registry import ARCHITECTURES
from server.store.embedded import EmbeddedValkey
from support.conversation import Serve, generate, serving, stream
from support.families import FAMILIES, family_checkpoint
from support.oracle import Oracle

pytestmark = pytest.mark.timeout(400)

RUN = {"temperature": 0.8, "ignore_eos": True}
LONG = 400  # tokens: a second or more for a tiny model, so that a worker is killed before it is done
QUICK = "hybrid"  # in the normal run; it has a state space's leaves and a window's
WINDOWS = {"hybrid": 16, "senri": 32}  # its own, and what the server is set to

CASES = [pytest.param(family, marks=[] if family == QUICK else [pytest.mark.full]) for family in FAMILIES]


def test_every_architecture_is_here() -> None:
    assert FAMILIES.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("family", CASES)
def test_it_is_served_streamed_killed_resumed_and_forked(family: str, valkey: EmbeddedValkey, tmp_path: Path) -> None:
    checkpoint = family_checkpoint(family, tmp_path / "model")
    oracle = Oracle(checkpoint, 32)
    settings = {
        "redis_url": valkey.url,
        "key_prefix": f"family-{family}",
        "model": str(checkpoint),
        "slots": "2",
        "sliding_window": "32",
        "snapshot_every": "24",
        "batch_invariant": "true",
        "drain_s": "1",
    }
    with serving(tmp_path, **settings) as server:
        events = stream(server.url, prompt="abc", seed=1, max_tokens=LONG, **RUN)
        for _, _, answer in events:
            if len(answer.token_ids) >= 5:
                break
        server.children()["worker"].kill()
        heard = len(answer.token_ids)
        for _ in events:  # what the next worker says
            pass
        assert heard < LONG
        numbers = [int(event_id.partition("-")[0]) for event_id in answer.event_ids]
        assert numbers == sorted(set(numbers))
        assert answer.done["finish_reason"] == "length"
        assert answer.token_ids == oracle.next(list(b"abc"), 1, LONG)

        session, text = answer.start["session"], [*b"abc", *answer.token_ids]
        forked = httpx.post(f"{server.url}/v1/sessions/{session}/fork", json={}).raise_for_status().json()
        expected = oracle.next([*text, *b"de"], 2, 20)
        for one in (session, forked["id"]):
            went_on = generate(server.url, prompt="de", seed=2, session_id=one, max_tokens=20, **RUN)
            assert went_on.token_ids == expected
        look(server, session, len(text) + 22, WINDOWS.get(family))

        server.kill()
        server.start()
        text += [*b"de", *expected]
        after = generate(server.url, prompt="f", seed=3, session_id=forked["id"], max_tokens=20, **RUN)
        assert after.start["restored"]["from"] == "redis"
        assert after.token_ids == oracle.next([*text, *b"f"], 3, 20)
        refused(server)


def look(server: Serve, session: str, position: int, window: int | None) -> None:
    """What is said of the session and of its memory is of this family: one without rings has no window to leave."""
    told = server.session(session)
    assert told["position"] == position
    assert told["window_start"] == (None if window is None else position - window)
    memory = httpx.get(f"{server.url}/v1/sessions/{session}/memory", timeout=60).raise_for_status().json()
    assert memory["matrices"]
    assert all(matrix["norm"] >= 0 for matrix in memory["matrices"])


def refused(server: Serve) -> None:
    """A base model has no chat template: chatting is refused with what to do instead."""
    messages = [{"role": "user", "content": "Hello"}]
    model = httpx.get(f"{server.url}/v1/models", timeout=60).raise_for_status().json()["data"][0]["id"]
    for path, body in (
        ("/v1/chat/completions", {"model": model, "messages": messages}),
        ("/v1/generate", {"messages": messages}),
    ):
        answer = httpx.post(f"{server.url}{path}", json=body, timeout=60)
        assert answer.status_code == 400
        assert "no chat template: send prompt or input_ids" in answer.json()["error"]["message"]
