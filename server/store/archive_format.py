"""A session as one safetensors file, and back, as pure functions on bytes. Nothing in it is ever unpickled.

    tensors    "tokens" (N,) int32: those of all turns, oldest first
               "snapshots/<i>/<leaf>": the leaves of the i-th snapshot's state, as the model has them
    metadata   "format" "perennial-session", "version" "1", "manifest" JSON, "check" blake2b-128 of that JSON
    manifest   {"model", "fingerprint", "spec", "turns_made", "turns": [{"id", "parent", "count", "length", "end",
               "finish", "created", "operation"}], "leaves": [{"name", "dtype", "shape", "ring"}], "snapshots":
               [{"turn", "position"}], "checks": {tensor: blake2b-128 of its bytes}}

A file that was read is whole: every turn follows the one before, the first begins at the root or has a snapshot, and
every state stands where its turn ends and has that turn's last token pending; a turn has tokens, or is an operation
on the memory. Whether the tokens are in a vocabulary
and the leaves in a specification is for those to say who know a model. The checksums find damage, not malice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError, TensorSpec, deserialize, serialize

from server.store.archive_manifest import (
    FORMAT,
    VERSION,
    LeafEntry,
    Manifest,
    TurnEntry,
    digest,
    read_manifest,
    read_metadata,
    refuse,
)
from server.store.records import LeafBytes, Snapshot

# The library does not say so itself.
_deserialize: Callable[[bytes], list[tuple[str, Mapping[str, Any]]]] = deserialize

# Our names of dtypes → the format's, and bytes of an element.
_DTYPES = {
    "float64": ("F64", 8), "float32": ("F32", 4), "float16": ("F16", 2), "bfloat16": ("BF16", 2),
    "float8_e4m3fn": ("F8_E4M3", 1), "float8_e5m2": ("F8_E5M2", 1),
    "int64": ("I64", 8), "int32": ("I32", 4), "int16": ("I16", 2), "int8": ("I8", 1), "uint8": ("U8", 1),
    "bool": ("BOOL", 1),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Archive:
    """A session's content.

    tokens (N,) int32: of all turns, oldest first. snapshots: by turn. spec: their specification's hash, None where
    there is no snapshot. turns_made: on the way to the head, those that are kept no more among them.
    """

    model: str
    fingerprint: str
    spec: str | None
    turns_made: int
    turns: tuple[TurnEntry, ...]
    tokens: NDArray[np.int32]
    snapshots: Mapping[str, Snapshot]


def write_archive(archive: Archive) -> bytes:
    """The file. Raises ValueError where the snapshots' leaves differ in more than their bytes."""
    kept: list[NDArray[np.uint8]] = []  # what the specs below point into
    specs: dict[str, TensorSpec] = {}
    checks: dict[str, str] = {}

    def add(name: str, dtype: str, shape: tuple[int, ...], data: bytes | bytearray | memoryview) -> None:
        flat = np.frombuffer(data, np.uint8)
        kept.append(flat)
        specs[name] = TensorSpec(dtype=dtype, shape=shape, data_ptr=flat.ctypes.data, data_len=flat.nbytes)
        checks[name] = digest(flat.data)

    add("tokens", "int32", archive.tokens.shape, archive.tokens.astype("<i4").tobytes())
    leaves: list[LeafEntry] | None = None
    for i, snapshot in enumerate(archive.snapshots.values()):
        described = [
            LeafEntry(name=name, dtype=leaf.dtype, shape=list(leaf.shape), ring=leaf.ring_axis)
            for name, leaf in snapshot.leaves.items()
        ]
        if leaves is not None and described != leaves:
            raise ValueError("the snapshots of a session are of one specification")
        leaves = described
        for name, leaf in snapshot.leaves.items():
            add(f"snapshots/{i}/{name}", leaf.dtype, leaf.shape, leaf.data)
    manifest = orjson.dumps(
        {
            "model": archive.model,
            "fingerprint": archive.fingerprint,
            "spec": archive.spec,
            "turns_made": archive.turns_made,
            "turns": [turn.model_dump() for turn in archive.turns],
            "leaves": [leaf.model_dump() for leaf in leaves or []],
            "snapshots": [{"turn": turn, "position": s.position} for turn, s in archive.snapshots.items()],
            "checks": checks,
        }
    )
    said = {"format": FORMAT, "version": str(VERSION), "manifest": manifest.decode(), "check": digest(manifest)}
    return serialize(specs, said)


def read_archive(data: bytes) -> Archive:
    """The session in a file. Raises InvalidArchive saying what is wrong, never what stands there."""
    manifest = read_manifest(read_metadata(data))
    try:
        found = dict(_deserialize(data))
    except SafetensorError:
        refuse("it is not a whole safetensors file")
    wanted = {"tokens", *(f"snapshots/{i}/{x.name}" for i in range(len(manifest.snapshots)) for x in manifest.leaves)}
    if wanted != found.keys() or wanted != manifest.checks.keys():
        refuse("its tensors are not those that its manifest names")
    for name, tensor in found.items():
        if digest(tensor["data"]) != manifest.checks[name]:
            refuse(f"the checksum of tensor {name} does not match")
    tokens = _tokens(found["tokens"], sum(turn.count for turn in manifest.turns))
    turns = _chain(manifest)
    snapshots = {
        snapshot.turn: Snapshot(
            manifest.fingerprint,
            manifest.spec or "",
            snapshot.position,
            {leaf.name: _leaf(leaf, found[f"snapshots/{i}/{leaf.name}"]) for leaf in manifest.leaves},
        )
        for i, snapshot in enumerate(manifest.snapshots)
    }
    _stand(turns, tokens, snapshots)
    return Archive(manifest.model, manifest.fingerprint, manifest.spec, manifest.turns_made, turns, tokens, snapshots)


def within(archive: Archive, most: int) -> Archive:
    """The archive with those turns that can be gone on from by reading at most `most` tokens again.

    To go on from a turn, a state needs the run since the last snapshot, or the root. Of what lies between two snapshots
    so far apart that this is too much, and of what lies before, nothing is kept: as if it had been trimmed. Raises
    InvalidArchive where the head itself is so far from the last snapshot.
    """
    first = saved = 0
    for i, turn in enumerate(archive.turns):
        if turn.id in archive.snapshots:
            saved = turn.length
        elif turn.length - saved > most:
            first = i + 1
    if first == 0:
        return archive
    turns = archive.turns[first:]
    if not turns:
        unread = archive.turns[-1].length - saved
        refuse(
            f"its last {unread} tokens are in no snapshot, and this server reads at most {most} again "
            "(max_prompt_tokens + max_tokens_limit + snapshot_every); "
            "run a turn of it where it is from, and export it then"
        )
    names = {turn.id for turn in turns}
    return replace(
        archive,
        turns=turns,
        tokens=archive.tokens[sum(turn.count for turn in archive.turns[:first]) :],
        snapshots={name: snapshot for name, snapshot in archive.snapshots.items() if name in names},
    )


def _tokens(tensor: Mapping[str, object], count: int) -> NDArray[np.int32]:
    data = tensor["data"]
    assert isinstance(data, bytearray)
    if tensor["dtype"] != "I32" or tensor["shape"] != [count]:
        refuse(f"its tokens are not the {count} int32 that its turns have together")
    return np.frombuffer(data, "<i4")


def _leaf(leaf: LeafEntry, tensor: Mapping[str, object]) -> LeafBytes:
    data = tensor["data"]
    assert isinstance(data, bytearray)
    code, size = _DTYPES.get(leaf.dtype, ("", 0))
    if tensor["dtype"] != code or tensor["shape"] != leaf.shape or len(data) != math.prod(leaf.shape) * size:
        refuse(f"leaf {leaf.name} is not of the dtype and shape that the manifest says")
    if leaf.ring is not None and leaf.ring >= len(leaf.shape):
        refuse(f"leaf {leaf.name} has no axis {leaf.ring} that could be its ring")
    return LeafBytes(leaf.dtype, tuple(leaf.shape), leaf.ring, data)


def _chain(manifest: Manifest) -> tuple[TurnEntry, ...]:
    """The turns, each following the one before. Raises InvalidArchive."""
    saved = [snapshot.turn for snapshot in manifest.snapshots]
    if len({leaf.name for leaf in manifest.leaves}) != len(manifest.leaves):
        refuse("a leaf is named twice")
    if (manifest.spec is None) != (not saved) or bool(manifest.leaves) != bool(saved):
        refuse("it has snapshots without a specification, or the other way round")
    if manifest.turns_made < len(manifest.turns) or bool(manifest.turns_made) != bool(manifest.turns):
        refuse("it counts fewer turns than it has, or has none of them")
    if len(set(saved)) != len(saved) or not {turn.id for turn in manifest.turns}.issuperset(saved):
        refuse("a snapshot is of no turn in it, or of the same turn as another")
    turns: list[TurnEntry] = []
    for i, turn in enumerate(manifest.turns):
        before = turns[-1] if turns else None
        begin = turn.length - turn.count
        if before is not None:
            fits = turn.parent == before.id and begin == before.length
        else:
            # The oldest is the root, or what lay before it was given up once its snapshot was there.
            fits = begin == 0 if turn.parent is None else begin > 0 and turn.id in saved
        if not fits:
            refuse(f"turn {i} does not follow the one before, or the first has neither a root nor a snapshot")
        turns.append(turn)
    if len({turn.id for turn in turns} | {turn.parent for turn in turns[:1]}) != len(turns) + bool(turns):
        refuse("a turn's id is there twice")
    return tuple(turns)


def _stand(turns: tuple[TurnEntry, ...], tokens: NDArray[np.int32], snapshots: Mapping[str, Snapshot]) -> None:
    """Every state stands at the end of its turn, whose last token it has not read yet. Raises InvalidArchive."""
    at = 0
    for turn in turns:
        at += turn.count
        if (snapshot := snapshots.get(turn.id)) is None:
            continue
        due = {"position": turn.length - 1}
        if at:  # else the pending token is of a turn that is not in the file
            due["pending"] = int(tokens[at - 1]) + 1
        for name, number in due.items():
            leaf = snapshot.leaves.get(name)
            if leaf is None or leaf.dtype != "int64" or leaf.shape != ():
                refuse(f"the states have no leaf {name}, an int64")
            if int.from_bytes(leaf.data, "little", signed=True) != number:
                refuse(f"leaf {name} of the snapshot at turn {turn.id} does not fit the turn")
        if snapshot.position != turn.length - 1:
            refuse(f"the snapshot at turn {turn.id} is said to stand elsewhere than the turn ends")
