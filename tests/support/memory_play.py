"""Sessions whose memory is operated on over HTTP: making one, asking, and what it says next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from support.conversation import Serve, generate

TEXT = (
    "A tale of twenty-six words, told to a model that has not learned to read, so that its memory holds a few segments."
)
# What comes next, in figures: any change of the state shows in the sixth digit.
NEXT: dict[str, Any] = {"prompt": " And", "max_tokens": 6, "temperature": 0, "ignore_eos": True, "logprobs": 0}

Next = tuple[list[int], list[float]]


def told(server: Serve, **more: Any) -> str:
    """A session that has read the text."""
    answer = generate(server.url, prompt=TEXT, max_tokens=4, temperature=0, ignore_eos=True, **more)
    session: str = answer.start["session"]
    return session


def ask(server: Serve, session: str, path: str = "", body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """POST …/memory/{path}, or GET …/memory; what is answered."""
    url = f"{server.url}/v1/sessions/{session}/memory"
    answer = httpx.post(f"{url}/{path}", json=body or {}, timeout=60) if path else httpx.get(url, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def head(server: Serve, session: str) -> str:
    found: str = server.session(session)["head"]
    return found


def rewind(server: Serve, session: str, **body: Any) -> None:
    answer = httpx.post(f"{server.url}/v1/sessions/{session}/rewind", json=body)
    assert answer.status_code == 200, answer.text


def goes_on(server: Serve, session: str) -> Next:
    """What a fork of it says next: the session itself stays where it is."""
    fork = httpx.post(f"{server.url}/v1/sessions/{session}/fork").json()["id"]
    answer = generate(server.url, session_id=fork, **NEXT)
    return answer.token_ids, answer.logprobs
