"""Forking, rewinding and deleting sessions: where a branch of the turns' tree begins, stands and ends.

A fork shares its source's turns and snapshots, and is registered in the same script that finds its turn still stored,
so nothing it needs can be pruned before or after. Deleting a session leaves its forks whole; the last one takes the
lineage's storage with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.errors import (
    CorruptState,
    InvalidRequest,
    SessionGone,
    TooManyForks,
    TurnMismatch,
    TurnNotFound,
)
from server.store import keys as ids
from server.store.index import TenantIndex
from server.store.options import Context
from server.store.records import End, Outline, Session
from server.store.retention import Retention, chain, needs
from server.store.scripts import Call
from server.store.sessions import SessionStore, busy

FORK = Call(
    "fork",
    ("source", "session", "lineage", "turns", "snaps", "blocks", "gone"),
    (
        *("source_id", "branch", "head", "length", "end", "turns", "kept", "stored_bytes", "stored", "now"),
        *("life_ms", "session_ttl_ms", "gone_ttl_ms", "most"),
    ),
)
REWIND = Call(
    "rewind",
    ("session", "blocker", "turns", "snaps", "blocks", "lineage"),
    (
        *("blocker_id", "seen_head", "head", "length", "end", "turns", "kept", "stored_bytes", "now"),
        "session_ttl_ms",
    ),
)
DELETE = Call(
    "delete",
    ("session", "blocker", "lineage", "turns", "snaps", "blocks", "responses", "response_order"),
    ("session_id", "blocker_id", "branch"),
    more_keys=("trace",),
)
CALLS = (FORK, REWIND, DELETE)

_PRUNES = 4


class BranchStore:
    """Every method raises StoreUnavailable when the store can't be reached, and StoreFull where it writes."""

    def __init__(self, context: Context, sessions: SessionStore, retention: Retention) -> None:
        self._c = context
        self._sessions = sessions
        self._retention = retention
        self._index = TenantIndex(context)

    async def history(self, session: Session) -> list[Outline]:
        """The turns that are kept of a session, oldest first. Raises CorruptState where its head can't be read."""
        outlines = await self._retention.outlines(ids.lineage_of(session.id))
        if session.head is not None and session.head not in outlines:
            raise CorruptState(f"turn {session.head} of session {session.id} is missing or can't be read")
        return _kept(session, outlines)[::-1]

    async def fork(self, session: Session, at_turn: str | None = None, *, stored: bool = True) -> Session:
        """A new session that stands at a kept turn of this one, by default at its head as `session` has it.

        stored False: it lives as long as the one answer it is made for. Raises TurnNotFound, TooManyForks,
        SessionGone, CorruptState.
        """
        lineage, keys, options = ids.lineage_of(session.id), self._c.keys, self._c.options
        head = at_turn or session.head
        kept = [] if head == session.head else _kept(session, await self._retention.outlines(lineage))
        figures = await self._figures(session, kept, head)
        branch = await self._next_branch(session)
        forked = ids.branch_id(lineage, branch)
        keys_and_arguments = (
            [
                *(keys.session(session.id), keys.session(forked), keys.lineage(lineage), keys.turns(lineage)),
                *(keys.snaps(lineage), keys.blocks(lineage), keys.gone(forked)),
            ],
            [
                *(session.id, branch, head or "", *figures, "1" if stored else "0", repr(self._c.clock())),
                *(options.session_ttl_ms if stored else options.events_ttl_ms, options.session_ttl_ms),
                *(options.gone_ttl_ms, options.branches_max),
            ],
        )
        word = await self._c.connection.run(FORK, *keys_and_arguments)
        if word == b"FULL":  # perhaps of branches that have expired
            await self._retention.prune(lineage)
            word = await self._c.connection.run(FORK, *keys_and_arguments)
        if word == b"GONE":
            raise SessionGone
        if word == b"UNKNOWN":
            raise TurnNotFound
        if word == b"FULL":
            raise TooManyForks(f"This session's family has {options.branches_max} members; delete some of them first.")
        if stored:
            await self._index.touch(session.tenant, forked)
        return await self._sessions.get_session(session.tenant, forked)

    async def _next_branch(self, session: Session) -> int:
        """A number no other branch has. Raises SessionGone."""
        key = self._c.keys.lineage(ids.lineage_of(session.id))
        # Without its registry a lineage has expired; made anew, the key would have no time to live.
        if not await self._c.connection.call("EXISTS", key):
            raise SessionGone
        number = int(await self._c.connection.call("HINCRBY", key, "next", 1)) - 1
        await self._c.connection.call("PEXPIRE", key, self._c.options.session_ttl_ms, "NX")
        return number

    async def rewind(self, session: Session, *, turns: int | None = None, to_turn: str | None = None) -> Session:
        """Let a session stand at an earlier turn: `turns` back, or at `to_turn` exactly. What it leaves is given up.

        Raises TurnNotFound (there are not so many, or they are kept no more), SessionBusy, TurnMismatch (it has moved
        on meanwhile), SessionGone, CorruptState, InvalidRequest.
        """
        history = await self.history(session)
        if to_turn is not None:
            head: str | None = to_turn
            if to_turn not in {turn.id for turn in history}:
                raise TurnNotFound(f"Session {session.id} has no turn {to_turn[:64]}, or keeps it no more.")
        else:
            if turns is None or turns < 1:
                raise InvalidRequest("turns is at least 1.", param="turns")
            # Operations on the memory go with the turn of the conversation before them, uncounted.
            said = [turn for turn in history if turn.operation is None]
            whole = not history or history[0].parent is None
            most = len(said) if whole or history[0].operation is not None else len(said) - 1
            if turns > most:
                raise TurnNotFound(f"Session {session.id} can be rewound by {most} turns at most.", param="turns")
            head = said[-turns].parent
        figures = await self._figures(session, history[::-1], head)
        keys, lineage = self._c.keys, ids.lineage_of(session.id)
        word, *rest = await self._c.connection.run(
            REWIND,
            [
                *(keys.session(session.id), self._sessions.blocker(session), keys.turns(lineage)),
                *(keys.snaps(lineage), keys.blocks(lineage), keys.lineage(lineage)),
            ],
            [
                *(session.running or "", session.head or "", head or "", *figures),
                *(repr(self._c.clock()), self._c.options.session_ttl_ms),
            ],
        )
        if word == b"GONE":
            raise SessionGone
        if word == b"BUSY":
            raise busy(session.id, rest[0].decode())
        if word == b"MISMATCH":
            raise TurnMismatch(f"Session {session.id} has moved on to another turn meanwhile.")
        if word == b"UNKNOWN":
            raise TurnNotFound
        await self._index.touch(session.tenant, session.id)
        return await self._sessions.get_session(session.tenant, session.id)

    async def _figures(
        self, session: Session, kept: Sequence[Outline], head: str | None
    ) -> tuple[int, End, int, int, int]:
        """Length, end, turns, kept turns and stored bytes of a session that stands at a turn of this one's.

        kept: this one's turns, newest first; not looked at where `head` is its own.
        """
        if head is None:
            return 0, End.RAW, 0, 0, 0
        if head == session.head:
            return session.length, session.end, session.turns, session.kept, session.stored_bytes
        back = next((i for i, turn in enumerate(kept) if turn.id == head), None)
        if back is None:
            raise TurnNotFound(f"Session {session.id} has no turn {head[:64]}, or keeps it no more.")
        stored = await self._retention.snapshots(ids.lineage_of(session.id))
        snapshots = {name: snapshot for name, snapshot in stored.items() if snapshot is not None}
        options, before = self._c.options, {turn.id: turn for turn in kept[back:]}
        need = needs(head, before, snapshots, options.turns_kept, options.snapshots_kept)
        turn = kept[back]
        return turn.length, turn.end, session.turns - back, len(kept) - back, need.nbytes

    async def undo(self, tenant: str, session_id: str, generation_id: str, *, own: bool) -> None:
        """Take back a turn that has just ended, where its session still stands at it, and what its generation left.

        own: the session was made for that turn alone, and goes with it, unless something has gone on in it. Raises
        SessionNotFound, SessionGone, SessionBusy, TurnMismatch, TurnNotFound, CorruptState.
        """
        session, turn_id = await self._sessions.get_session(tenant, session_id), ids.turn_of(generation_id)
        before = session.origin[1] if session.origin is not None else None
        if own and session.head in (turn_id, before):
            await self.delete(tenant, session_id)
            return
        if session.head == turn_id:
            await self.rewind(session, turns=1)
            await self._prune(ids.lineage_of(session_id))
        keys = self._c.keys
        await self._c.connection.pipeline(
            [
                ("DEL", keys.generation(generation_id), keys.events(generation_id)),
                ("ZREM", keys.generations(session_id), generation_id),
            ]
        )

    async def _prune(self, lineage: str) -> None:
        """What changes meanwhile is tried again, and in the end left to the next snapshot or to its time to live."""
        for _ in range(_PRUNES):
            if await self._retention.prune(lineage):
                break

    async def delete(self, tenant: str, session_id: str) -> None:
        """Raises SessionNotFound, SessionGone, SessionBusy while it runs a turn."""
        session = await self._sessions.get_session(tenant, session_id)
        keys, lineage = self._c.keys, ids.lineage_of(session_id)
        word, *rest = await self._c.connection.run(
            DELETE,
            [
                *(keys.session(session_id), self._sessions.blocker(session), keys.lineage(lineage)),
                *(keys.turns(lineage), keys.snaps(lineage), keys.blocks(lineage)),
                *(keys.responses(lineage), keys.response_order(lineage)),
                *(await self._traces(session_id)),
            ],
            [session_id, session.running or "", ids.branch_of(session_id)],
        )
        if word == b"BUSY":
            raise busy(session_id, rest[0].decode())
        await self._index.drop(tenant, [session_id])
        if word == b"SHARED":
            await self._prune(lineage)

    async def _traces(self, session_id: str) -> list[str]:
        """The keys of the session's generations that have not expired yet, and of their list."""
        keys = self._c.keys
        listed = keys.generations(session_id)
        names = [name.decode() for name in await self._c.connection.call("ZRANGE", listed, 0, -1)]
        return [listed, *(key for gid in names for key in (keys.generation(gid), keys.events(gid)))]


def _kept(session: Session, outlines: Mapping[str, Outline]) -> list[Outline]:
    """The turns a session keeps, newest first. What lies before may be stored for another branch."""
    return chain(session.head, outlines)[: session.kept]
