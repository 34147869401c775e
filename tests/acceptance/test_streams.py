"""Eight sessions at once, each as if it were alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from support.conversation import Answer, Serve, generate

pytestmark = [pytest.mark.weights, pytest.mark.timeout(400)]

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
