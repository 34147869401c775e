"""A background response whose worker is killed: another one ends it, and every api tells it with the same numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from openai import OpenAI

from support.checkpoint import tiny_checkpoint
from support.fleet import fleet

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]
LENGTH = 400


def test_a_background_response_survives_its_worker(tmp_path: Path) -> None:
    settings = {"slots": "4", "sliding_window": "64", "batch_invariant": "true", "max_tokens_limit": "4096"}
    asked = {"repetition_penalty": 5, "seed": 7}
    with fleet(tmp_path, model=str(tiny_checkpoint(tmp_path / "tiny")), **settings) as running:
        first = running.worker()
        clients = [OpenAI(base_url=f"{running.api()[0]}/v1", api_key="none", max_retries=0, timeout=60) for _ in "ab"]
        one, other = clients
        begun = one.responses.create(
            model="tiny",
            input="Tell me all of it.",
            background=True,
            max_output_tokens=LENGTH,
            extra_body=asked | {"temperature": 0.0},
        )
        events = []
        for event in one.responses.retrieve(begun.id, stream=True):
            events.append(event.to_dict())
            if len(events) == 8:
                running.kill(first)
                assert one.responses.retrieve(begun.id).status == "in_progress"
                running.worker()
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        again = [event.to_dict() for event in other.responses.retrieve(begun.id, stream=True, starting_after=5)]
        assert again == events[6:]
        ended = other.responses.retrieve(begun.id)
        assert ended.to_dict() == events[-1]["response"]
        assert "".join(str(e["delta"]) for e in events if e["type"] == "response.output_text.delta") == (
            ended.output_text
        )
        whole = one.responses.create(
            model="tiny",
            input="Tell me all of it.",
            max_output_tokens=LENGTH,
            extra_body=asked | {"temperature": 0.0},
        )
        assert (whole.output_text, whole.usage) == (ended.output_text, ended.usage)
        for client in clients:
            client.close()
