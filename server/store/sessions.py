"""Sessions and generations as the api sees them.

A turn is taken in by one script: the session exists, is idle, and its head is the one the caller built its input
on. An id that is malformed, unknown or another tenant's gets one and the same answer. A tenant's list of sessions is
an index beside them: it is mended whenever it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from server.errors import (
    CorruptState,
    GenerationNotFound,
    PerennialError,
    QueueFull,
    SessionBusy,
    SessionGone,
    SessionNotFound,
    TurnMismatch,
)
from server.store import keys as ids
from server.store.codec import (
    decode_generation,
    decode_session,
    decode_turn,
    encode_data,
    encode_request,
    encode_result,
    stream_event,
)
from server.store.index import TenantIndex
from server.store.options import Context
from server.store.queue import WorkQueue
from server.store.records import Generation, NewSession, Page, Result, Session, Status, TurnRequest
from server.store.scripts import Call

CREATE = Call(
    "create",
    ("session", "gone"),
    ("tenant", "model", "fingerprint", "state_bytes", "now", "session_ttl_ms", "gone_ttl_ms"),
)
ACCEPT = Call(
    "accept",
    ("session", "gen", "blocker", "turns", "snaps", "blocks", "gone"),
    (
        *("gid", "session_id", "head", "blocker_id", "fresh", "tenant", "model", "fingerprint", "state_bytes"),
        *("stored", "request", "now", "session_ttl_ms", "events_ttl_ms", "gone_ttl_ms"),
    ),
)
DELETE = Call("delete", ("session", "blocker", "turns", "snaps", "blocks"), ("blocker_id",), more_keys=("trace",))
CANCEL = Call("cancel", ("gen", "events", "session"), ("gid", "now", "result", "data", "channel", "events_ttl_ms"))
CALLS = (CREATE, ACCEPT, DELETE, CANCEL)


class SessionStore:
    """Every method raises StoreUnavailable when the store can't be reached, and StoreFull where it writes."""

    def __init__(self, context: Context, queue: WorkQueue) -> None:
        self._c = context
        self._queue = queue
        self._index = TenantIndex(context)

    async def create_session(self, new: NewSession) -> Session:
        """An empty session of a lineage of its own."""
        session_id = ids.new_session_id()
        keys, options = self._c.keys, self._c.options
        await self._c.connection.run(
            CREATE,
            [keys.session(session_id), keys.gone(session_id)],
            [
                *(new.tenant, new.model, new.fingerprint, new.state_bytes, repr(self._c.clock())),
                *(options.session_ttl_ms, options.gone_ttl_ms),
            ],
        )
        await self._index.touch(new.tenant, session_id)
        return await self.get_session(new.tenant, session_id)

    async def get_session(self, tenant: str, session_id: str) -> Session:
        """Raises SessionNotFound, also for another tenant's; SessionGone for one's own that expired or was deleted."""
        if ids.parse_session(session_id) is None:
            raise SessionNotFound
        key = self._c.keys.session(session_id)
        fields, ttl, owner = await self._c.connection.pipeline(
            [("HGETALL", key), ("PTTL", key), ("GET", self._c.keys.gone(session_id))]
        )
        if not fields:
            raise SessionGone if owner == tenant.encode() else SessionNotFound
        session = decode_session(session_id, fields, self._c.clock() + max(ttl, 0) / 1000)
        if session.tenant != tenant:
            raise SessionNotFound
        return session

    async def list_sessions(self, tenant: str, after: str | None = None, limit: int = 20) -> Page:
        """The tenant's sessions, last used first, up to `limit`. Raises InvalidRequest for a bad cursor `after`."""
        return await self._index.page(tenant, after, limit, self._read)

    async def _read(self, session_ids: Sequence[str]) -> list[Session | None]:
        """Those that exist, None in the place of the others."""
        names = [self._c.keys.session(session_id) for session_id in session_ids]
        answers = await self._c.connection.pipeline([c for k in names for c in (("HGETALL", k), ("PTTL", k))])
        now = self._c.clock()
        return [
            decode_session(session_id, fields, now + max(ttl, 0) / 1000) if fields else None
            for session_id, fields, ttl in zip(session_ids, answers[::2], answers[1::2], strict=True)
        ]

    async def delete_session(self, tenant: str, session_id: str) -> None:
        """Raises SessionNotFound, SessionGone, SessionBusy while it runs a turn."""
        session = await self.get_session(tenant, session_id)
        lineage, keys = ids.lineage_of(session_id), self._c.keys
        answer = await self._c.connection.run(
            DELETE,
            [
                *(keys.session(session_id), self._blocker(session)),
                *(keys.turns(lineage), keys.snaps(lineage), keys.blocks(lineage)),
                *(await self._traces(lineage)),
            ],
            [session.running or ""],
        )
        if answer[0] == b"BUSY":
            raise _busy(session_id, answer[1].decode())
        await self._index.drop(tenant, [session_id])

    async def _traces(self, lineage: str) -> list[str]:
        """The keys of the generations that made this lineage's turns and have not expired yet."""
        keys, now = self._c.keys, self._c.clock()
        stored = await self._c.connection.call("HGETALL", keys.turns(lineage))
        recent: list[str] = []
        for name, data in stored.items():
            # A damaged turn must not keep its session from being deleted.
            with suppress(CorruptState):
                turn = decode_turn(name.decode(), data)
                if turn.created > now - 2 * self._c.options.events_ttl_s:
                    recent.append(turn.generation)
        return [key for gid in recent for key in (keys.generation(gid), keys.events(gid))]

    def _blocker(self, session: Session) -> str:
        """The key of the generation that holds the session, or, where none does, one that no generation has."""
        return self._c.keys.generation(session.running) if session.running else self._c.keys.session(session.id)

    async def accept(
        self, session: Session | NewSession, request: TurnRequest, *, if_turn: str | None = None
    ) -> Generation:
        """Take a turn in and enqueue it.

        session: as `get_session` gave it (its head is expected to be the head still), or what to make a new one from.
        Raises QueueFull (checked first), SessionBusy naming the running generation, TurnMismatch when the head is
        not the expected one or not `if_turn`, SessionGone.
        """
        if await self._queue.depth() >= self._c.options.max_queue:
            raise QueueFull
        fresh = isinstance(session, NewSession)
        session_id = ids.new_session_id() if isinstance(session, NewSession) else session.id
        head = "" if isinstance(session, NewSession) else session.head or ""
        if if_turn is not None and if_turn != head:
            raise TurnMismatch(f"The head of session {session_id} is not the turn named by if_turn.", param="if_turn")
        running = None if isinstance(session, NewSession) else session.running
        lineage, keys, options = ids.lineage_of(session_id), self._c.keys, self._c.options
        gid = ids.new_generation_id(lineage)
        gen, now = keys.generation(gid), self._c.clock()
        answer = await self._c.connection.run(
            ACCEPT,
            [
                *(keys.session(session_id), gen, keys.generation(running) if running else gen),
                *(keys.turns(lineage), keys.snaps(lineage), keys.blocks(lineage), keys.gone(session_id)),
            ],
            [
                *(gid, session_id, head, running or "", "1" if fresh else "0", session.tenant, session.model),
                *(session.fingerprint, session.state_bytes, "1" if request.store else "0", encode_request(request)),
                *(repr(now), options.session_ttl_ms, options.events_ttl_ms, options.gone_ttl_ms),
            ],
        )
        if answer[0] == b"GONE":
            raise SessionGone
        if answer[0] == b"BUSY":
            raise _busy(session_id, answer[1].decode())
        if answer[0] == b"MISMATCH":
            raise TurnMismatch(f"Session {session_id} has moved on to another turn meanwhile.")
        try:
            await self._queue.enqueue(gid)
        except PerennialError:
            # Nobody will run it: give the session back, if the store can still be told.
            with suppress(PerennialError):
                await self.cancel(session.tenant, gid)
            raise
        if fresh and request.store:
            await self._index.touch(session.tenant, session_id)
        return Generation(gid, session_id, session.tenant, Status.QUEUED, request, False, None, now, now)

    async def get_generation(self, tenant: str, generation_id: str) -> Generation:
        """Raises GenerationNotFound, also for another tenant's. Its text so far is in its events."""
        if ids.parse_generation(generation_id) is None:
            raise GenerationNotFound
        fields, last = await self._c.connection.pipeline(
            [
                ("HGETALL", self._c.keys.generation(generation_id)),
                ("XREVRANGE", self._c.keys.events(generation_id), "+", "-", "COUNT", 1),
            ]
        )
        if not fields or fields.get(b"tenant") != tenant.encode():
            raise GenerationNotFound
        return decode_generation(generation_id, fields, stream_event(generation_id, last[0]).data if last else None)

    async def cancel(self, tenant: str, generation_id: str) -> Generation:
        """Ask for its end: a queued one is ended and leaves the queue, a running one flagged and its worker woken."""
        generation = await self.get_generation(tenant, generation_id)
        keys = self._c.keys
        length = await self._c.connection.call("HGET", keys.session(generation.session), "length")
        position = int(length or 0)
        result = Result("cancelled", {}, {}, position)
        said = {"finish_reason": "cancelled", "usage": {}, "timing": {}, "position": position}
        word = await self._c.connection.run(
            CANCEL,
            [keys.generation(generation_id), keys.events(generation_id), keys.session(generation.session)],
            [
                *(generation_id, repr(self._c.clock()), encode_result(result, said)),
                encode_data(said),
                *(keys.live(generation_id), self._c.options.events_ttl_ms),
            ],
        )
        if word == b"ASKED":
            await self._c.connection.call("PUBLISH", keys.control, generation_id)
        else:
            # It waits for nobody, so it must not count as waiting. Again where it had ended: the first try may have
            # come only half-way, as queue and session can't be written by one script.
            await self._queue.withdraw(generation_id)
        return await self.get_generation(tenant, generation_id)


def _busy(session_id: str, generation_id: str) -> SessionBusy:
    return SessionBusy(f"Session {session_id} is running generation {generation_id}.")
