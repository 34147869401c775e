"""The manifest of a session's file: what it may hold, and reading it from a header that nobody has checked yet.

Everything is bounded before anything is made of it. A refusal names the place, never what stands there.
The format is described in `archive_format.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Literal, NoReturn, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from server.errors import InvalidArchive

FORMAT = "perennial-session"
VERSION = 1

# Bounds on what a file may declare, far above what a server writes.
MAX_HEADER = 32 << 20  # bytes
MAX_TURNS = 1 << 17
MAX_RUN = 1 << 22  # tokens of one turn
MAX_LENGTH = 1 << 40  # tokens of a session
MAX_SNAPSHOTS = 64
MAX_LEAVES = 1 << 12


_Id = Annotated[str, Field(pattern=r"^[0-9a-z]{12}$")]
_Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_Printable = Annotated[str, Field(pattern=r"^[ -~]{1,256}$")]
_Length = Annotated[int, Field(ge=1, le=MAX_LENGTH)]


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


_Index = Annotated[int, Field(ge=0, le=1 << 31)]


class OperationEntry(_Entry):
    """What a turn did to the memory, as `model.memory.Operation` writes it."""

    kind: Literal["reset", "svd-clean", "freeze", "unfreeze"]
    scope: Literal["memory", "window", "all"] | None = None
    layers: Annotated[list[_Index], Field(max_length=1024)] | None = None
    energy_threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    max_rank: Annotated[int, Field(ge=1, le=1 << 31)] | None = None
    drop_top: _Index | None = None
    done: (
        Annotated[list[Annotated[list[_Index], Field(min_length=5, max_length=5)]], Field(max_length=1 << 16)] | None
    ) = None


class TurnEntry(_Entry):
    """One turn, by ids of the file's own. count: tokens it appended, none where it is an operation; the rest as in
    `records.Turn`."""

    id: _Id
    parent: _Id | None
    count: Annotated[int, Field(ge=0, le=MAX_RUN)]
    length: _Length
    end: Literal["eos", "open", "raw"]
    finish: Annotated[str, Field(pattern=r"^[a-z_]{0,32}$")]
    created: Annotated[float, Field(ge=0, le=1e11)]
    operation: OperationEntry | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.count == 0) != (self.operation is not None):
            raise PydanticCustomError("turn", "has neither tokens nor an operation, or both")
        return self


class LeafEntry(_Entry):
    """One leaf of every snapshot's state, as in `records.LeafBytes`."""

    name: _Printable
    dtype: Annotated[str, Field(max_length=32)]
    shape: Annotated[list[Annotated[int, Field(ge=0, le=1 << 31)]], Field(max_length=8)]
    ring: Annotated[int, Field(ge=0, le=7)] | None


class SnapshotEntry(_Entry):
    """Which turn the state is of, and how many tokens it has read."""

    turn: _Id
    position: Annotated[int, Field(ge=0, le=MAX_LENGTH)]


class Manifest(_Entry):
    """turns: oldest first. checks: of every tensor, by name."""

    model: Annotated[str, Field(max_length=1024)]
    fingerprint: _Printable
    spec: _Printable | None
    turns_made: Annotated[int, Field(ge=0, le=1 << 50)]
    turns: Annotated[list[TurnEntry], Field(max_length=MAX_TURNS)]
    leaves: Annotated[list[LeafEntry], Field(max_length=MAX_LEAVES)]
    snapshots: Annotated[list[SnapshotEntry], Field(max_length=MAX_SNAPSHOTS)]
    checks: dict[str, _Hash]


def digest(data: bytes | bytearray | memoryview) -> str:
    """blake2b-128 in hex."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def refuse(why: str) -> NoReturn:
    """Raise InvalidArchive."""
    raise InvalidArchive(f"The file can't be imported: {why}.", param="file")


def read_metadata(data: bytes) -> Mapping[str, object]:
    """What a safetensors file says of itself, once it is known to be one of a session, and all there."""
    if len(data) < 8:
        refuse("it is not a safetensors file")
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER:
        refuse("it is not a safetensors file, or its header is too large")
    if 8 + size > len(data):
        refuse(f"it is truncated, or not a safetensors file: {len(data)} bytes, the header alone has {size}")
    try:
        header = orjson.loads(memoryview(data)[8 : 8 + size])
    except ValueError:
        refuse("it is not a safetensors file: its header is not JSON")
    said = header.pop("__metadata__", None) if isinstance(header, dict) else None
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        refuse("it is a safetensors file of something else than a session")
    try:
        end = 8 + size + max(tensor["data_offsets"][1] for tensor in header.values())
    except (ValueError, KeyError, TypeError, IndexError):
        refuse("its header can't be read")
    if end > len(data):
        refuse(f"it is truncated: {len(data)} of {end} bytes")
    return said


def read_manifest(said: Mapping[str, object]) -> Manifest:
    """The manifest in a file's metadata, each entry by itself as it should be. Raises InvalidArchive."""
    version, text = said.get("version"), said.get("manifest")
    if version != str(VERSION):
        known = isinstance(version, str) and version.isascii() and version.isdigit() and len(version) < 6
        refuse(f"its format is version {version if known else '?'}, this server reads {VERSION}")
    if not isinstance(text, str):
        refuse("it has no manifest")
    raw = text.encode(errors="replace")
    if digest(raw) != said.get("check"):
        refuse("its manifest is damaged: the checksum does not match")
    try:
        return Manifest.model_validate(orjson.loads(raw))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part in _NAMES)
        refuse(f"its manifest is damaged at {where or 'its top'} ({first['type']})")
    except ValueError:
        refuse("its manifest is damaged: it is not JSON")


_NAMES = {
    name for part in (Manifest, TurnEntry, OperationEntry, LeafEntry, SnapshotEntry) for name in part.model_fields
}
