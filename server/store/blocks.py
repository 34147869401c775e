"""A snapshot as a manifest and content-addressed blocks, and back, as pure functions on bytes.

Ring leaves are cut in blocks of 64 positions along their ring axis; the same block number of all rings of equal
length makes one blob, leaf after leaf in the manifest's order. A full block never changes, so later snapshots of
the same lineage share its blob. Every other leaf is one blob. A blob of zeros is not stored: that part of the ring
was never written. The manifest is JSON with a checksum of its own, and names each blob by its blake2b-128.

    {"v": 1, "check": hex, "m": {"fingerprint", "spec", "position", "leaves": [{"name", "dtype", "shape",
     "ring": axis or null, "dense": hash, null where all zero or a ring}], "rings": {"<length>": [hash or null, …]}}}

It knows nothing of keys, tensors or models; whether a spec hash fits the model is the reader's to check.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from server.errors import CorruptState
from server.store.codec import checksum
from server.store.records import LeafBytes, Snapshot

VERSION = 1
BLOCK = 64  # ring positions

_ITEMSIZE = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1,
    "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1, "bool": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Ring:
    """A ring leaf seen as (before, R, after) bytes: R positions, `after` bytes of each in each of `before` rows."""

    name: str
    before: int
    length: int
    after: int

    def block(self, index: int) -> slice:
        return slice(index * BLOCK, min((index + 1) * BLOCK, self.length))

    def nbytes(self, index: int) -> int:
        cut = self.block(index)
        return int(self.before * (cut.stop - cut.start) * self.after)


def content_hash(blob: bytes) -> str:
    """blake2b-128 in hex, a blob's name."""
    return hashlib.blake2b(blob, digest_size=16).hexdigest()


def _nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    if dtype not in _ITEMSIZE:
        raise ValueError(f"unknown dtype {dtype!r}")
    return math.prod(shape) * _ITEMSIZE[dtype]


def _ring(name: str, dtype: str, shape: tuple[int, ...], axis: int) -> _Ring:
    if not 0 <= axis < len(shape):
        raise ValueError(f"ring axis {axis} of a shape of {len(shape)} axes")
    after = math.prod(shape[axis + 1 :]) * _ITEMSIZE[dtype]
    return _Ring(name, math.prod(shape[:axis]), shape[axis], after)


def _by_length(rings: list[_Ring]) -> Iterator[tuple[int, list[_Ring]]]:
    for length in sorted({ring.length for ring in rings}):
        yield length, [ring for ring in rings if ring.length == length]


def encode_snapshot(snapshot: Snapshot) -> tuple[bytes, dict[str, bytes]]:
    """The manifest, and hash → blob. Raises ValueError where a leaf's bytes do not fit its dtype and shape."""
    blobs: dict[str, bytes] = {}

    def keep(blob: bytes) -> str | None:
        if not blob.strip(b"\0"):
            return None
        name = content_hash(blob)
        blobs[name] = blob
        return name

    leaves: list[dict[str, Any]] = []
    rings: list[_Ring] = []
    views: dict[str, NDArray[np.uint8]] = {}
    for name, leaf in snapshot.leaves.items():
        flat = np.frombuffer(leaf.data, np.uint8)
        if flat.size != _nbytes(leaf.dtype, leaf.shape):
            raise ValueError(f"leaf {name}: {flat.size} bytes for {leaf.dtype} {leaf.shape}")
        described = {"name": name, "dtype": leaf.dtype, "shape": leaf.shape, "ring": leaf.ring_axis, "dense": None}
        if leaf.ring_axis is None:
            described["dense"] = keep(flat.tobytes())
        else:
            ring = _ring(name, leaf.dtype, leaf.shape, leaf.ring_axis)
            rings.append(ring)
            views[name] = flat.reshape(ring.before, ring.length, ring.after)
        leaves.append(described)

    cut: dict[str, list[str | None]] = {}
    for length, alike in _by_length(rings):
        cut[str(length)] = [
            keep(b"".join(views[ring.name][:, ring.block(b)].tobytes() for ring in alike))
            for b in range(math.ceil(length / BLOCK))
        ]
    body = {
        "fingerprint": snapshot.fingerprint,
        "spec": snapshot.spec_hash,
        "position": snapshot.position,
        "leaves": leaves,
        "rings": cut,
    }
    check = checksum(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hex()
    return orjson.dumps({"v": VERSION, "check": check, "m": body}), blobs


def read_manifest(turn_id: str, data: bytes) -> dict[str, Any]:
    """The manifest's body. Raises CorruptState naming the turn whose snapshot it is, and why."""

    def corrupt(why: str) -> CorruptState:
        return CorruptState(f"the snapshot at turn {turn_id} is corrupt: {why}")

    try:
        loaded = orjson.loads(data)
    except ValueError as error:
        raise corrupt("its manifest is not JSON") from error
    if not isinstance(loaded, dict) or not isinstance(loaded.get("m"), dict):
        raise corrupt("these bytes are not a manifest")
    if loaded.get("v") != VERSION:
        raise corrupt(f"its format is version {loaded.get('v')!r}, this server reads {VERSION}")
    body: dict[str, Any] = loaded["m"]
    if checksum(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hex() != loaded.get("check"):
        raise corrupt("its manifest's checksum does not match")
    return body


def hashes(body: Mapping[str, Any]) -> list[str]:
    """The blobs a manifest's body names, each once."""
    dense = [leaf["dense"] for leaf in body["leaves"]]
    named = [*dense, *(name for row in body["rings"].values() for name in row)]
    return list(dict.fromkeys(name for name in named if name is not None))


def sizes(body: Mapping[str, Any]) -> dict[str, int]:
    """The blobs a manifest's body names, and the bytes of each."""
    found: dict[str, int] = {}
    rings: list[_Ring] = []
    for leaf in body["leaves"]:
        if leaf["dense"] is not None:
            found[leaf["dense"]] = _nbytes(leaf["dtype"], tuple(leaf["shape"]))
        elif leaf["ring"] is not None:
            rings.append(_ring(leaf["name"], leaf["dtype"], tuple(leaf["shape"]), leaf["ring"]))
    for length, alike in _by_length(rings):
        for b, name in enumerate(body["rings"][str(length)]):
            if name is not None:
                found[name] = sum(ring.nbytes(b) for ring in alike)
    return found


def decode_snapshot(turn_id: str, body: Mapping[str, Any], blobs: Mapping[str, bytes | None]) -> Snapshot:
    """Raises CorruptState naming leaf or block, and whether it is missing, altered or of another size."""

    def fetch(name: str, what: str, size: int) -> bytes:
        blob = blobs.get(name)
        if blob is None:
            raise CorruptState(f"the snapshot at turn {turn_id} is corrupt: {what} is missing")
        if len(blob) != size:
            raise CorruptState(
                f"the snapshot at turn {turn_id} is corrupt: {what} has {len(blob)} bytes where {size} are due"
            )
        if content_hash(blob) != name:
            raise CorruptState(f"the snapshot at turn {turn_id} is corrupt: {what} has been altered")
        return blob

    leaves: dict[str, LeafBytes] = {}
    rings: list[_Ring] = []
    views: dict[str, NDArray[np.uint8]] = {}
    for leaf in body["leaves"]:
        name, dtype, shape, axis = leaf["name"], leaf["dtype"], tuple(leaf["shape"]), leaf["ring"]
        size = _nbytes(dtype, shape)
        data = bytearray(size)
        if leaf["dense"] is not None:
            data[:] = fetch(leaf["dense"], f"leaf {name}", size)
        elif axis is not None:
            ring = _ring(name, dtype, shape, axis)
            rings.append(ring)
            views[name] = np.frombuffer(data, np.uint8).reshape(ring.before, ring.length, ring.after)
        leaves[name] = LeafBytes(dtype, shape, axis, data)
    for length, alike in _by_length(rings):
        for b, name in enumerate(body["rings"][str(length)]):
            if name is None:
                continue
            what = f"block {b} of the rings of {length} ({', '.join(r.name for r in alike[:3])}, …)"
            blob = memoryview(fetch(name, what, sum(ring.nbytes(b) for ring in alike)))
            start = 0
            for ring in alike:
                cut, size = ring.block(b), ring.nbytes(b)
                piece = np.frombuffer(blob[start : start + size], np.uint8)
                views[ring.name][:, cut] = piece.reshape(ring.before, cut.stop - cut.start, ring.after)
                start += size
    return Snapshot(body["fingerprint"], body["spec"], body["position"], leaves)


def thin(positions: list[int], fixed: set[int], keep: int) -> set[int]:
    """Indices of the snapshots to drop so that `keep` stay, at growing distances from the newest.

    positions ascend. Those at the indices `fixed` always stay; of the others, one by one that goes whose neighbours are
    closest together for how far it lies from the newest (before the first lies position 0, where a state needs no
    snapshot).
    """
    kept = list(range(len(positions)))

    def loss(i: int) -> float:
        here = positions[kept[i]]
        older = positions[kept[i - 1]] if i else 0
        newer = positions[kept[i + 1]] if i + 1 < len(kept) else here
        return (newer - older) / (positions[-1] - here + 1)

    while len(kept) > keep and (loose := [i for i in range(len(kept)) if kept[i] not in fixed]):
        del kept[min(loose, key=loss)]
    return set(range(len(positions))) - set(kept)
