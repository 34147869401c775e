"""Snapshots to blocks and back; damage is always noticed and named."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import orjson
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from server.errors import CorruptState
from server.store.blocks import BLOCK, content_hash, decode_snapshot, encode_snapshot, hashes, read_manifest, thin
from server.store.records import LeafBytes, Snapshot

SIZES = {"float32": 4, "bfloat16": 2, "int64": 8, "int8": 1}


@st.composite
def leaves(draw: st.DrawFn) -> LeafBytes:
    dtype = draw(st.sampled_from(sorted(SIZES)))
    shape = draw(st.lists(st.integers(1, 3), max_size=3))
    axis = None
    if draw(st.booleans()):
        axis = draw(st.integers(0, len(shape)))
        shape.insert(axis, draw(st.sampled_from([1, 63, 64, 65, 200])))
    size = math.prod(shape) * SIZES[dtype]
    data = bytearray(size)
    start = draw(st.integers(0, size))
    stop = draw(st.integers(start, min(size, start + 40)))
    data[start:stop] = draw(st.binary(min_size=stop - start, max_size=stop - start))
    return LeafBytes(dtype, tuple(shape), axis, bytes(data))


SNAPSHOTS = st.builds(
    Snapshot,
    fingerprint=st.text(max_size=10),
    spec_hash=st.text("0123456789abcdef", max_size=16),
    position=st.integers(0, 10**12),
    leaves=st.dictionaries(st.text(min_size=1, max_size=8), leaves(), max_size=5),
)


def decode(manifest: bytes, blobs: dict[str, bytes]) -> Snapshot:
    snapshot = decode_snapshot("turn", read_manifest("turn", manifest), blobs)
    return replace(
        snapshot, leaves={name: replace(leaf, data=bytes(leaf.data)) for name, leaf in snapshot.leaves.items()}
    )


@given(SNAPSHOTS)
def test_a_snapshot_comes_back_bit_by_bit(snapshot: Snapshot) -> None:
    manifest, blobs = encode_snapshot(snapshot)
    assert decode(manifest, blobs) == snapshot
    assert list(decode(manifest, blobs).leaves) == list(snapshot.leaves)
    assert sorted(hashes(read_manifest("turn", manifest))) == sorted(blobs)
    assert all(any(blob) for blob in blobs.values())


@given(SNAPSHOTS, st.data())
def test_a_damaged_block_is_noticed(snapshot: Snapshot, data: st.DataObject) -> None:
    manifest, blobs = encode_snapshot(snapshot)
    assume(blobs)
    name = data.draw(st.sampled_from(sorted(blobs)))
    blob = bytearray(blobs[name])
    damage = data.draw(st.sampled_from(["flip", "cut", "grow", "drop"]))
    if damage == "flip":
        blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    elif damage == "cut":
        del blob[data.draw(st.integers(0, len(blob) - 1)) :]
    elif damage == "grow":
        blob.append(0)
    broken = {k: v for k, v in blobs.items() if k != name} if damage == "drop" else {**blobs, name: bytes(blob)}
    with pytest.raises(CorruptState, match=r"snapshot at turn turn is corrupt: (leaf|block)"):
        decode(manifest, broken)


@given(SNAPSHOTS, st.integers(0), st.integers(1, 255))
def test_a_changed_byte_of_a_manifest_is_noticed_or_means_the_same(snapshot: Snapshot, where: int, flip: int) -> None:
    manifest, _ = encode_snapshot(snapshot)
    changed = bytearray(manifest)
    changed[where % len(changed)] ^= flip
    try:
        body = read_manifest("turn", bytes(changed))
    except CorruptState as error:
        assert "turn turn" in str(error)  # noqa: PT017 - either outcome is right
    else:
        assert body == read_manifest("turn", manifest)


@given(st.binary(max_size=100))
def test_foreign_bytes_are_no_manifest(data: bytes) -> None:
    with pytest.raises(CorruptState, match="snapshot at turn turn is corrupt"):
        read_manifest("turn", data)


def test_what_is_wrong_with_a_manifest_is_named() -> None:
    manifest, _ = encode_snapshot(Snapshot("f", "s", 1, {}))
    loaded = orjson.loads(manifest)
    for change, why in (
        ({"v": 2}, "version 2"),
        ({"m": {**loaded["m"], "position": 2}}, "checksum"),
        ({"m": 5}, "not a manifest"),
    ):
        with pytest.raises(CorruptState, match=why):
            read_manifest("turn", orjson.dumps({**loaded, **change}))


def ring(positions: int, length: int = 4 * BLOCK) -> Snapshot:
    """Two rings (one behind an outer axis) and a third of another length, `positions` of each written."""
    row = bytes(range(1, 9))

    def written(outer: int, size: int) -> bytes:
        return (row * min(positions, size) + bytes(8 * max(0, size - positions))) * outer

    return Snapshot(
        "f",
        "s",
        positions,
        {
            "k": LeafBytes("int8", (length, 8), 0, written(1, length)),
            "v": LeafBytes("int8", (3, length, 8), 1, written(3, length)),
            "short": LeafBytes("int8", (BLOCK, 8), 0, written(1, BLOCK)),
        },
    )


def test_rings_of_one_length_share_their_blobs() -> None:
    body = read_manifest("turn", encode_snapshot(ring(2 * BLOCK + 1))[0])
    assert {length: len(blocks) for length, blocks in body["rings"].items()} == {str(BLOCK): 1, str(4 * BLOCK): 4}
    _, blobs = encode_snapshot(ring(2 * BLOCK + 1))
    assert sorted(map(len, blobs.values())) == [8 * BLOCK] + [8 * BLOCK * 4] * 2  # equal blocks are one blob


def test_a_full_block_keeps_its_hash_as_the_ring_fills() -> None:
    early = read_manifest("turn", encode_snapshot(ring(BLOCK + 10))[0])["rings"][str(4 * BLOCK)]
    later = read_manifest("turn", encode_snapshot(ring(3 * BLOCK + 10))[0])["rings"][str(4 * BLOCK)]
    assert early[0] == later[0]
    assert early[2:] == [None, None]


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (LeafBytes("int8", (4,), None, b"123"), "leaf a: 3 bytes"),
        (LeafBytes("quarternion", (4,), None, b"1234"), "dtype"),
        (LeafBytes("int8", (4,), 1, b"1234"), "ring axis"),
    ],
)
def test_a_leaf_that_does_not_fit_is_refused(leaf: LeafBytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_snapshot(Snapshot("f", "s", 1, {"a": leaf}))


def test_a_blob_is_named_by_its_content() -> None:
    assert content_hash(b"a") == content_hash(b"a")
    assert len(content_hash(b"a")) == 32
    assert content_hash(b"a") != content_hash(b"b")


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=30).map(sorted),
    st.sets(st.integers(0, 29), max_size=3),
    st.integers(1, 6),
)
def test_thinning_keeps_what_is_fixed_and_no_more_than_asked(positions: list[int], which: set[int], keep: int) -> None:
    fixed = {i for i in which if i < len(positions)}
    dropped = thin(positions, fixed, keep)
    assert len(positions) - len(dropped) == min(len(positions), max(keep, len(fixed)))
    assert dropped <= set(range(len(positions))) - fixed


def test_thinning_one_by_one_leaves_growing_distances() -> None:
    kept: list[int] = []
    for position in range(512, 512 * 200, 512):
        kept.append(position)
        for index in sorted(thin(kept, {len(kept) - 1}, 5), reverse=True):
            del kept[index]
    gaps = [b - a for a, b in pairwise(kept)]
    assert kept[-1] == 512 * 199
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] >= 4 * gaps[-1]
