"""What OpenAI's clients know turns and sessions by: the records of responses, the labels of conversations.

A response is a turn: its id says which, and which generation made it. Its record holds what the turn does not (the
request as it is told back, how the answer ended) and lies beside the lineage's turns, for a session's life after the
last response of the lineage, and of the newest `KEPT` × `turns_kept` only. A response is no more when its session is;
deleting it leaves the turn.

A conversation is a session: its labels are fields of the session's record, and go with it. What both take is counted
beside them, for `tenants`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from server.errors import CorruptState, ResponseNotFound, SessionGone, StoreFull
from server.store import keys as ids
from server.store.codec import decode_turn
from server.store.options import Context
from server.store.records import Turn
from server.store.scripts import Call

RECORD = Call("record", ("responses", "order"), ("own", "record", "now", "most", "session_ttl_ms"))
CONCLUDE = Call("conclude", ("responses",), ("own", "ending"))
DISCARD = Call("discard", ("responses", "order"), ("own",))
LABEL = Call("label", ("session",), (), more_args=("field", "value"))
CALLS = (RECORD, CONCLUDE, DISCARD, LABEL)

KEPT = 4  # branches of a lineage may have turns of their own
_METADATA, _ITEMS = "conv_metadata", "conv_items"


@dataclass(frozen=True, slots=True)
class ResponseRecord:
    """One response. created: Unix time, s. about: plain JSON, its owner's business. ending: what `conclude` noted."""

    generation: str
    session: str
    tenant: str
    created: float
    about: Mapping[str, Any]
    ending: Mapping[str, Any] | None = None

    @property
    def id(self) -> str:
        return ids.response_of(self.generation)


@dataclass(frozen=True, slots=True)
class Labels:
    """Of a conversation. metadata: the caller's. items: what is to be read before its first turn; plain JSON."""

    metadata: Mapping[str, str]
    items: tuple[Mapping[str, Any], ...]


class ResponseStore:
    """Every method raises StoreUnavailable when the store can't be reached, and StoreFull where it writes."""

    def __init__(self, context: Context) -> None:
        self._c = context

    async def keep(self, record: ResponseRecord) -> ResponseRecord:
        """Write a record, once: what is kept is returned. The oldest of a lineage give way to it."""
        lineage, keys, options = ids.lineage_of(record.generation), self._c.keys, self._c.options
        said = await self._c.connection.run(
            RECORD,
            [keys.responses(lineage), keys.response_order(lineage)],
            [
                *(_own(record.generation), _encode(record), repr(self._c.clock())),
                *(KEPT * options.turns_kept, options.session_ttl_ms),
            ],
        )
        return _decode(record.generation, said, None)

    async def get(self, tenant: str, response_id: str) -> ResponseRecord:
        """Raises ResponseNotFound, also for another tenant's and for one whose session is no more; CorruptState."""
        generation = ids.answering(response_id)
        if generation is None:
            raise ResponseNotFound
        key, own = self._c.keys.responses(ids.lineage_of(generation)), _own(generation)
        said, ending = await self._c.connection.call("HMGET", key, own, f"{own}:end")
        if said is None:
            raise ResponseNotFound
        record = _decode(generation, said, ending)
        if record.tenant != tenant or not await self._c.connection.call("EXISTS", self._c.keys.session(record.session)):
            raise ResponseNotFound
        return record

    async def conclude(self, record: ResponseRecord, ending: Mapping[str, Any]) -> None:
        """Note how a response ended, for when its events have expired. A full store does without."""
        key = self._c.keys.responses(ids.lineage_of(record.generation))
        with suppress(StoreFull):
            await self._c.connection.run(CONCLUDE, [key], [_own(record.generation), orjson.dumps(dict(ending))])

    async def delete(self, record: ResponseRecord) -> None:
        """Forget a response. Its turn stays a part of its session."""
        lineage, keys = ids.lineage_of(record.generation), self._c.keys
        await self._c.connection.run(
            DISCARD, [keys.responses(lineage), keys.response_order(lineage)], [_own(record.generation)]
        )

    async def turn(self, record: ResponseRecord) -> Turn | None:
        """The response's turn, None where none was committed or it is kept no more. Raises CorruptState."""
        turn_id = ids.turn_of(record.generation)
        data = await self._c.connection.call("HGET", self._c.keys.turns(ids.lineage_of(turn_id)), turn_id)
        return None if data is None else decode_turn(turn_id, data)

    async def label(
        self,
        session_id: str,
        *,
        metadata: Mapping[str, str] | None = None,
        items: tuple[Mapping[str, Any], ...] | None = None,
    ) -> None:
        """Write what is given of a conversation's labels. Raises SessionGone."""
        fields: list[str | bytes | int] = []
        if metadata is not None:
            fields += [_METADATA, orjson.dumps(dict(metadata))]
        if items is not None:
            fields += [_ITEMS, orjson.dumps([dict(item) for item in items])]
        if await self._c.connection.run(LABEL, [self._c.keys.session(session_id)], fields) == b"GONE":
            raise SessionGone

    async def labels(self, session_id: str) -> Labels:
        """Of any session; empty where nobody wrote any. Raises CorruptState."""
        found = await self._c.connection.call("HMGET", self._c.keys.session(session_id), _METADATA, _ITEMS)
        try:
            metadata, items = (orjson.loads(data) if data is not None else None for data in found)
            return Labels(dict(metadata or {}), tuple(items or ()))
        except (ValueError, TypeError) as error:
            raise CorruptState(f"the labels of session {session_id} can't be read ({type(error).__name__})") from None


def _own(generation_id: str) -> str:
    return generation_id.rpartition("_")[2]


def _encode(record: ResponseRecord) -> bytes:
    """JSON that begins with the session (delete.lua)."""
    return orjson.dumps(
        {
            "session": record.session,
            "tenant": record.tenant,
            "created": record.created,
            "about": dict(record.about),
        }
    )


def _decode(generation: str, data: bytes, ending: bytes | None) -> ResponseRecord:
    try:
        fields = orjson.loads(data)
        return ResponseRecord(
            generation=generation,
            session=str(fields["session"]),
            tenant=str(fields["tenant"]),
            created=float(fields["created"]),
            about=dict(fields["about"]),
            ending=None if ending is None else dict(orjson.loads(ending)),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptState(
            f"the record of the response of generation {generation} can't be read ({type(error).__name__})"
        ) from None
