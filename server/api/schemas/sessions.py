"""Sessions: what is asked and what is told."""

from typing import Any

from pydantic import Field

from server.api.schemas.common import Body, Query
from server.store.records import Session


class CreateSession(Body):
    """The body of `POST /v1/sessions`: nothing can be chosen yet, so only `{}` or no body."""


class ListSessions(Query):
    """The query of `GET /v1/sessions`."""

    after: str | None = Field(None, max_length=128)
    limit: int = Field(20, ge=1, le=100)


def session_json(session: Session) -> dict[str, Any]:
    """A session as its owner sees it. `turn` is its head, to be sent back as `if_turn`.

    tier: where its state is at least: in a worker's slot while it runs, in the store once a turn is committed, nowhere
    ("new") before. A worker may hold it warm without this process knowing.
    """
    tier = "slot" if session.running else "redis" if session.head else "new"
    return {
        "id": session.id,
        "object": "session",
        "model": session.model,
        "position": session.length,
        "turn": session.head,
        "running": session.running,
        "state_bytes": session.state_bytes,
        "stored_bytes": session.stored_bytes,
        "turns_kept": session.turns,
        "tier": tier,
        "created": session.created,
        "updated": session.updated,
        "expires": round(session.expires, 3),
    }
