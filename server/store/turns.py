"""The worker's writes: begin, append, commit, fail; and the chain of turns that it replays.

Every write carries the fence that `begin` gave and is refused, with a word, once a newer owner has begun. Every write
can be repeated: an append skips what is there, a commit recognises its own result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.errors import CorruptState, PerennialError, StoreUnavailable
from server.store import keys as ids
from server.store.codec import (
    decode_generation,
    decode_session,
    decode_turn,
    encode_data,
    encode_result,
    encode_turn,
    stream_event,
)
from server.store.options import Context
from server.store.records import Begun, Event, Fence, Generation, Outcome, Result, Session, Status, Turn, TurnRequest
from server.store.scripts import Call, Value

BEGIN = Call("begin", ("gen", "session"), ("gid", "nonce", "now", "events_ttl_ms"))
APPEND = Call(
    "append",
    ("gen", "events"),
    ("fence", "events_ttl_ms", "channel"),
    more_args=("sequence", "type", "data"),
)
COMMIT = Call(
    "commit",
    ("gen", "events", "session", "turns", "snaps", "blocks", "lineage", "gone"),
    (
        *("gid", "fence", "now", "status", "result", "sequence", "type", "data", "channel"),
        *("turn_id", "turn", "parent", "length", "end", "session_ttl_ms", "events_ttl_ms", "gone_ttl_ms", "worker"),
    ),
)
FINISH = Call(
    "finish",
    ("gen", "events", "session", "lineage", "turns", "snaps", "blocks", "gone"),
    ("gid", "fence", "now", "status", "result", "sequence", "type", "data", "channel", "events_ttl_ms", "branch"),
)
PLACE = Call("place", ("session",), ("worker", "turn_id", "tier"))
CHAIN = Call("chain", ("turns",), ("turn_id", "count"), more_args=("stop",))
CALLS = (BEGIN, APPEND, COMMIT, FINISH, PLACE, CHAIN)

_CHAIN_PAGE = 256  # turns read at once


class TurnStore:
    """Every method raises StoreUnavailable when the store can't be reached, and StoreFull where it writes."""

    def __init__(self, context: Context) -> None:
        self._c = context

    async def begin(self, generation_id: str, nonce: str) -> Begun | None:
        """Make a generation this worker's: the fence goes up, the status is running.

        nonce: `keys.new_nonce()`, one per attempt. None: it has ended or expired (or its id is none): acknowledge the
        delivery and forget it. Raises CorruptState where its record, its session's or its events can't be read; it has
        then been ended with that error, so that its session is free.
        """
        if ids.parse_generation(generation_id) is None:
            return None
        keys, connection = self._c.keys, self._c.connection
        gen = keys.generation(generation_id)
        owner = await connection.call("HGET", gen, "session")
        if owner is None:
            return None
        session_id = owner.decode()
        key = keys.session(session_id)
        answer = await connection.run(
            BEGIN, [gen, key], [generation_id, nonce, repr(self._c.clock()), self._c.options.events_ttl_ms]
        )
        if answer[0] == b"ENDED":
            return None
        fence = Fence(answer[1].decode())
        # No one else can write any of these now, so they need not be read in the script.
        fields, held, ttl, entries = await connection.pipeline(
            [("HGETALL", gen), ("HGETALL", key), ("PTTL", key), ("XRANGE", keys.events(generation_id), "-", "+")]
        )
        try:
            generation = decode_generation(generation_id, fields)
            return Begun(
                generation=generation,
                request=_asked(generation),
                session=decode_session(session_id, held, self._c.clock() + max(ttl, 0) / 1000),
                fence=fence,
                emitted=tuple(stream_event(generation_id, entry) for entry in entries),
            )
        except CorruptState as error:
            last = int(entries[-1][0].partition(b"-")[0]) if entries else 0
            body = {**error.body()["error"], "status": error.status}
            result = Result("error", {}, {}, 0, error=body)
            final = Event(last + 1, "error", {"error": body})
            await self._finish(generation_id, session_id, fence, Status.FAILED, result, final)
            raise

    async def waiting(self, generation_ids: Sequence[str]) -> set[str]:
        """Which of these are accepted and nobody has begun them."""
        found = await self._c.connection.pipeline(
            [("HGET", self._c.keys.generation(gid), "status") for gid in generation_ids]
        )
        return {
            gid for gid, status in zip(generation_ids, found, strict=True) if status == Status.QUEUED.value.encode()
        }

    def _append_call(
        self, generation_id: str, fence: Fence, events: Sequence[Event]
    ) -> tuple[list[Value], list[Value]]:
        keys = self._c.keys
        args: list[Value] = [fence, self._c.options.events_ttl_ms, keys.live(generation_id)]
        for event in events:
            args += [event.sequence, event.type, encode_data(event.data)]
        return [keys.generation(generation_id), keys.events(generation_id)], args

    async def append(self, generation_id: str, fence: Fence, events: Sequence[Event]) -> Outcome:
        """OK, CANCEL (written; stop soon) or FENCED. Repeating an append is harmless.

        Raises CorruptState when the stream has lost the events before these.
        """
        [answer] = await self.append_many([(generation_id, fence, events)])
        if isinstance(answer, PerennialError):
            raise answer
        return answer

    async def append_many(self, rows: Sequence[tuple[str, Fence, Sequence[Event]]]) -> list[Outcome | PerennialError]:
        """`append` for all rows of a tick (generation id, fence, events), in one round trip.

        A row that can't be written has its error in its place (CorruptState, StoreFull), and names no other; the
        others are written. Raises StoreUnavailable where that holds for the store as a whole.
        """
        answers = await self._c.connection.run_many(APPEND, [self._append_call(*row) for row in rows])
        return [_row(row[0], answer) for row, answer in zip(rows, answers, strict=True)]

    async def commit(
        self, begun: Begun, turn: Turn | None, result: Result, final: Event, worker: str | None = None
    ) -> Outcome:
        """End a generation: OK or FENCED. All or nothing: turn, session's head, status, `done` event, TTLs.

        turn None: nothing is kept (cancelled before its first token, or store=false; a session made for a
        store=false request goes with it), and a full store is no obstacle. The status is cancelled where
        result.finish_reason is "cancelled". worker: who keeps the state warm.
        Raises CorruptState when the stream has lost the events before `final`.
        """
        status = Status.CANCELLED if result.finish_reason == "cancelled" else Status.DONE
        gid, session = begun.generation.id, begun.session
        if turn is None:
            return await self._finish(gid, session.id, begun.fence, status, result, final)
        keys, options, lineage = self._c.keys, self._c.options, ids.lineage_of(gid)
        answer = await self._c.connection.run(
            COMMIT,
            [
                *(keys.generation(gid), keys.events(gid), keys.session(session.id), keys.turns(lineage)),
                *(keys.snaps(lineage), keys.blocks(lineage), keys.lineage(lineage), keys.gone(session.id)),
            ],
            [
                *self._said(gid, begun.fence, status, result, final),
                *(turn.id, encode_turn(turn), turn.parent or "", turn.length, turn.end),
                *(options.session_ttl_ms, options.events_ttl_ms, options.gone_ttl_ms, worker or ""),
            ],
        )
        if answer == b"MISMATCH":
            raise CorruptState(f"the turn of generation {gid} does not follow the head of session {session.id}")
        return _outcome(gid, answer)

    async def fail(self, begun: Begun, error: Mapping[str, object], final: Event) -> Outcome:
        """End a generation with an `error` event and no turn; in a full store too.

        error: the inside of `PerennialError.body()`.
        """
        result = Result("error", {}, {}, begun.session.length, error=error)
        return await self._finish(begun.generation.id, begun.session.id, begun.fence, Status.FAILED, result, final)

    async def _finish(
        self, gid: str, session_id: str, fence: Fence, status: Status, result: Result, final: Event
    ) -> Outcome:
        """End a generation that keeps nothing."""
        keys, lineage = self._c.keys, ids.lineage_of(gid)
        answer = await self._c.connection.run(
            FINISH,
            [
                *(keys.generation(gid), keys.events(gid), keys.session(session_id), keys.lineage(lineage)),
                *(keys.turns(lineage), keys.snaps(lineage), keys.blocks(lineage), keys.gone(session_id)),
            ],
            [
                *self._said(gid, fence, status, result, final),
                *(self._c.options.events_ttl_ms, ids.branch_of(session_id)),
            ],
        )
        return _outcome(gid, answer)

    def _said(self, gid: str, fence: Fence, status: Status, result: Result, final: Event) -> list[Value]:
        """What commit and finish take alike."""
        return [
            *(gid, fence, repr(self._c.clock()), status, encode_result(result, final.data)),
            *(final.sequence, final.type, encode_data(final.data), self._c.keys.live(gid)),
        ]

    async def place(self, worker: str, rows: Sequence[tuple[str, str, str]]) -> None:
        """Say where this worker has states of (session, turn) by now: "slot", "ram" or "redis" (no more)."""
        await self._c.connection.run_many(
            PLACE, [([self._c.keys.session(session)], [worker, turn, tier]) for session, turn, tier in rows]
        )

    async def renew(self, rows: Sequence[tuple[str, str]]) -> None:
        """Let turns (generation, session) that append nothing for long live on, as after an append; what lives longer
        stays as it is."""
        keys, ttl = self._c.keys, self._c.options.events_ttl_ms
        names = [n for gid, sid in rows for n in (keys.generation(gid), keys.events(gid), keys.session(sid))]
        await self._c.connection.pipeline([("PEXPIRE", name, ttl, "GT") for name in names])

    async def read_turns(self, session: Session, stop: frozenset[str] = frozenset()) -> list[Turn]:
        """The chain from the root (or from the child of the first turn met in `stop`) to the head, oldest first.

        Raises CorruptState for a damaged, missing or discontinuous turn.
        """
        stored: dict[str, bytes] = {}
        wanted = session.head
        while wanted is not None and wanted not in stop and wanted not in stored:
            found = await self._c.connection.run(
                CHAIN, [self._c.keys.turns(ids.lineage_of(session.id))], [wanted, _CHAIN_PAGE, *stop]
            )
            page = {name.decode(): data for name, data in zip(found[::2], found[1::2], strict=True)}
            stored |= page
            if len(page) < _CHAIN_PAGE:
                break
            last = found[-2].decode()
            wanted = decode_turn(last, page[last]).parent
        return chain(session, stored, stop)


def chain(session: Session, stored: Mapping[str, bytes], stop: frozenset[str]) -> list[Turn]:
    """`read_turns` on turn id → bytes."""
    turns: list[Turn] = []
    wanted, length = session.head, session.length
    while wanted is not None and wanted not in stop:
        if wanted not in stored:
            raise CorruptState(f"turn {wanted} of session {session.id} is missing")
        turn = decode_turn(wanted, stored[wanted])
        if turn.length != length:
            raise CorruptState(f"turn {wanted} of session {session.id} ends at {turn.length}, {length} is due")
        turns.append(turn)
        length -= len(turn.tokens)
        if length < 0 or bool(turn.tokens) is (turn.operation is not None):
            raise CorruptState(f"turn {wanted} of session {session.id} is longer than what it ends, or empty")
        if len(turns) > len(stored):
            raise CorruptState(f"turn {wanted} of session {session.id} is among its own ancestors")
        wanted = turn.parent
    if wanted is None and length != 0:
        raise CorruptState(f"the first turn of session {session.id} begins at {length}, not at 0")
    return turns[::-1]


def _asked(generation: Generation) -> TurnRequest:
    if generation.request is None:
        raise CorruptState(f"the request of generation {generation.id} is missing")
    return generation.request


def _row(generation_id: str, answer: bytes | PerennialError) -> Outcome | PerennialError:
    if isinstance(answer, StoreUnavailable):
        # The store is there and refuses these keys: they hold something else than this server wrote.
        return CorruptState(f"the event stream of generation {generation_id} can't be written: {answer.message}")
    if isinstance(answer, PerennialError):
        return answer
    try:
        return _outcome(generation_id, answer)
    except CorruptState as error:
        return error


def _outcome(generation_id: str, answer: bytes) -> Outcome:
    if answer == b"HOLE":
        raise CorruptState(f"the event stream of generation {generation_id} has lost events")
    return Outcome(answer.decode())
