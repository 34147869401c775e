"""Sessions: what is asked and what is told."""

from typing import Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from server.api.backend import View
from server.api.schemas.common import Body, Query
from server.store.records import Outline, Session


class CreateSession(Body):
    """The body of `POST /v1/sessions`: nothing can be chosen yet, so only `{}` or no body."""


class ListSessions(Query):
    """The query of `GET /v1/sessions`."""

    after: str | None = Field(None, max_length=128, description="`after` of the page before.")
    limit: int = Field(20, ge=1, le=100, description="At most so many.")


class ListTurns(Query):
    """The query of `GET /v1/sessions/{id}/turns`. after: a turn, of which those before are told."""

    after: str | None = Field(None, max_length=128, description="A turn, of which those before are told.")
    limit: int = Field(100, ge=1, le=1000, description="At most so many.")


class ForkSession(Body):
    """The body of `POST /v1/sessions/{id}/fork`. at_turn: a kept turn; absent: the head."""

    at_turn: str | None = Field(None, min_length=1, max_length=128, description="A kept turn; absent: its head.")


class RewindSession(Body):
    """The body of `POST /v1/sessions/{id}/rewind`: how many turns to go back, or the turn to stand at."""

    turns: int | None = Field(None, ge=1, lt=2**31, description="How many turns to go back.")
    to_turn: str | None = Field(None, min_length=1, max_length=128, description="The kept turn to stand at.")

    @model_validator(mode="after")
    def _one(self) -> "RewindSession":
        if (self.turns is None) == (self.to_turn is None):
            raise PydanticCustomError("rewind", "Exactly one of turns and to_turn is required")
        return self


def session_json(session: Session, view: View) -> dict[str, Any]:
    """A session as its owner sees it. `head` is to be sent back as `if_turn` or `from_turn`.

    position: tokens of its sequence. turns: all that led to its head; turns_kept: those that can still be gone back to.
    tier: where its state is: "new" (nowhere yet), "slot" or "ram" of a live worker, else "redis". window_start: the
    first position that is attended to exactly, None where no live worker serves its model.
    """
    worker = view.serving(session.fingerprint)
    window = worker.info.get("window") if worker is not None else None
    tier = session.tier if view.alive(session.worker) else "redis"
    return {
        "id": session.id,
        "object": "session",
        "model": session.model,
        "position": session.length,
        "state_bytes": session.state_bytes,
        "stored_bytes": session.stored_bytes,
        "turns": session.turns,
        "turns_kept": session.kept,
        "tier": "new" if session.head is None else tier,
        "window_start": max(0, session.length - window) if isinstance(window, int) else None,
        "head": session.head,
        "running": session.running,
        "origin": None if session.origin is None else {"session": session.origin[0], "turn": session.origin[1]},
        "created": session.created,
        "updated": session.updated,
        "expires": round(session.expires, 3),
    }


def turn_json(turn: Outline) -> dict[str, Any]:
    """A turn's place in its session. tokens: how many it appended; length: of the sequence up to and with it."""
    return {
        "id": turn.id,
        "object": "turn",
        "parent": turn.parent,
        "tokens": turn.tokens,
        "length": turn.length,
        "end": turn.end.value,
        "finish": turn.finish,
        "operation": turn.operation,
        "created": turn.created,
    }
