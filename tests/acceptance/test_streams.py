"""Eight sessions at once, each as if it were alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from support.conversation import Answer, Serve, generate, say

pytestmark = [pytest.mark.weights, pytest.mark.timeout(400)]

ENDOFTEXT = 0  # SmolLM2's other end token

PROMPTS = [
    "Once upon a time",
    "The capital of France is",
    "def fibonacci(n):",
    "In the beginning",
    "My favourite recipe for soup starts with",
    "The three laws of robotics are",
    "Dear Sir or Madam,",
    "1, 2, 3, 5, 8,",
]


def run(server: Serve, i: int) -> Answer:
    return generate(
        server.url, prompt=PROMPTS[i] * (1 + 9 * i), max_tokens=24, seed=1000 + i, temperature=0.9, ignore_eos=True
    )


def test_a_turn_that_ended_by_the_other_end_token_goes_on(server: Serve) -> None:
    """Pending is then the template's own end token, in the warm slot too."""
    ended = say(server.url, "Hello!", logit_bias={ENDOFTEXT: 100})
    assert ended.done["finish_reason"] == "eos"
    assert ended.text == ""
    after = say(server.url, "Are you there?", session_id=ended.start["session"], max_tokens=8)
    assert after.start["restored"]["from"] == "slot"
    assert after.done["usage"]["completion_tokens"] > 0


def test_eight_streams_equal_their_lone_runs(server: Serve) -> None:
    """Batch-invariant mode; prompts of very different lengths, so that rows are at different stages."""
    alone = [run(server, i) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda i: run(server, i), range(8)))
    for lone, crowded in zip(alone, together, strict=True):
        assert len(lone.token_ids) == 24
        assert crowded.token_ids == lone.token_ids
        assert crowded.text == lone.text
    overlap = sum(1 for a in together if len(a.arrivals) > 1)
    assert overlap == 8
