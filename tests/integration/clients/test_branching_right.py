"""Regenerating, editing and branching, each beside a fresh run of the plain loop that is fed the same runs of tokens.

The server runs in batch-invariant mode: the very same tokens are drawn, and log probabilities differ by `TOLERANCE` at
most, which is how far two ways of computing a log-softmax are apart.
"""

from __future__ import annotations

from typing import Any

import pytest
from openai import OpenAI

from model.sampling import SamplingParams
from support.fleet import Fleet
from support.fresh_runs import apart, drawn, run_of
from support.openai_clients import KEYS, SAY, ask, assistant, user
from support.oracle import Oracle

pytestmark = pytest.mark.timeout(300)

TOLERANCE = 1e-6  # nats
PENALTY = SAY["extra_body"]["repetition_penalty"]
GREEDY = SamplingParams(temperature=0.0, repetition_penalty=PENALTY)


@pytest.fixture(scope="module")
def oracle(running: Fleet) -> Oracle:
    return Oracle(running.settings["model"], int(running.settings["sliding_window"]))


@pytest.fixture
def right(oracle: Oracle, url: str) -> Any:
    """Whether a chat completion, or a response, is what a fresh run says; the runs it was made of."""
    headers = {"Authorization": f"Bearer {KEYS['alice']}"}

    def check(answer: Any, params: SamplingParams = GREEDY) -> Any:
        if answer.object == "response":
            said, made = answer.output[0].content[0].logprobs, answer.usage.output_tokens
        else:
            said, made = answer.choices[0].logprobs.content, answer.usage.completion_tokens
        run = run_of(url, answer.model_extra["perennial"], made, headers)
        assert apart(oracle, run, drawn(said), params) < TOLERANCE
        return run

    return check


def chat(client: OpenAI, messages: list[Any], **more: Any) -> tuple[str, Any]:
    text, answer, _ = ask(client, messages, logprobs=True, top_logprobs=20, **more)
    return text, answer


def respond(client: OpenAI, said: Any, **more: Any) -> Any:
    return client.responses.create(
        model="tiny", input=said, max_output_tokens=12, temperature=0.0, extra_body=SAY["extra_body"],
        include=["message.output_text.logprobs"], top_logprobs=20, **more,
    )  # fmt: skip


def test_regenerating_and_editing(client: OpenAI, right: Any):
    """The last answer again, greedily and drawn; then another third message, with all that followed it."""
    messages: list[Any] = []
    for question in ("Where does it begin?", "And in the middle?", "And where does it end?"):
        messages.append(user(question))
        last, _ = chat(client, messages)
        messages.append(assistant(last))

    again, answer = chat(client, messages[:-1])
    assert (again, answer.model_extra["perennial"]["known_messages"]) == (last, 4)
    first = right(answer)
    drawn_text, answer = chat(client, messages[:-1], temperature=1.3, seed=11)
    assert drawn_text != last
    other = right(answer, SamplingParams(temperature=1.3, seed=11, repetition_penalty=PENALTY))
    assert (other.before, other.read) == (first.before, first.read)

    edited = [*messages[:2], user("And in the MIDDLE, rather?"), *messages[3:5]]
    _, answer = chat(client, edited)
    assert answer.model_extra["perennial"]["known_messages"] == 2
    run = right(answer)
    assert first.before[: len(run.before)] == run.before
    assert len(run.read) > len(first.read)


def test_two_responses_after_one(client: OpenAI, right: Any):
    """Two children of a parent, and a child of the first."""
    parent = respond(client, "Once upon a time")
    began = right(parent)
    one, two = (respond(client, word, previous_response_id=parent.id) for word in ("there was a hen.", "NOBODY was."))
    runs = [right(child) for child in (one, two)]
    assert {tuple(run.before) for run in runs} == {(*began.before, *began.read, *began.generated)}
    assert one.output_text != two.output_text
    grandchild = right(respond(client, "Go on.", previous_response_id=one.id))
    assert grandchild.before == [*runs[0].before, *runs[0].read, *runs[0].generated]
