"""Records to bytes and back, as pure functions. What is damaged is refused by name, never half read.

Turn:      b"PTRN" | version u8 | header length u32 | header JSON | tokens int32 × n | blake2b-64 of id and all before
Snapshot:  in server/store/blocks.py
The rest is JSON in hash fields, checked on reading.

All numbers are little-endian. It knows nothing of keys or connections, and puts no token or text into an error: what
a parser says of bytes it can't read may quote them, so its exception is named and not chained.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any

import orjson

from server.errors import CorruptState
from server.store.keys import lineage_of
from server.store.records import End, Event, Generation, Outline, Result, Session, Status, Turn, TurnRequest

_MAGIC = b"PTRN"
_VERSION = 1
_HEAD = struct.Struct("<4sBI")
_CHECK = 8  # bytes of checksum
_RESULT = tuple(f.name for f in fields_of(Result))

if array("i").itemsize != 4:  # pragma: no cover
    raise ImportError("this platform's C int has not 4 bytes")


def checksum(data: bytes) -> bytes:
    """blake2b-64."""
    return hashlib.blake2b(data, digest_size=_CHECK).digest()


def _int32(tokens: tuple[int, ...]) -> bytes:
    run = array("i", tokens)
    if sys.byteorder == "big":  # pragma: no cover
        run.byteswap()
    return run.tobytes()


def encode_turn(turn: Turn) -> bytes:
    """Some 130 bytes and 4 per token. Raises OverflowError for a token that is not an int32, ValueError for an id
    that is none, or a parent or generation of another lineage."""
    lineage = lineage_of(turn.id)
    if lineage_of(turn.parent or turn.id) != lineage:
        raise ValueError("a turn's parent is of its lineage")
    # The lineage is in the id already.
    header = orjson.dumps(
        {
            "parent": turn.parent and turn.parent.rpartition("_")[2],
            "length": turn.length,
            "end": turn.end,
            "finish": turn.finish,
            "created": turn.created,
            **({"digest": turn.digest} if turn.digest else {}),
            **({"operation": dict(turn.operation)} if turn.operation else {}),
        }
    )
    body = _HEAD.pack(_MAGIC, _VERSION, len(header)) + header + _int32(turn.tokens)
    return body + checksum(turn.id.encode() + body)


def decode_turn(turn_id: str, data: bytes) -> Turn:
    """The turn stored under `turn_id`. Raises CorruptState naming the turn and what is wrong with it."""

    def corrupt(why: str) -> CorruptState:
        return CorruptState(f"turn {turn_id} is corrupt: {why}")

    if len(data) < _HEAD.size + _CHECK:
        raise corrupt(f"only {len(data)} bytes")
    magic, version, header_length = _HEAD.unpack_from(data)
    if magic != _MAGIC:
        raise corrupt("these bytes are not a turn")
    # Before the checksum, so that a version from the future is named as what it is.
    if version != _VERSION:
        raise corrupt(f"its format is version {version}, this server reads {_VERSION}")
    # Of the id too: bytes that were stored under another id are no turn of this one.
    if checksum(turn_id.encode() + data[:-_CHECK]) != data[-_CHECK:]:
        raise corrupt("its checksum does not match")
    start = _HEAD.size + header_length
    try:
        header = orjson.loads(data[_HEAD.size : start])
        run = array("i", data[start:-_CHECK])
        if sys.byteorder == "big":  # pragma: no cover
            run.byteswap()
        lineage = lineage_of(turn_id)
        return Turn(
            id=turn_id,
            parent=header["parent"] and f"turn_{lineage}_{header['parent']}",
            tokens=tuple(run),
            length=header["length"],
            end=End(header["end"]),
            finish=header["finish"],
            created=header["created"],
            digest=header.get("digest"),
            operation=header.get("operation"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise corrupt(f"its header can't be read ({type(error).__name__})") from None


def decode_outline(turn_id: str, head: bytes, nbytes: int) -> Outline:
    """What a turn's first bytes say of its place in the tree. Raises CorruptState naming the turn."""
    if head[:5] != _MAGIC + bytes([_VERSION]):
        raise CorruptState(f"turn {turn_id} is corrupt: these bytes are not a turn that this server reads")
    try:
        header = orjson.loads(head[_HEAD.size :])
        parent = header["parent"] and f"turn_{lineage_of(turn_id)}_{header['parent']}"
        return Outline(
            *(turn_id, parent, (nbytes - len(head) - _CHECK) // 4, int(header["length"]), End(header["end"]), nbytes),
            finish=str(header["finish"]),
            created=float(header["created"]),
            operation=header["operation"]["kind"] if "operation" in header else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptState(f"turn {turn_id} is corrupt: its header can't be read ({type(error).__name__})") from None


def encode_request(request: TurnRequest) -> bytes:
    """JSON. A trace that is not there is left out: a worker of the version before would not know the name."""
    fields = {f.name: getattr(request, f.name) for f in fields_of(request)}
    if request.trace is None:
        del fields["trace"]
    return orjson.dumps(fields, default=dict)


def decode_request(generation_id: str, data: bytes) -> TurnRequest:
    """Raises CorruptState naming the generation."""
    try:
        fields = orjson.loads(data)
        for name in ("input_ids", "stop", "stop_token_ids"):
            fields[name] = tuple(fields[name])
        return TurnRequest(**fields)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptState(
            f"the request of generation {generation_id} can't be read ({type(error).__name__})"
        ) from None


def encode_data(data: Mapping[str, Any]) -> bytes:
    """An event's data as JSON."""
    return orjson.dumps(dict(data))


def decode_event(generation_id: str, sequence: bytes, kind: bytes, data: bytes) -> Event:
    """Raises CorruptState naming the generation and the event."""
    try:
        return Event(int(sequence), kind.decode(), dict(**orjson.loads(data)))
    except (ValueError, TypeError) as error:
        raise CorruptState(
            f"event {sequence[:20]!r} of generation {generation_id} can't be read ({type(error).__name__})"
        ) from None


def stream_event(generation_id: str, entry: tuple[bytes, Mapping[bytes, bytes]]) -> Event:
    """An entry of an events stream. Raises CorruptState."""
    name, fields = entry
    return decode_event(generation_id, name.partition(b"-")[0], fields.get(b"type", b""), fields.get(b"data", b""))


def encode_result(result: Result, said: Mapping[str, Any]) -> bytes:
    """JSON of those fields that the last event's data (`said`) does not have with the same value: most are there."""
    fields = {name: getattr(result, name) for name in _RESULT}
    return orjson.dumps({k: v for k, v in fields.items() if said.get(k) != v}, default=dict)


def decode_session(session_id: str, fields: Mapping[bytes, bytes], expires: float) -> Session:
    """A session's hash; expires: Unix time, s. Raises CorruptState naming the session."""
    try:
        return Session(
            id=session_id,
            tenant=fields[b"tenant"].decode(),
            model=fields[b"model"].decode(),
            fingerprint=fields[b"fingerprint"].decode(),
            head=fields[b"head"].decode() or None,
            length=int(fields[b"length"]),
            end=End(fields[b"end"].decode()),
            created=float(fields[b"created"]),
            updated=float(fields[b"updated"]),
            expires=expires,
            running=fields[b"running"].decode() or None,
            state_bytes=int(fields[b"state_bytes"]),
            stored_bytes=int(fields[b"stored_bytes"]),
            turns=int(fields[b"turns"]),
            kept=int(fields[b"kept"]),
            stored=fields[b"stored"] == b"1",
            worker=fields.get(b"worker", b"").decode() or None,
            tier=fields.get(b"tier", b"redis").decode(),
            origin=(fields[b"origin"].decode(), fields[b"origin_turn"].decode() or None)
            if b"origin" in fields
            else None,
        )
    except (ValueError, KeyError) as error:
        raise CorruptState(f"the record of session {session_id} can't be read ({type(error).__name__})") from None


def decode_generation(
    generation_id: str, fields: Mapping[bytes, bytes], said: Mapping[str, Any] | None = None
) -> Generation:
    """A generation's hash, and what its last event says where it has ended. Raises CorruptState naming it."""
    try:
        request, result = fields.get(b"request"), fields.get(b"result")
        spoken = {name: value for name, value in (said or {}).items() if name in _RESULT}
        return Generation(
            id=generation_id,
            session=fields[b"session"].decode(),
            tenant=fields[b"tenant"].decode(),
            status=Status(fields[b"status"].decode()),
            request=decode_request(generation_id, request) if request else None,
            cancel=b"cancel" in fields,
            result=None if result is None else Result(**{**spoken, **orjson.loads(result)}),
            created=float(fields[b"created"]),
            updated=float(fields[b"updated"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptState(f"the record of generation {generation_id} can't be read ({type(error).__name__})") from None
