"""Sessions and generations as the api sees them (signatures; the code follows)."""

from __future__ import annotations

from server.store.records import Generation, NewSession, Page, Session, TurnRequest


class SessionStore:
    async def create_session(self, new: NewSession) -> Session:
        """An empty session. Raises StoreFull, StoreUnavailable (as every method here)."""
        raise NotImplementedError

    async def get_session(self, tenant: str, session_id: str) -> Session:
        """Raises SessionNotFound, also for another tenant's; SessionGone for one's own that expired or was deleted."""
        raise NotImplementedError

    async def list_sessions(self, tenant: str, after: str | None = None, limit: int = 20) -> Page:
        """The tenant's sessions, last used first."""
        raise NotImplementedError

    async def delete_session(self, tenant: str, session_id: str) -> None:
        """Raises SessionNotFound, SessionGone, SessionBusy while it runs a turn."""
        raise NotImplementedError

    async def accept(
        self, session: Session | NewSession, request: TurnRequest, *, if_turn: str | None = None
    ) -> Generation:
        """Take a turn in and enqueue it.

        session: as `get_session` gave it (its head is expected to be the head still), or what to make a new one from.
        Raises QueueFull (checked first), SessionBusy naming the running generation, TurnMismatch when the head is
        not the expected one or not `if_turn`, SessionNotFound, StoreFull, StoreUnavailable.
        """
        raise NotImplementedError

    async def get_generation(self, tenant: str, generation_id: str) -> Generation:
        """Raises GenerationNotFound, also for another tenant's. Its text so far is in its events."""
        raise NotImplementedError

    async def cancel(self, tenant: str, generation_id: str) -> Generation:
        """Ask for its end: a queued one is ended right there, a running one is flagged and its worker woken."""
        raise NotImplementedError
