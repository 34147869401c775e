"""The conversation that a client sends again, recognised: from its messages to the turn that they end in.

At the end of every turn of a conversation stands H(before, role, content), folded over all its messages. A request's
messages are folded the same way; the longest known prefix names the turn to go on from. Text is hashed, not tokens, so
it does not matter how a client's text would be tokenised. An entry is only a hint: it is written before its turn is
committed, and the turn it names must be stored and carry the same hash. It knows nothing of templates or of HTTP.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from server.errors import CorruptState, StoreFull
from server.store import keys as ids
from server.store.codec import decode_turn
from server.store.options import Context

_PAGE = 64  # hashes looked up at once


def root(*facts: str) -> str:
    """Where folding begins: whatever makes equal messages mean different conversations (tenant, model, tools)."""
    return _hash("root", *facts)


def fold(before: str, role: str, content: str) -> str:
    """The hash of a conversation with one more message. Clients trim what the assistant said, so that is trimmed."""
    return _hash(before, "system" if role == "developer" else role, content.strip() if role == "assistant" else content)


def _hash(*parts: str) -> str:
    """blake2b-128 in hex; each part is preceded by its length, so that no two lists of parts are alike."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Found:
    """place: index of the hash among those looked up. session: the one whose turn it was."""

    place: int
    session: str
    turn: str


class HistoryIndex:
    """Every method raises StoreUnavailable when the store can't be reached."""

    def __init__(self, context: Context) -> None:
        self._c = context

    async def digest(self, turn_id: str) -> str | None:
        """Of the conversation that ends in a turn; None where it is no conversation, or its turn is kept no more."""
        data = await self._c.connection.call("HGET", self._c.keys.turns(ids.lineage_of(turn_id)), turn_id)
        with suppress(CorruptState):  # whoever is to go on from it will say so
            return None if data is None else decode_turn(turn_id, data).digest
        return None

    async def note(self, digest: str, session_id: str, turn_id: str) -> None:
        """Write an entry for a turn that is about to be committed. A full store does without: it is only a hint."""
        key = self._c.keys.message_hash(digest)
        with suppress(StoreFull):
            await self._c.connection.call("SET", key, f"{session_id} {turn_id}", "PX", self._c.options.session_ttl_ms)

    async def settle(self, name: str, word: str) -> str:
        """What was settled under a name: the word of whoever asked first. name: as `root` makes it. word: no text of a
        client's. A full store settles nothing: everybody's own word stands."""
        options, key = self._c.options, self._c.keys.message_hash(name)
        with suppress(StoreFull):
            settle = ("SET", key, word, "NX", "PX", options.session_ttl_ms)
            _, said = await self._c.connection.pipeline([settle, ("GET", key)])
            return word if said is None else str(said.decode())
        return word

    async def find(self, digests: Sequence[str]) -> list[Found]:
        """The entries that lead to a stored turn with that hash, the last of `digests` first."""
        found: list[Found] = []
        for stop in range(len(digests), 0, -_PAGE):
            start = max(0, stop - _PAGE)
            part = digests[start:stop]
            answers = await self._c.connection.pipeline([("GET", self._c.keys.message_hash(d)) for d in part])
            hints = [(start + i, *answer.decode().split(" ")) for i, answer in enumerate(answers) if answer is not None]
            stored = await self._c.connection.pipeline(
                [("HGET", self._c.keys.turns(ids.lineage_of(turn)), turn) for _, _, turn in hints]
            )
            for (place, session, turn), data in zip(reversed(hints), reversed(stored), strict=True):
                with suppress(CorruptState):
                    if data is not None and decode_turn(turn, data).digest == digests[place]:
                        found.append(Found(place, session, turn))
            if found:
                break
        return found
