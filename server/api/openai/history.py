"""A conversation that is sent again: which of its beginnings ends in a turn that can be continued.

Of every beginning that ends in an assistant's message and leaves something to read, the hash is looked up, the longest
first (`server.store.history`). What is found is only offered: a turn may be gone when it is asked for, and then the
next shorter one is tried.

It knows nothing of how a turn is taken in.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from server.api.folding import folded_on, opening
from server.api.schemas.openai.chat import ChatMessage
from server.store.store import Store


@dataclass(frozen=True, slots=True)
class Base:
    """A turn to continue from. known: how many of the messages end in it."""

    session: str
    turn: str
    known: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request's messages with the hash after each of them.

    expected: how many of them should be known, were nothing changed and nothing gone: all up to the last assistant's
    message that something follows.
    """

    messages: Sequence[ChatMessage]
    digests: Sequence[str]
    expected: int

    async def bases(self, store: Store) -> AsyncIterator[Base]:
        """The turns to continue from, the longest first."""
        ends = [i for i in range(self.expected) if self.messages[i].role == "assistant"]
        while ends:
            found = await store.history.find([self.digests[i] for i in ends])
            if not found:
                return
            for one in found:
                yield Base(one.session, one.turn, ends[one.place] + 1)
            ends = ends[: min(one.place for one in found)]

    def missed(self, known: int, reasons: Sequence[str], named: Callable[[int], str]) -> str | None:
        """Why no more than `known` messages were recognised; None where no more could be expected.

        reasons: the codes of the errors that longer beginnings met. named: what the client calls a message.
        """
        if known >= self.expected:
            return None
        if reasons:
            return f"A longer beginning was known, but its turn could not be continued ({', '.join(reasons)})."
        end = next(i for i in range(known, self.expected) if self.messages[i].role == "assistant")
        span = named(known) if end == known else f"{named(known)} to {named(end)}"
        return (
            f"No turn is kept that ends in {named(end)}: {span} differ from what was said here, or that turn was "
            "not stored, has expired, or was made by another model."
        )


def folded(messages: Sequence[ChatMessage], tenant: str, fingerprint: str, tools: Any = None) -> Conversation:
    """The conversation with its hashes. fingerprint: of the model with its template. Slow for many messages."""
    before, digests, expected = opening(tenant, fingerprint, tools), [], 0
    for place, message in enumerate(messages):
        before = folded_on(before, message)
        digests.append(before)
        if message.role == "assistant" and place + 1 < len(messages):
            expected = place + 1
    return Conversation(messages, digests, expected)
