"""Sessions and generations as the api sees them.

A turn is taken in by one script: the session exists, is idle, its head is the one the caller built its input on, and
its idempotency key is new. An id that is malformed, unknown or another tenant's gets one and the same answer. A
tenant's list of sessions is an index beside them: it is mended whenever it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress

from server.errors import (
    Conflict,
    GenerationNotFound,
    IdempotencyReused,
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
    encode_data,
    encode_request,
    encode_result,
    stream_event,
)
from server.store.index import TenantIndex
from server.store.options import Context
from server.store.queue import WorkQueue
from server.store.records import Generation, Idempotency, NewSession, Page, Result, Session, Status, TurnRequest
from server.store.scripts import Call

CREATE = Call(
    "create",
    ("session", "lineage", "gone"),
    ("tenant", "model", "fingerprint", "state_bytes", "now", "session_ttl_ms", "gone_ttl_ms"),
)
ACCEPT = Call(
    "accept",
    ("session", "gen", "blocker", "turns", "snaps", "blocks", "lineage", "gone", "idem", "gens"),
    (
        *("gid", "session_id", "head", "blocker_id", "fresh", "tenant", "model", "fingerprint", "state_bytes"),
        *("stored", "request", "now", "session_ttl_ms", "events_ttl_ms", "gone_ttl_ms", "seen"),
    ),
)
CANCEL = Call(
    "cancel",
    ("gen", "events", "session", "lineage", "turns", "snaps", "blocks"),
    ("gid", "now", "result", "data", "channel", "events_ttl_ms", "branch"),
)
CALLS = (CREATE, ACCEPT, CANCEL)

_LINEAGES = 4  # times that a forgotten idempotency key is used again for a new session, and still protects


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
            [keys.session(session_id), keys.lineage(ids.lineage_of(session_id)), keys.gone(session_id)],
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

    def blocker(self, session: Session) -> str:
        """The key of the generation that holds the session, or, where none does, one that no generation has."""
        return self._c.keys.generation(session.running) if session.running else self._c.keys.session(session.id)

    async def seen(self, tenant: str, session_id: str | None, idempotency: Idempotency) -> Generation | None:
        """The generation that this idempotency key was first used for, None where it is new or forgotten.

        A key is known within the session's lineage, or, for a request without a session, by itself. Raises
        IdempotencyReused where that was another request.
        """
        if session_id is not None and ids.parse_session(session_id) is None:
            raise SessionNotFound
        lineages = [ids.lineage_of(session_id)] if session_id else _lineages(tenant, idempotency)
        name = _digest(tenant, idempotency)
        answers = await self._c.connection.pipeline(
            [("GET", self._c.keys.idempotency(lineage, name)) for lineage in lineages]
        )
        for said in answers:
            if said is not None and (first := await self._first(tenant, said, idempotency)) is not None:
                return first
        return None

    async def _first(self, tenant: str, said: bytes, idempotency: Idempotency) -> Generation | None:
        gid, _, digest = said.decode().partition(" ")
        if digest != idempotency.digest:
            raise IdempotencyReused
        # It may have been deleted with its session.
        with suppress(GenerationNotFound):
            return await self.get_generation(tenant, gid)
        return None

    async def accept(
        self,
        session: Session | NewSession,
        request: TurnRequest,
        *,
        if_turn: str | None = None,
        idempotency: Idempotency | None = None,
    ) -> Generation:
        """Take a turn in and enqueue it.

        session: as `get_session` gave it (its head is expected to be the head still), or what to make a new one from.
        idempotency: where its key was seen for this session (or for a new one), the earlier generation is the answer.
        Raises QueueFull (checked first), SessionBusy naming the running generation, TurnMismatch when the head is
        not the expected one or not `if_turn`, SessionGone, IdempotencyReused.
        """
        if await self._queue.depth() >= self._c.options.max_queue:
            raise QueueFull
        if isinstance(session, NewSession):
            head, worker = "", None
            # The later ones where what an earlier request made with this key is still there, and the key forgotten.
            lineages = _lineages(session.tenant, idempotency) if idempotency else []
            candidates = [*(ids.branch_id(lineage, 0) for lineage in lineages), ids.new_session_id()]
        else:
            head, worker = session.head or "", session.worker
            candidates = [session.id]
        if if_turn is not None and if_turn != head:
            raise TurnMismatch(f"The head of session {candidates[0]} is not if_turn's.", param="if_turn")
        now = self._c.clock()
        for session_id in candidates:
            gid = ids.new_generation_id(ids.lineage_of(session_id))
            # Noted before it is accepted: whatever becomes of this process, somebody will look after the turn.
            await self._queue.intend(gid)
            word, *rest = await self._accept(session_id, gid, session, request, now, idempotency)
            if word == b"SEEN":
                assert idempotency is not None
                if (first := await self._first(session.tenant, rest[0], idempotency)) is not None:
                    return first
                # What it names has been deleted: the key is free again.
                await self._forget(session.tenant, session_id, idempotency)
                word, *rest = await self._accept(session_id, gid, session, request, now, idempotency)
            if word not in (b"TAKEN", b"SEEN"):
                break
        if word == b"GONE":
            raise SessionGone
        if word == b"SEEN":  # by another at this very moment, and what it names is no more
            raise Conflict("This request is being made twice at the same time; try again.")
        if word == b"BUSY":
            raise busy(session_id, rest[0].decode())
        if word == b"MISMATCH":
            raise TurnMismatch(f"Session {session_id} has moved on to another turn meanwhile.")
        try:
            await self._queue.enqueue(gid, worker, session.tenant)
        except PerennialError:
            # Nobody will run it: give the session back, and let the same request be sent again, if the store can still
            # be told.
            with suppress(PerennialError):
                if idempotency is not None:
                    await self._forget(session.tenant, session_id, idempotency)
                await self.cancel(session.tenant, gid)
            raise
        if request.store if isinstance(session, NewSession) else session.stored:
            await self._index.touch(session.tenant, session_id)
        return Generation(gid, session_id, session.tenant, Status.QUEUED, request, False, None, now, now)

    async def _forget(self, tenant: str, session_id: str, idempotency: Idempotency) -> None:
        name = _digest(tenant, idempotency)
        await self._c.connection.call("DEL", self._c.keys.idempotency(ids.lineage_of(session_id), name))

    async def _accept(
        self,
        session_id: str,
        gid: str,
        session: Session | NewSession,
        request: TurnRequest,
        now: float,
        idempotency: Idempotency | None,
    ) -> list[bytes]:
        fresh = isinstance(session, NewSession)
        head = "" if isinstance(session, NewSession) else session.head or ""
        running = None if isinstance(session, NewSession) else session.running
        lineage, keys, options = ids.lineage_of(session_id), self._c.keys, self._c.options
        gen = keys.generation(gid)
        answer: list[bytes] = await self._c.connection.run(
            ACCEPT,
            [
                *(keys.session(session_id), gen, keys.generation(running) if running else gen),
                *(keys.turns(lineage), keys.snaps(lineage), keys.blocks(lineage), keys.lineage(lineage)),
                keys.gone(session_id),
                keys.idempotency(lineage, _digest(session.tenant, idempotency)) if idempotency else gen,
                keys.generations(session_id),
            ],
            [
                *(gid, session_id, head, running or "", "1" if fresh else "0", session.tenant, session.model),
                *(session.fingerprint, session.state_bytes, "1" if request.store else "0", encode_request(request)),
                *(repr(now), options.session_ttl_ms, options.events_ttl_ms, options.gone_ttl_ms),
                f"{gid} {idempotency.digest}" if idempotency else "",
            ],
        )
        return answer

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
        keys, lineage = self._c.keys, ids.lineage_of(generation_id)
        length = await self._c.connection.call("HGET", keys.session(generation.session), "length")
        position = int(length or 0)
        result = Result("cancelled", {}, {}, position)
        said = {"finish_reason": "cancelled", "usage": {}, "timing": {}, "position": position}
        word = await self._c.connection.run(
            CANCEL,
            [
                *(keys.generation(generation_id), keys.events(generation_id), keys.session(generation.session)),
                *(keys.lineage(lineage), keys.turns(lineage), keys.snaps(lineage), keys.blocks(lineage)),
            ],
            [
                *(generation_id, repr(self._c.clock()), encode_result(result, said)),
                encode_data(said),
                *(keys.live(generation_id), self._c.options.events_ttl_ms, ids.branch_of(generation.session)),
            ],
        )
        if word == b"ASKED":
            await self._c.connection.call("PUBLISH", keys.control, generation_id)
        else:
            # It waits for nobody, so it must not count as waiting. Again where it had ended: the first try may have
            # come only half-way, as queue and session can't be written by one script.
            await self._queue.withdraw(generation_id)
        return await self.get_generation(tenant, generation_id)


def _lineages(tenant: str, idempotency: Idempotency) -> list[str]:
    """Where a session may lie that a request with this key has made."""
    return [ids.derived_lineage(tenant, idempotency.key, str(i)) for i in range(_LINEAGES)]


def _digest(tenant: str, idempotency: Idempotency) -> str:
    """Of the key, which may hold anything."""
    return hashlib.blake2b(f"{tenant}\0{idempotency.key}".encode(), digest_size=16).hexdigest()


def busy(session_id: str, generation_id: str) -> SessionBusy:
    return SessionBusy(f"Session {session_id} is running generation {generation_id}.")
