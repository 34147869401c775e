"""A request that sends its whole conversation, begun after the longest beginning that can be continued.

What the index offers is tried, the longest first; a turn that is gone, or after which these messages cannot be
rendered, gives way to a shorter one, and in the end to reading everything. A request that is sent again is begun where
it was tried before, whatever the index says by then, or its idempotency key would not be found.

It knows nothing of what is taken in, nor of how an answer is worded.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from server.api.backend import View
from server.api.openai.choices import Caller
from server.api.openai.history import Base, Conversation, folded
from server.api.schemas.openai.chat import ChatMessage
from server.errors import (
    CorruptState,
    FingerprintMismatch,
    InvalidRequest,
    SessionGone,
    SessionNotFound,
    TooManyForks,
    TurnNotFound,
)
from server.store.history import root

GONE = (TurnNotFound, SessionGone, SessionNotFound, FingerprintMismatch, CorruptState)
ANEW = "-"  # what an idempotency key is settled on where nothing was recognised

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recognised(Generic[T]):
    """What was taken in. base: after which turn, None for a new session. why: no more was recognised, where it was to
    be expected."""

    taken: T
    base: Base | None
    why: str | None

    @property
    def notes(self) -> dict[str, Any]:
        """What an answer says of it."""
        return {"known_messages": self.base.known if self.base else 0, "why": self.why}


def after(base: Base | None) -> dict[str, str]:
    """A base as `GenerateRequest` names it."""
    return {} if base is None else {"session_id": base.session, "from_turn": base.turn}


async def recognised(
    messages: Sequence[ChatMessage],
    caller: Caller,
    view: View,
    take: Callable[[Base | None], Awaitable[T]],
    named: Callable[[int], str],
) -> Recognised[T]:
    """Begin. take: take in what follows the base; it speaks of the messages as `messages`. named: as `missed` has it.

    Raises what `take` raises without a base, or for another reason than that a beginning cannot be continued.
    """
    fingerprint = view.new_session(caller.tenant).fingerprint
    conversation = await asyncio.get_running_loop().run_in_executor(
        caller.backend.tokenising, folded, messages, caller.tenant, fingerprint
    )
    reasons: list[str] = []
    begun: tuple[T, Base | None] | None = None
    async for base in _bases(conversation, caller):
        try:
            begun = await take(base), base
        except GONE as error:
            reasons.append(error.code)
        except TooManyForks as error:
            reasons.append(error.code)
            break
        except InvalidRequest as error:
            if error.param != "messages":
                raise
            reasons.append("template")  # it may render these messages where the others stand before them
            break
        else:
            break
    if begun is None:
        begun = await take(None), None
    known = begun[1].known if begun[1] else 0
    caller.facts.more |= {"known_messages": known, "messages": len(messages)}
    return Recognised(*begun, conversation.missed(known, reasons, named))


async def _bases(conversation: Conversation, caller: Caller) -> AsyncIterator[Base]:
    """Where to go on from, the longest first; for a request sent again, first of all where it was tried before."""
    store, idempotency = caller.backend.store, caller.idempotency
    bases = conversation.bases(store)
    if idempotency is not None and conversation.expected:
        found = await anext(bases, None)
        word = ANEW if found is None else f"{found.session} {found.turn} {found.known}"
        name = root("request", caller.tenant, idempotency.key, idempotency.digest)
        said = await store.history.settle(name, word)
        if said == ANEW:
            return
        session, turn, known = said.split(" ")
        yield Base(session, turn, int(known))
        if found is not None and said != word:
            yield found
    async for base in bases:
        yield base
