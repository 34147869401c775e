"""The `openai` package for Python against the whole server on a tiny model: as its users use it, nothing adapted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from support.checkpoint import tiny_checkpoint
from support.fleet import Fleet, fleet

pytestmark = pytest.mark.timeout(300)

KEYS = {"alice": "key-of-alice", "bob": "key-of-bob"}
SAY = {"model": "tiny", "max_tokens": 12, "temperature": 0.0}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One worker; two tenants; no memory beyond the slots that could hide what the store holds."""
    folder = tmp_path_factory.mktemp("clients")
    hashes = [f"{name}:{hashlib.sha256(key.encode()).hexdigest()}" for name, key in KEYS.items()]
    settings = {
        "model": str(tiny_checkpoint(folder / "tiny")),
        "slots": "4",
        "sliding_window": "64",
        "batch_invariant": "true",
        "api_keys": ",".join(hashes),
        "model_aliases": "gpt-4o-mini,other=somewhere-else",
        "max_tokens_limit": "4096",
        "max_tokens_default": "16",
    }
    with fleet(folder, **settings) as one:
        one.worker()
        yield one


@pytest.fixture(scope="module")
def url(running: Fleet) -> str:
    return running.api()[0]


def of(url: str, who: str = "alice") -> OpenAI:
    return OpenAI(base_url=f"{url}/v1", api_key=KEYS[who], max_retries=0, timeout=60)


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with of(url) as one:
        yield one


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def ask(client: OpenAI, messages: list[Any], **more: Any) -> tuple[str, Any, dict[str, Any]]:
    """The text, the whole answer, and what it says of itself beside OpenAI's fields."""
    answer = client.chat.completions.create(messages=messages, **(SAY | more))
    return answer.choices[0].message.content or "", answer, answer.model_extra["perennial"]


def read(answer: Any) -> int:
    """Tokens that were read for an answer, rather than taken from a state; one of them is the last turn's pending."""
    return int(answer.usage.prompt_tokens - answer.usage.prompt_tokens_details.cached_tokens)


def rendered(text: str) -> int:
    """Tokens of a user's message after a turn: <|im_start|>user\\n…<|im_end|>\\n<|im_start|>assistant\\n"""
    return 1 + len("user\n") + len(text.encode()) + 1 + len("\n") + 1 + len("assistant\n")


def test_a_history_that_is_resent_is_read_once(client: OpenAI):
    """Three turns; what is read of each is its new message; the text is that of the session named by its id."""
    questions = ["What is it?", "And then?", "And after that?"]
    messages: list[Any] = [{"role": "system", "content": "Be brief."}]
    texts, known, session = [], [], None
    for i, question in enumerate(questions):
        messages.append(user(question))
        text, answer, about = ask(client, messages)
        assert about["why"] is None
        assert session in (None, about["session_id"])
        if i:
            assert answer.usage.prompt_tokens_details.cached_tokens == length - 1
            # An answer that was cut off is closed first: <|im_end|>\n
            assert read(answer) == rendered(question) + (3 if finish == "length" else 2)
        session, finish = about["session_id"], answer.choices[0].finish_reason
        length = answer.usage.total_tokens
        texts.append(text)
        known.append(about["known_messages"])
        messages.append(answer.choices[0].message.model_dump())
    assert known == [0, 3, 5]

    again, _, about = ask(client, [messages[0], user(questions[0])], seed=1)
    by_id = [again]
    for question in questions[1:]:
        text, answer, second = ask(client, [user(question)], extra_body={"session_id": about["session_id"]})
        assert second["session_id"] == about["session_id"]
        assert "known_messages" not in second
        by_id.append(text)
    assert by_id == texts
