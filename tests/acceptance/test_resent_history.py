"""A client that keeps no state and sends its whole history with every request: only what is new in it is read."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from model.chat import ChatTemplate
from model.tokenizer import load_tokenizer
from support.conversation import START_S, Answer, Serve, generate, serving

pytestmark = [pytest.mark.weights, pytest.mark.full, pytest.mark.timeout(900)]

TURNS, RESTART = 60, 30
SYSTEM = {"role": "system", "content": "You are a helpful assistant. Keep your answers short."}
# Drawn with a seed: the likeliest answer of so small a model would be the same one every time.
SAY: dict[str, Any] = {"max_tokens": 12, "temperature": 0.9}


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer. prompt, cached, total: tokens, as its usage has them. first_s: to its first text."""

    text: str
    finish: str
    prompt: int
    cached: int
    total: int
    first_s: float
    about: dict[str, Any]


def resend(client: OpenAI, messages: list[Any], seed: int) -> Heard:
    """Stream the answer to all of a conversation."""
    text, finish, first_s, about, began = "", "", 0.0, {}, time.perf_counter()
    for chunk in client.chat.completions.create(
        model="smollm2-135m",
        messages=messages,
        seed=seed,
        **SAY,
        stream=True,
        stream_options={"include_usage": True},
    ):
        about = (chunk.model_extra or {}).get("perennial", about)
        for choice in chunk.choices:
            if choice.delta.content and not text:
                first_s = time.perf_counter() - began
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
        used = chunk.usage
    assert used is not None
    assert used.prompt_tokens_details is not None
    cached = used.prompt_tokens_details.cached_tokens or 0
    return Heard(text, finish, used.prompt_tokens, cached, used.total_tokens, first_s, about)


def by_session(server: Serve, questions: list[str], system: dict[str, str] = SYSTEM) -> Iterator[Answer]:
    """A conversation through one session's id, a turn at a time: only the new message is sent."""
    session: dict[str, str] = {}
    for seed, question in enumerate(questions):
        new = [*([] if session else [system]), {"role": "user", "content": question}]
        answer = generate(server.url, messages=new, seed=seed, **SAY, **session)
        session = {"session_id": answer.start["session"]}
        yield answer


def new_tokens(chat: ChatTemplate, text: str, finish: str) -> int:
    """What is read of a new message: it, what the template puts around it, and the last turn's pending token."""
    after = "open" if finish == "length" else "eos"
    return 1 + len(chat.render_next([{"role": "user", "content": text}], after=after))


def test_only_what_is_new_is_read(tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    """From the second turn on, whatever was said before, and also after a restart in the middle."""
    chat = load_tokenizer("smollm2-135m", None).chat
    assert chat is not None
    questions = [f"Turn {turn}: tell me something new about the sea." for turn in range(1, TURNS + 1)]
    messages: list[Any] = [SYSTEM]
    heard: list[Heard] = []
    aside: list[Answer] = []
    with serving(tmp_path, batch_invariant="true", slots="8") as server:
        beside = by_session(server, questions, SYSTEM | {"content": f"{SYSTEM['content']} Be kind."})
        for turn, question in enumerate(questions):
            if turn == RESTART:
                assert server.stop() == 0
                server.start()
            messages.append({"role": "user", "content": question})
            with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=START_S) as client:
                one = resend(client, messages, seed=turn)
            assert one.about["known_messages"] == (len(messages) - 1 if turn else 0)
            assert one.about["why"] is None
            if turn:
                before = heard[-1]
                assert one.about["restored"]["from"] == ("redis" if turn == RESTART else "slot")
                assert one.about["restored"]["replayed_tokens"] == 0  # it was saved when the server was stopped
                assert one.about["session_id"] == before.about["session_id"]
                assert one.cached == before.total - 1
                assert one.prompt - one.cached == new_tokens(chat, question, before.finish)
            heard.append(one)
            messages.append({"role": "assistant", "content": one.text})
            # In turns with another conversation, so that both find the machine as it is at the time.
            aside.append(next(beside))
        named = list(by_session(server, questions))
    assert len({one.text for one in heard}) > TURNS // 2
    assert [one.text for one in heard] == [answer.text for answer in named]
    assert [one.total for one in heard] == [answer.done["position"] for answer in named]

    record_property("tokens_of_history", heard[-1].total)
    for name, first_s in (
        ("resent", [one.first_s for one in heard]),
        ("by_session", [answer.arrivals[0] for answer in aside]),
    ):
        # The window is full from turn 16 or so; until then there is less and less to attend to, the earlier the less.
        filling, full, late = (statistics.median(first_s[a:b]) for a, b in ((4, 15), (17, 30), (46, 60)))
        record_property(f"{name}_first_token_turns_5_15_s", round(filling, 4))
        record_property(f"{name}_first_token_turns_18_30_s", round(full, 4))
        record_property(f"{name}_first_token_turns_47_60_s", round(late, 4))
        record_property(f"{name}_ratio", round(late / full, 3))
    pairs = [one.first_s / answer.arrivals[0] for one, answer in zip(heard, aside, strict=True)]
    for at, (a, b) in {"18_30": (17, 30), "47_60": (46, 60)}.items():
        record_property(f"resent_to_by_session_turns_{at}", round(statistics.median(pairs[a:b]), 3))
