"""What OpenAI's clients are sent: choices, chunks and usage, made from a generation's events.

It knows nothing of how the events come, nor of HTTP.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson

from model.tokenizer import Tokenizer

FINISH = {"eos": "stop", "stop": "stop", "length": "length", "cancelled": "stop"}
DONE = b"data: [DONE]\n\n"
CHUNKS = """

A chunk is the answer with what is new in it: `delta` (of a chat) or `text`, and the `finish_reason` at its end. With
`stream_options: {"include_usage": true}` a last one has no choices but the usage. Then `data: [DONE]`; an `error` in
place of a chunk ends the stream. Silence is filled with comments."""


def data_frame(data: Mapping[str, Any]) -> bytes:
    """One event without a name, as OpenAI's streams have them."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def finish_reason(data: Mapping[str, Any]) -> str:
    """OpenAI's word for how a generation ended. data: of its `done` event."""
    return FINISH.get(str(data.get("finish_reason")), "stop")


def usage(ended: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of all choices of one prompt, and of all prompts.

    ended: of each choice what its `start` and `done` events say together, `prompt` being the place of its prompt. A
    prompt counts once, with the whole conversation before it; cached_tokens is what no choice of it read again.
    """
    prompts: dict[int, tuple[int, int]] = {}
    completion = 0
    for one in ended:
        used = one.get("usage") or {}
        cached = used.get("cached_tokens") or 0
        length = (one.get("before") or 0) + (one.get("prompt_tokens") or used.get("prompt_tokens") or 0)
        _, least = prompts.get(one["prompt"], (0, cached))
        prompts[one["prompt"]] = length, min(least, cached)
        completion += used.get("completion_tokens") or 0
    prompt = sum(length for length, _ in prompts.values())
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(cached for _, cached in prompts.values())},
    }


class Shape(Protocol):
    """How one of the two endpoints words its answers."""

    id: str
    whole_object: str
    chunk_object: str

    def opening(self, index: int) -> dict[str, Any] | None:
        """The choice of the first chunk, None where there is none."""

    def piece(self, index: int, data: Mapping[str, Any]) -> dict[str, Any]:
        """The choice of a chunk. data: of a `token` event."""

    def closing(self, index: int, reason: str) -> dict[str, Any]:
        """The choice of the last chunk."""

    def whole(self, index: int, answer: Mapping[str, Any]) -> dict[str, Any]:
        """The choice of a whole answer, as `answers.answer` gives it."""


class ChatShape:
    """Of `/v1/chat/completions`."""

    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def __init__(self, generation: str, tokenizer: Tokenizer) -> None:
        self.id = "chatcmpl-" + generation.removeprefix("gen_")
        self._tokenizer = tokenizer

    def opening(self, index: int) -> dict[str, Any] | None:
        return self._chunk(index, {"role": "assistant", "content": ""})

    def piece(self, index: int, data: Mapping[str, Any]) -> dict[str, Any]:
        return self._chunk(index, {"content": data["text"]}, self._logprobs(data.get("logprobs")))

    def closing(self, index: int, reason: str) -> dict[str, Any]:
        return self._chunk(index, {}, None, reason)

    def whole(self, index: int, answer: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": answer["text"], "refusal": None},
            "logprobs": self._logprobs(answer.get("logprobs")),
            "finish_reason": finish_reason(answer),
        }

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None = None, reason: str | None = None
    ) -> dict[str, Any]:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, entries: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
        if not entries:
            return None
        content = [self._token(one) | {"top_logprobs": [self._token(top) for top in one["top"]]} for one in entries]
        return {"content": content, "refusal": None}

    def _token(self, one: Mapping[str, Any]) -> dict[str, Any]:
        # A token may hold a part of a character: its bytes say which.
        return {
            "token": one["token"],
            "logprob": one["logprob"],
            "bytes": list(self._tokenizer.piece(one["token_id"])),
        }


class TextShape:
    """Of `/v1/completions`. It keeps how much text each choice has said, for the offsets."""

    whole_object = chunk_object = "text_completion"

    def __init__(self, generation: str) -> None:
        self.id = "cmpl-" + generation.removeprefix("gen_")
        self._said: dict[int, int] = {}

    def opening(self, index: int) -> dict[str, Any] | None:
        del index
        return None

    def piece(self, index: int, data: Mapping[str, Any]) -> dict[str, Any]:
        return self._choice(index, data["text"], self._logprobs(index, data.get("logprobs")), None)

    def closing(self, index: int, reason: str) -> dict[str, Any]:
        return self._choice(index, "", None, reason)

    def whole(self, index: int, answer: Mapping[str, Any]) -> dict[str, Any]:
        logprobs = self._logprobs(index, answer.get("logprobs"))
        return self._choice(index, answer["text"], logprobs, finish_reason(answer))

    def _choice(self, index: int, text: str, logprobs: dict[str, Any] | None, reason: str | None) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _logprobs(self, index: int, entries: Sequence[Mapping[str, Any]] | None) -> dict[str, Any] | None:
        if not entries:
            return None
        offsets = []
        for one in entries:
            offsets.append(self._said.get(index, 0))
            self._said[index] = offsets[-1] + len(one["token"])
        return {
            "tokens": [one["token"] for one in entries],
            "token_logprobs": [one["logprob"] for one in entries],
            "top_logprobs": [{top["token"]: top["logprob"] for top in one["top"]} for one in entries],
            "text_offset": offsets,
        }
