"""A response as its client sees it: one object, or events with sequence numbers.

Both are a pure function of the response's record and of its generation's events, so any api says the same, numbers
included, whenever it is asked. It knows nothing of how the events come, nor of HTTP.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from model.tokenizer import Tokenizer
from server.store.keys import conversation_of
from server.store.records import Event
from server.store.responses import ResponseRecord

# What the request said comes back as it was; what it left out, as it is taken.
ECHOED = (
    *("background", "instructions", "max_output_tokens", "max_tool_calls", "metadata", "model", "parallel_tool_calls"),
    *("previous_response_id", "prompt_cache_key", "safety_identifier", "store", "temperature", "top_logprobs", "top_p"),
    *("truncation", "user"),
)


class ResponseView:
    """One response, as far as its events have been fed in."""

    def __init__(self, record: ResponseRecord, tokenizer: Tokenizer) -> None:
        self.record = record
        self._tokenizer = tokenizer
        self._item = "msg_" + record.id.removeprefix("resp_")
        self._next = 0
        self._texts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []
        self._start: Mapping[str, Any] | None = None
        self._final: Event | None = None

    # Events

    def opening(self) -> Iterator[dict[str, Any]]:
        """What is said before the generation has said anything."""
        yield self._event("response.created", response=self._json("queued" if self._background else "in_progress", []))

    def feed(self, event: Event) -> Iterator[dict[str, Any]]:
        """What one event of the generation comes to. To be read to its end."""
        if event.type == "start":
            self._start = event.data
            yield self._event("response.in_progress", response=self._json("in_progress", []))
            yield self._event("response.output_item.added", output_index=0, item=self._message("in_progress", []))
            yield self._of_part("response.content_part.added", part=self._text("", []))
        elif event.type == "token" and event.data["text"]:
            logprobs = [self._logprob(one) for one in event.data.get("logprobs") or ()]
            self._texts.append(event.data["text"])
            self._logprobs += logprobs
            yield self._of_part("response.output_text.delta", delta=event.data["text"], logprobs=logprobs)
        elif event.final:
            self._final = event
            yield from self._closing()

    def _closing(self) -> Iterator[dict[str, Any]]:
        status = self.status
        if self._start is not None and status != "failed":
            text = "".join(self._texts)
            yield self._of_part("response.output_text.done", text=text, logprobs=self._logprobs)
            yield self._of_part("response.content_part.done", part=self._text(text, self._logprobs))
            yield self._event("response.output_item.done", output_index=0, item=self._output()[0])
        # OpenAI has no word for the end of a cancelled one.
        kind = status if status in ("completed", "failed") else "incomplete"
        yield self._event(f"response.{kind}", response=self.whole())

    def error(self, error: Mapping[str, Any], last: int) -> dict[str, Any]:
        """That following broke off. last: the number of the last event that was sent: from there one can go on."""
        named = {name: error.get(name) for name in ("code", "message", "param")}
        return {"type": "error", **named, "sequence_number": last}

    def _event(self, kind: str, **data: Any) -> dict[str, Any]:
        number, self._next = self._next, self._next + 1
        return {"type": kind, "sequence_number": number, **data}

    def _of_part(self, kind: str, **data: Any) -> dict[str, Any]:
        return self._event(kind, item_id=self._item, output_index=0, content_index=0, **data)

    # The object

    @property
    def final(self) -> Event | None:
        """The event that ended it."""
        return self._final

    @property
    def start(self) -> Mapping[str, Any] | None:
        """The data of its `start` event."""
        return self._start

    @property
    def status(self) -> str:
        """How far it is, by its events."""
        if self._final is None:
            return "in_progress" if self._start is not None or not self._background else "queued"
        if self._final.type == "error":
            return "failed"
        reason = self._final.data.get("finish_reason")
        return {"length": "incomplete", "cancelled": "cancelled"}.get(str(reason), "completed")

    def whole(self) -> dict[str, Any]:
        """The response as it stands."""
        return self._json(self.status, self._output())

    @property
    def _background(self) -> bool:
        return bool(self.record.about.get("background"))

    def _json(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        about, record = self.record.about, self.record
        done = self._final.data if self._final is not None else {}
        completed = None
        if status == "completed":
            completed = int(record.created + ((done.get("timing") or {}).get("total_s") or 0))
        return {
            "id": record.id,
            "object": "response",
            "created_at": int(record.created),
            "completed_at": completed,
            "status": status,
            "error": self._error() if status == "failed" else None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            **{name: about.get(name) for name in ECHOED},
            "conversation": {"id": conversation_of(record.session)} if about.get("conversation") else None,
            "output": output,
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default",
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "usage": self._usage(),
            "perennial": self._perennial(),
        }

    def _error(self) -> dict[str, Any]:
        said = (self._final.data.get("error") if self._final is not None else None) or {}
        return {"code": "server_error", "message": str(said.get("message") or "The response failed.")}

    def _output(self) -> list[dict[str, Any]]:
        if self._start is None or (self.status == "failed" and not self._texts):
            return []
        status = self.status if self.status in ("in_progress", "completed") else "incomplete"
        return [self._message(status, [self._text("".join(self._texts), self._logprobs)])]

    def _message(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._item, "type": "message", "status": status, "role": "assistant", "content": content}

    def _text(self, text: str, logprobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(logprobs)}

    def _logprob(self, one: Mapping[str, Any]) -> dict[str, Any]:
        return self._token(one) | {"top_logprobs": [self._token(top) for top in one["top"]]}

    def _token(self, one: Mapping[str, Any]) -> dict[str, Any]:
        # A token may hold a part of a character: its bytes say which.
        token = self._tokenizer.piece(one["token_id"])
        return {"token": one["token"], "logprob": one["logprob"], "bytes": list(token)}

    def _usage(self) -> dict[str, Any] | None:
        """The whole conversation is the input; what of it was not read again is cached."""
        used = self._final.data.get("usage") if self._final is not None else None
        if not used or self._start is None:
            return None
        read = (self._start.get("position") or 0) + (used.get("prompt_tokens") or 0)
        made = used.get("completion_tokens") or 0
        return {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": used.get("cached_tokens") or 0},
            "output_tokens": made,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + made,
        }

    def _perennial(self) -> dict[str, Any]:
        start, done = self._start or {}, self._final.data if self._final is not None else {}
        record = self.record
        return {
            "session_id": record.session if record.about.get("store") else None,
            "generation": record.generation,
            "turn": done.get("turn"),
            "continued_from": record.about.get("continued_from"),
            "seed": start.get("seed"),
            "restored": start.get("restored"),
            **(record.about.get("notes") or {}),
        }


def viewed(record: ResponseRecord, events: Sequence[Event], tokenizer: Tokenizer) -> ResponseView:
    """The response as its events so far leave it."""
    view = ResponseView(record, tokenizer)
    for event in events:
        for _ in view.feed(event):
            pass
    return view


def ending(view: ResponseView) -> dict[str, Any] | None:
    """What of a response is to be noted once it has ended, beside its turn; None before."""
    if view.final is None:
        return None
    return {"start": view.start, "final": [view.final.type, dict(view.final.data)]}
