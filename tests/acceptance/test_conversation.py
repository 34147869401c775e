"""What the product is for: a conversation that goes on, whatever happens to the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from model.tokenizer import load_tokenizer
from support.conversation import Serve, generate, say, serving, stream

pytestmark = [pytest.mark.weights, pytest.mark.timeout(400)]

# Simple enough for 135 million parameters: it answers "The name of your sister is Alexander."
SYSTEM = {"role": "system", "content": "You are a helpful assistant. Keep your answers short."}
TELL = {"role": "user", "content": "The name of my sister is Alexander."}
ASK = "What is the name of my sister?"


@pytest.fixture
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serve]:
    with serving(tmp_path, **request.param) as one:
        yield one


def new_tokens(text: str) -> int:
    """How many tokens the message alone is, with what the template puts around it after an end token."""
    chat = load_tokenizer("smollm2-135m", None).chat
    assert chat is not None
    return len(chat.render_next([{"role": "user", "content": text}], after="eos"))


@pytest.mark.parametrize(
    ("own", "saved"),
    [
        pytest.param({}, False, id="from-the-log"),
        pytest.param({"snapshot_every": "8"}, True, id="from-a-snapshot", marks=pytest.mark.full),
    ],
    indirect=["own"],
)
def test_it_knows_the_name_after_the_server_was_stopped_and_after_it_was_killed(own: Serve, saved: bool) -> None:
    """A short conversation is replayed from its log; one with a snapshot goes on from that, and a kill costs at most
    the turn that was being saved."""
    told = generate(own.url, messages=[SYSTEM, TELL], temperature=0, max_tokens=24)
    assert told.start["restored"] == {"from": "new", "replayed_tokens": 0}
    session = told.start["session"]
    position = told.done["position"]
    for end, unsaved in ((own.stop, 0), (own.kill, 40)):
        end()
        own.start()
        asked = say(own.url, ASK, session_id=session, max_tokens=24)
        assert "Alexander" in asked.text
        assert asked.start["position"] == position
        restored = asked.start["restored"]
        assert restored["from"] == "redis"
        assert restored["replayed_tokens"] <= unsaved if saved else restored["replayed_tokens"] == position - 1
        assert asked.done["usage"]["prompt_tokens"] == asked.start["prompt_tokens"] < 40
        if told.done["finish_reason"] == "eos":
            assert asked.start["prompt_tokens"] == new_tokens(ASK)
        position, told = asked.done["position"], asked


@pytest.mark.parametrize("own", [{"drain_s": "0.2"}], indirect=True)
def test_a_turn_that_runs_when_the_server_is_stopped_is_committed(own: Serve) -> None:
    events = stream(own.url, prompt="Once upon a time", max_tokens=2000, temperature=0, ignore_eos=True)
    for kind, _, answer in events:
        if kind == "token" and len(answer.token_ids) == 5:
            break
    own.process.popen.terminate()
    *_, (_, _, answer) = events
    assert own.process.wait() == 0
    own.process.stop()
    assert answer.done["finish_reason"] == "interrupted"
    own.start()
    found = httpx.get(f"{own.url}/v1/sessions/{answer.start['session']}").raise_for_status().json()
    assert found["position"] == answer.done["position"] == answer.start["prompt_tokens"] + len(answer.token_ids)
    went_on = generate(own.url, prompt=" Then", session_id=found["id"], max_tokens=4, temperature=0)
    assert went_on.start["position"] == found["position"]


@pytest.mark.parametrize("own", [{}], indirect=True)
def test_a_killed_server_finishes_what_it_was_streaming(own: Serve) -> None:
    """Nobody is there any more to cancel it: after the restart the turn is taken over, finished and committed."""
    events = stream(own.url, prompt="Once upon a time", max_tokens=60, temperature=0, ignore_eos=True)
    for kind, _, answer in events:
        if kind == "token" and len(answer.token_ids) == 5:
            break
    own.kill()
    seen = list(answer.token_ids)
    own.start()
    session = answer.start["session"]
    went_on = generate(own.url, prompt=" And then", session_id=session, max_tokens=4, temperature=0, wait_s=60)
    first = httpx.get(f"{own.url}/v1/generations/{answer.start['generation']}").raise_for_status().json()
    assert first["status"] == "done"
    assert first["text"].startswith(answer.text)
    assert went_on.start["position"] == answer.start["prompt_tokens"] + 60
    assert len(seen) >= 5


def test_a_hundred_turns_cost_what_one_turn_costs(server: Serve, record_property: pytest.RecordProperty) -> None:
    """State bytes are equal, and the time to the first token does not grow with the history."""
    session, first_token, sizes = None, [], set()
    for turn in range(100):
        body = {"session_id": session} if session else {}
        answer = say(server.url, f"Turn {turn}: tell me something new about the sea.", max_tokens=4, **body)
        session = answer.start["session"]
        assert answer.start["restored"]["from"] == ("slot" if turn else "new")
        assert answer.start["restored"]["replayed_tokens"] == 0
        first_token.append(answer.arrivals[0])
        sizes.add(httpx.get(f"{server.url}/v1/sessions/{session}").raise_for_status().json()["state_bytes"])
    assert len(sizes) == 1
    assert answer.done["position"] > 2000
    early, late = sorted(first_token[10:40])[15], sorted(first_token[70:])[15]
    record_property("state_bytes", sizes.pop())
    record_property("first_token_turns_10_40_s", round(early, 4))
    record_property("first_token_turns_70_100_s", round(late, 4))
    record_property("slope", round(late / early, 3))
