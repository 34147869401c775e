"""One running turn: what the engine says of it becomes events for its stream, and in the end the turn to commit.

Invariants: every sampled token is in an event no later than its text (the events are the write-ahead log), but for an
end token, which is in the committed turn only; the committed run ends exactly where the visible text does. It writes
nothing itself and knows nothing of Redis.

Data of a `token` event: `text`, `token_ids` (those whose text is out with it), `log` (those sampled since the last
event, where they are others: text held back for a stop string; for workers, not shown to clients), `logprobs`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from model.sampling import SamplingParams
from model.tokenizer import Tokenizer
from server.engine.request import Finish, Finished, Request, Timings, Token
from server.store.history import fold
from server.store.keys import turn_of
from server.store.records import Begun, End, Event, Result, Turn
from server.worker.tiers import Restored
from server.worker.trace import untraced
from server.worker.watch import TextWatch


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ends. turn: what to commit, None where nothing is kept. warm: the row's state is the turn's."""

    turn: Turn | None
    result: Result
    final: Event
    warm: bool


class RunningTurn:
    """One generation in this worker's hands."""

    def __init__(self, begun: Begun, tokenizer: Tokenizer, clock: Callable[[], float] = time.time) -> None:
        self.begun = begun
        self.restored: Restored | None = None
        self.trace = untraced(begun)
        self._tokenizer = tokenizer
        self._clock = clock
        self._sequence = self._appended = len(begun.emitted)
        self._watch = TextWatch(tokenizer.decoder(), begun.request.stop)
        self._unshown: list[int] = []  # sampled, their text held back
        self._log: list[int] = []  # sampled since the last event
        self._visible = ""  # all text that may be shown
        self._sent = sum(len(e.data["text"]) for e in begun.emitted if e.type == "token")
        self._logprobs: list[dict[str, Any]] = []
        self._first_token: float | None = None
        self.forced = tuple(
            t for e in begun.emitted if e.type == "token" for t in e.data.get("log", e.data["token_ids"])
        )
        for token in self.forced:  # so that the decoder and the matcher stand where they stood
            self._unshown.append(token)
            self._watch.push(token)
            self._visible += self._watch.take()
        shown = sum(len(e.data["token_ids"]) for e in begun.emitted if e.type == "token")
        del self._unshown[:shown]

    @property
    def id(self) -> str:
        """The generation's id."""
        return self.begun.generation.id

    def request(self, restored: Restored) -> Request:
        """What the engine is asked, going on from `restored`."""
        self.restored = restored
        asked = self.begun.request
        sampling = dict(asked.sampling)
        sampling["logit_bias"] = {int(token): bias for token, bias in (sampling.get("logit_bias") or {}).items()}
        if asked.ignore_eos:
            sampling["banned"] = self._tokenizer.eos_ids
        stop_ids = frozenset(asked.stop_token_ids) | (frozenset() if asked.ignore_eos else self._tokenizer.eos_ids)
        return Request(
            id=self.id,
            session=self.begun.session.id,
            group=self.begun.session.tenant,
            warm=restored.warm,
            state=restored.state,
            tokens=restored.unread + asked.input_ids,
            forced=self.forced,
            sampling=SamplingParams(**sampling, logprobs=asked.logprobs),
            penalised=asked.input_ids,
            max_tokens=asked.max_tokens,
            stop_ids=stop_ids,
            watch=self._watch,
        )

    def start(self) -> Event | None:
        """The first event; None where an earlier owner has sent it."""
        assert self.restored is not None
        if self._sequence:
            return None
        return self._event(
            "start",
            {
                "generation": self.id,
                "session": self.begun.session.id,
                "position": self.begun.session.length,
                "restored": {"from": self.restored.tier, "replayed_tokens": self.restored.replayed},
                "seed": self.begun.request.sampling.get("seed"),
                "prompt_tokens": len(self.begun.request.input_ids),
            },
        )

    def push(self, token: Token) -> None:
        """A token was sampled. Ends of generation are handled by `finish`."""
        if self._first_token is None:
            self._first_token = self._clock()
            self.trace.first_token()
        if self._ends(token.token):
            return
        self._visible += self._watch.take()
        self._unshown.append(token.token)
        self._log.append(token.token)
        if token.logprob is not None:
            self._logprobs.append(self._describe(token))

    def event(self) -> Event | None:
        """One event for what was pushed since the last."""
        text = self._visible[self._sent :]
        if not self._log and not text:
            return None
        shown = list(self._unshown) if text else []
        data: dict[str, Any] = {"text": text, "token_ids": shown}
        if shown != self._log:
            data["log"] = list(self._log)
        if shown:
            self._unshown.clear()
            if self._logprobs:
                data["logprobs"], self._logprobs = self._logprobs, []
        self._log.clear()
        self._sent = max(self._sent, len(self._visible))
        return self._event("token", data)

    def complete(self) -> Finished | None:
        """A generation whose earlier owner died between a stop string and the commit: there is nothing to run."""
        if not self._watch.stopped:
            return None
        self.restored = Restored("redis", (), 0)
        timings = Timings(None, None, 0.0)
        return Finished(self.id, Finish.stop, self.forced, 0, False, None, timings)

    def finish(self, finished: Finished) -> tuple[list[Event], Ending]:
        """The events that are still to be sent, and what to commit."""
        generated = list(finished.generated)
        cut = finished.reason is Finish.stop
        if not cut:
            self._visible += self._watch.flush()
            cut = self._watch.stopped  # only the flush completed it: a stop string that ends in a broken character
        last = self.event()
        if cut:
            generated = self._cut(generated)
        elif self._end(finished, cut) is End.EOS and (end := self._end_token()) is not None:
            generated[-1] = end  # whichever end token it was, what the template closes a message with is pending
        return [last] if last else [], self._ending(finished, generated, cut)

    def _ending(self, finished: Finished, generated: list[int], cut: bool) -> Ending:
        asked, session = self.begun.request, self.begun.session
        reason = "stop" if cut else finished.reason.value
        now = self._clock()
        nothing = not finished.generated
        turn = None
        if asked.store and not nothing:
            run = asked.input_ids + tuple(generated)
            turn = Turn(
                id=turn_of(self.id),
                parent=session.head,
                tokens=run,
                length=session.length + len(run),
                end=self._end(finished, cut),
                finish=reason,
                created=now,
                digest=fold(asked.history, "assistant", self._visible) if asked.history else None,
            )
        assert self.restored is not None
        prompt = len(asked.input_ids)
        completion = len(finished.generated)
        cached = max(0, session.length - 1 - self.restored.replayed)
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "cached_tokens": cached,
        }
        created = self.begun.generation.created
        started = finished.timings.admitted_s
        timing = {
            "queued_s": round(max(0.0, now - created - finished.timings.finished_s + (started or 0.0)), 6),
            "first_token_s": None if self._first_token is None else round(self._first_token - created, 6),
            "total_s": round(now - created, 6),
        }
        position = turn.length if turn else session.length
        done = {
            "finish_reason": reason,
            "usage": usage,
            "timing": timing,
            "position": position,
            "turn": turn.id if turn else None,
        }
        result = Result(reason, usage, timing, position, turn.id if turn else None)
        return Ending(turn, result, self._event("done", done), warm=turn is not None and not cut)

    def done(self, data: dict[str, Any]) -> Event:
        """The last event, of a turn that generates nothing."""
        return self._event("done", data)

    def appended(self, last: int) -> None:
        """The store has the events up to this number. What was made may never be sent: a `done` whose commit fails."""
        self._appended = last

    def error(self, body: dict[str, Any]) -> Event:
        """The `error` event that ends the stream, after what the store has of it. body: the inside of an error in
        OpenAI's shape, with `status`."""
        return Event(self._appended + 1, "error", {"error": body})

    def _end(self, finished: Finished, cut: bool) -> End:
        if self.begun.request.raw:
            return End.RAW
        ended = finished.reason is Finish.eos and finished.generated[-1] in self._tokenizer.eos_ids
        return End.EOS if ended and not cut else End.OPEN

    def _end_token(self) -> int | None:
        return self._tokenizer.chat.end_id if self._tokenizer.chat else None

    def _ends(self, token: int) -> bool:
        asked = self.begun.request
        return token in asked.stop_token_ids or (not asked.ignore_eos and token in self._tokenizer.eos_ids)

    def _cut(self, generated: list[int]) -> list[int]:
        """The run whose text is exactly what was shown: whole tokens, then what is left of one, tokenised anew."""
        decoder, text, texts = self._tokenizer.decoder(), "", [""]
        for token in generated:
            text += decoder.push(token)
            if not self._visible.startswith(text):
                break
            texts.append(text)
        kept = len(texts) - 1
        while self._tokenizer.decode(generated[:kept]) != texts[kept]:  # the last of them holds half a character
            kept -= 1
        rest = self._visible[len(texts[kept]) :]
        return generated[:kept] + (self._tokenizer.encode(rest, specials=False) if rest else [])

    def _describe(self, token: Token) -> dict[str, Any]:
        decode = self._tokenizer.decode
        top = [{"token_id": i, "token": decode([i]), "logprob": p} for i, p in token.top]
        return {"token_id": token.token, "token": decode([token.token]), "logprob": token.logprob, "top": top}

    def _event(self, kind: str, data: dict[str, Any]) -> Event:
        self._sequence += 1
        return Event(self._sequence, kind, data)
