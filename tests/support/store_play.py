"""What an api and a worker do to a store, in a few words, for the tests that need a store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from server.store import keys as ids
from server.store.records import Begun, End, Event, Generation, NewSession, Outcome, Result, Session, Turn, TurnRequest
from server.store.store import Store

NEW = NewSession("tenant", "tiny", "print-1", 4096)


def request(*tokens: int, **changes: Any) -> TurnRequest:
    return TurnRequest(tokens or (1, 2, 3), 8, {"temperature": 0.5, "seed": 7}, **changes)


def token(sequence: int, text: str = "x") -> Event:
    return Event(sequence, "token", {"text": text, "token_ids": [sequence]})


def turn_after(begun: Begun, tokens: Sequence[int]) -> Turn:
    session = begun.session
    length = session.length + len(tokens)
    name = ids.turn_of(begun.generation.id)
    return Turn(name, session.head, tuple(tokens), length, End.EOS, "stop", begun.generation.created)


def result_of(turn: Turn | None, finish: str = "stop") -> Result:
    return Result(
        finish, {"prompt_tokens": 3}, {"total_ms": 1.0}, turn.length if turn else 0, turn.id if turn else None
    )


async def begin(store: Store, generation: Generation, nonce: str = "nonce") -> Begun:
    begun = await store.turns.begin(generation.id, nonce)
    assert begun is not None
    return begun


async def until_subscribed(store: Store, channel: str, listeners: int = 1) -> None:
    """Wait until the server knows of this many connections that listen on the channel."""
    while True:
        if (await store.context.connection.call("PUBSUB", "NUMSUB", channel))[1] == listeners:
            return
        await asyncio.sleep(0)


async def run_turn(
    store: Store, session: Session | NewSession = NEW, tokens: Sequence[int] = (1, 2, 3)
) -> tuple[Session, Turn, Begun]:
    """Accept, begin, stream two tokens, commit. Returns the session afterwards."""
    generation = await store.sessions.accept(session, request(*tokens))
    begun = await begin(store, generation)
    assert await store.turns.append(generation.id, begun.fence, [token(1), token(2)]) is Outcome.OK
    turn = turn_after(begun, tokens)
    final = Event(3, "done", {"finish_reason": "stop"})
    assert await store.turns.commit(begun, turn, result_of(turn), final) is Outcome.OK
    return await store.sessions.get_session(session.tenant, generation.session), turn, begun
