"""Regenerated, edited and branched answers of the default model, each beside a fresh run of the plain loop that is fed
the same runs of tokens: the same tokens, and log probabilities within `TOLERANCE`."""

from __future__ import annotations

from typing import Any

import pytest
from openai import OpenAI

from model.sampling import SamplingParams
from support.conversation import START_S, Serve
from support.fresh_runs import Run, apart, drawn, run_of
from support.oracle import Oracle

pytestmark = [pytest.mark.weights, pytest.mark.full, pytest.mark.timeout(400)]

MODEL = "smollm2-135m"
WINDOW = 512  # the default
TOLERANCE = 1e-6  # nats
MAX_TOKENS = 24
QUESTIONS = ("Name a city by the sea.", "What is it known for?", "And what should one eat there?")


def test_regenerating_editing_and_branching(server: Serve, record_property: pytest.RecordProperty) -> None:
    oracle = Oracle(MODEL, WINDOW)
    worst: list[float] = []

    def right(answer: Any, params: SamplingParams | None = None) -> Run:
        if answer.object == "response":
            said, made = answer.output[0].content[0].logprobs, answer.usage.output_tokens
        else:
            said, made = answer.choices[0].logprobs.content, answer.usage.completion_tokens
        run = run_of(server.url, answer.model_extra["perennial"], made)
        worst.append(apart(oracle, run, drawn(said), params or SamplingParams(temperature=0.0)))
        return run

    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=START_S) as client:

        def ask(messages: list[Any], **more: Any) -> Any:
            sampling: dict[str, Any] = {"temperature": 0.0, "max_tokens": MAX_TOKENS} | more
            return client.chat.completions.create(
                model=MODEL, messages=messages, logprobs=True, top_logprobs=20, **sampling
            )

        def respond(said: str, **more: Any) -> Any:
            return client.responses.create(
                model=MODEL, input=said, temperature=0.0, max_output_tokens=MAX_TOKENS,
                include=["message.output_text.logprobs"], top_logprobs=20, **more,
            )  # fmt: skip

        messages: list[Any] = []
        for question in QUESTIONS:
            messages.append({"role": "user", "content": question})
            answer = ask(messages)
            right(answer)
            messages.append({"role": "assistant", "content": answer.choices[0].message.content})
        again = ask(messages[:-1])
        assert again.choices[0].message.content == messages[-1]["content"]
        assert again.model_extra["perennial"]["known_messages"] == 4
        right(again)
        right(ask(messages[:-1], temperature=0.9, seed=7), SamplingParams(temperature=0.9, seed=7))
        edited = ask([*messages[:2], {"role": "user", "content": "Who lives there?"}, *messages[3:5]])
        assert edited.model_extra["perennial"]["known_messages"] == 2
        right(edited)

        parent = respond("Tell me of a hen.", instructions="You tell stories.")
        began = right(parent)
        children = [respond(said, previous_response_id=parent.id) for said in ("What did it eat?", "Where was it?")]
        for run in map(right, children):
            assert run.before == [*began.before, *began.read, *began.generated]
    record_property("worst_logprob_difference_nats", max(worst))
    record_property("answers_compared", len(worst))
    assert max(worst) < TOLERANCE
