"""The sessions whose state is in this worker, in a slot or in RAM; when such a state is saved; why another is not here.

Invariants: of a session, one state at most is here; it is used only where it stands at the session's head, and one
that does not is freed as soon as that is seen. Snapshots are written behind the commit: every `snapshot_every` tokens,
and on eviction from a slot and drain where there is anything unsaved; a conversation shorter than that is never saved,
its log is enough. A state that leaves RAM with so many tokens unsaved is saved then, whatever happened before.

It knows nothing of how a turn runs.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from model.state import State
from server.engine.request import Evicted
from server.store.records import Begun, Outcome, Session, Turn
from server.worker.connected import Connected
from server.worker.metrics import WorkerMetrics
from server.worker.places import Places
from server.worker.ram import Held, RamStates
from server.worker.saving import Line, Saver, Warm
from server.worker.tiers import Restored, from_ram, from_slot

# Of so many sessions it is remembered why their state is not here any more.
REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Parked:
    """A state in RAM."""

    warm: Warm
    state: State


class WarmSessions(Connected):
    """snapshot_every: tokens. ram_bytes: of states without a slot. spawn: does something beside everything else."""

    def __init__(
        self,
        worker_id: str,
        saver: Saver,
        places: Places,
        spawn: Callable[[Awaitable[None]], None],
        metrics: WorkerMetrics,
        *,
        snapshot_every: int,
        ram_bytes: int,
    ) -> None:
        self._worker_id = worker_id
        self._saver = saver
        self._places = places
        self._spawn = spawn
        self._metrics = metrics
        self._every = snapshot_every
        self._slots: dict[str, Warm] = {}  # by session
        self._ram: RamStates[Parked] = RamStates(ram_bytes)
        self._gone: OrderedDict[str, tuple[str, int, str]] = OrderedDict()  # session → turn, its length, why
        self._lines: OrderedDict[str, tuple[str, Line]] = OrderedDict()  # session → its last turn kept here
        self._saving: set[str] = set()  # turns whose state, without a slot, is being written

    # Who has a state

    def at_head(self, session: Session) -> Restored | None:
        """The session's state at its head, where it is here. One at another turn of it is freed: the session was
        rewound, or has moved on elsewhere."""
        warm = self._slots.get(session.id)
        if warm is not None:
            if warm.turn == session.head:
                return from_slot(session, warm.pending, warm.saved)
            del self._slots[session.id]
            self._engine.forget(warm.turn)
            self._remember(warm, "stale")
        parked = self._ram.get(session.id)
        if parked is not None:
            if parked.turn == session.head:
                return from_ram(parked.value.warm.pending, parked.value.state, parked.value.warm.saved)
            self._drop_from_ram(session.id)
            self._remember(parked.value.warm, "stale")
        return None

    async def copy(self, session_id: str, turn: str) -> State | None:
        """A copy of the session's state at that turn, None where it is not here."""
        warm, parked = self._slots.get(session_id), self._ram.peek(session_id)
        if warm is not None and warm.turn == turn:
            with suppress(KeyError):  # its slot was needed by another
                return await asyncio.wrap_future(self._engine.copy(turn))
        return parked.value.state.clone() if parked is not None and parked.turn == turn else None

    def missed(self, session: Session) -> str:
        """Why `at_head` had nothing: evicted, cut (by a stop string), dropped (the turn before came to nothing),
        rewound, moved (another worker has had it since), forked, or cold (this worker has not had it, or long ago)."""
        turn, length, why = self._gone.pop(session.id, (None, 0, ""))
        if turn is not None and turn == session.head:
            return why
        if turn is not None and session.length <= length:
            return "rewound"
        if turn is not None or session.worker not in (None, self._worker_id):
            return "moved"
        return "forked" if session.origin is not None and session.origin[1] == session.head else "cold"

    def taken(self, session: Session, key: str | None) -> None:
        """A turn of the session has a slot, and the state; key: of the warm row that it was before, if it was one."""
        warm = self._slots.pop(session.id, None)
        if warm is not None and warm.turn != key:
            self._engine.forget(warm.turn)
        self._drop_from_ram(session.id)

    def cold(self, session: Session) -> None:
        """The engine says that the slot has gone."""
        self._slots.pop(session.id, None)

    def keep(self, begun: Begun, turn: Turn, saved: int) -> None:
        """The turn was committed and its row kept. Saved at once where that is due."""
        self._drop_from_ram(begun.session.id)
        self._gone.pop(begun.session.id, None)
        line = self._follow(begun.session, turn, saved)
        warm = Warm(begun.session, begun.fence, turn.id, turn.length, turn.tokens[-1], line)
        self._slots[begun.session.id] = warm
        if self.due(turn, line.saved):
            self._spawn(self._save_from_slot(warm))

    def cut(self, session: Session, turn: Turn) -> None:
        """The turn was committed up to a stop string; its row has read on and is no state of the session."""
        self._note(session.id, turn.id, turn.length, "cut")

    def dropped(self, session: Session) -> None:
        """The session's turn came to nothing, and the row that had its state is gone."""
        if session.head is not None and session.id not in self._slots and self._ram.peek(session.id) is None:
            self._note(session.id, session.head, session.length, "dropped")
            self._places.say(session.id, session.head, "redis")

    def evict(self, evicted: Evicted) -> None:
        """The engine needed the slot: the state goes to RAM, and to the store where it is unsaved."""
        warm = self._slots.get(evicted.session)
        if warm is None or warm.turn != evicted.key:
            return  # nobody's any more
        del self._slots[evicted.session]
        self._park(warm, evicted.state)
        if self._unsaved(warm):
            self._spawn(self._save(warm, evicted.state))

    def changed(self, begun: Begun, turn: Turn, state: State, saved: int) -> None:
        """An operation on the memory was committed, and this is what it made of the state. Saved at once: it would have
        to be done again to what the turns before it left."""
        session = begun.session
        self.taken(session, None)
        self._gone.pop(session.id, None)
        pending = int(state["pending"][0]) - 1
        warm = Warm(session, begun.fence, turn.id, turn.length, pending, self._follow(session, turn, saved))
        self._park(warm, state)
        self._spawn(self._save(warm, state))

    def _park(self, warm: Warm, state: State) -> None:
        """Put a state in RAM, and what has to go for it away."""
        session = warm.session.id
        gone = self._ram.put(Held(session, warm.turn, state.spec.nbytes, Parked(warm, state)))
        self._show_ram()
        if not any(left.session == session for left in gone):
            self._places.say(session, warm.turn, "ram")
        for left in gone:
            self._remember(left.value.warm, "evicted")
            self._places.say(left.session, left.turn, "redis")
            if left.value.warm.length - left.value.warm.saved >= self._every:  # writing it has failed before
                self._spawn(self._save(left.value.warm, left.value.state))

    def _drop_from_ram(self, session_id: str) -> None:
        self._ram.drop(session_id)
        self._show_ram()

    def _show_ram(self) -> None:
        self._metrics.ram_bytes.set(self._ram.nbytes)
        self._metrics.ram_states.set(len(self._ram))

    def _remember(self, warm: Warm, why: str) -> None:
        self._note(warm.session.id, warm.turn, warm.length, why)

    def _note(self, session_id: str, turn: str, length: int, why: str) -> None:
        self._gone[session_id] = (turn, length, why)
        self._gone.move_to_end(session_id)
        if len(self._gone) > REMEMBERED:
            self._gone.popitem(last=False)

    # When it is saved

    def saved(self, session: Session, known: int) -> int:
        """Length of the sequence at the session's last snapshot. known: as it was when its turn began; one may have
        been written since."""
        turn, line = self._lines.get(session.id, (None, None))
        return max(known, line.saved) if line is not None and turn == session.head else known

    def _follow(self, session: Session, turn: Turn, known: int) -> Line:
        """The turn goes on where the last one kept here left the session, or begins a line."""
        before, line = self._lines.pop(session.id, (None, None))
        if line is None or before != session.head:
            line = Line(known)
        line.wrote(known)
        self._lines[session.id] = (turn.id, line)
        if len(self._lines) > REMEMBERED:
            self._lines.popitem(last=False)
        return line

    def due(self, turn: Turn, saved: int) -> bool:
        """Whether so much came since the last snapshot that the next one is due."""
        return turn.length - saved >= self._every

    def _unsaved(self, warm: Warm) -> bool:
        return warm.length > warm.saved and warm.length >= self._every

    async def save_all(self) -> None:
        """Save what is not saved yet: the worker is about to end, and says so of every state it has. Cut short where
        the saver has stopped."""
        for warm in [w for w in self._slots.values() if self._unsaved(w)]:
            await self._save_from_slot(warm)
        parked = [held.value for held in self._ram.all()]
        for one in [p for p in parked if self._unsaved(p.warm)]:
            await self._save(one.warm, one.state)
        if self._saver.stopped:
            return
        for warm in [*self._slots.values(), *(p.warm for p in parked)]:
            self._places.say(warm.session.id, warm.turn, "redis")
        await self._places.flush()

    async def _save_from_slot(self, warm: Warm) -> None:
        async def copy() -> State:
            return await asyncio.wrap_future(self._engine.copy(warm.turn))

        self._saved(warm, await self._saver.save_from(copy, warm))

    async def _save(self, warm: Warm, state: State) -> None:
        if warm.turn in self._saving:
            return
        self._saving.add(warm.turn)
        try:
            self._saved(warm, await self._saver.save(warm, state))
        finally:
            self._saving.discard(warm.turn)

    def _saved(self, warm: Warm, outcome: Outcome | None) -> None:
        """Note it; free the state where its session or its turn is no more."""
        sid = warm.session.id
        slotted, held = self._slots.get(sid), self._ram.peek(sid)
        if outcome is Outcome.OK:
            warm.line.wrote(warm.length)
        elif outcome is Outcome.ENDED and slotted is not None and slotted.turn == warm.turn:
            del self._slots[sid]
            self._engine.forget(warm.turn)
        elif outcome is Outcome.ENDED and held is not None and held.turn == warm.turn:
            self._drop_from_ram(sid)
