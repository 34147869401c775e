"""What the tests with real clients have in common: the tenants, and the `openai` package as the one to compare with."""

from __future__ import annotations

from typing import Any

from openai import OpenAI

# One tenant for each client, so that none continues what another one said.
KEYS = {name: f"key-of-{name}" for name in ("alice", "bob", "node", "langchain", "llm")}
# Without a penalty this model only repeats the token it read last.
SAY: dict[str, Any] = {
    "model": "tiny",
    "max_tokens": 12,
    "temperature": 0.0,
    "extra_body": {"repetition_penalty": 5},
}


def of(url: str, who: str = "alice") -> OpenAI:
    """The client of a tenant; it never asks twice."""
    return OpenAI(base_url=f"{url}/v1", api_key=KEYS[who], max_retries=0, timeout=60)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def ask(client: OpenAI, messages: list[Any], **more: Any) -> tuple[str, Any, dict[str, Any]]:
    """The text, the whole answer, and what it says of itself beside OpenAI's fields."""
    more["extra_body"] = SAY["extra_body"] | more.get("extra_body", {})
    answer = client.chat.completions.create(messages=messages, **(SAY | more))
    return answer.choices[0].message.content or "", answer, answer.model_extra["perennial"]


def told(client: OpenAI, questions: list[str], system: str | None = None, **more: Any) -> list[str]:
    """What a session named by its id answers to these, one after the other; nothing is sent twice."""
    first: list[Any] = [{"role": "system", "content": system}] if system else []
    texts: list[str] = []
    where: dict[str, Any] = {}
    body = more.pop("extra_body", {})
    for question in questions:
        messages = [*(first if not texts else []), user(question)]
        text, _, about = ask(client, messages, extra_body=body | where, **more)
        where = {"session_id": about["session_id"]}
        texts.append(text)
    return texts


def read(answer: Any) -> int:
    """Tokens that were read for an answer, rather than taken from a state; one of them is the last turn's pending."""
    return int(answer.usage.prompt_tokens - answer.usage.prompt_tokens_details.cached_tokens)


def rendered(text: str) -> int:
    """Tokens of a user's message after a turn: <|im_start|>user\\n…<|im_end|>\\n<|im_start|>assistant\\n"""
    return 1 + len("user\n") + len(text.encode()) + 1 + len("\n") + 1 + len("assistant\n")


def rendered_after(text: str, *, cut_off: bool) -> int:
    """What is read of a conversation whose new message is `text`. cut_off: whether the answer before ended by length:
    then it is closed first, <|im_end|>\\n; otherwise its end is the pending token, and \\n follows."""
    return rendered(text) + (3 if cut_off else 2)
