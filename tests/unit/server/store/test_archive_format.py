"""A session's file: what was written is read, and whatever else comes is refused in words."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import TensorSpec, deserialize, serialize

from server.errors import InvalidArchive
from server.store.archive_format import Archive, read_archive, within, write_archive
from server.store.archive_manifest import MAX_HEADER, MAX_LENGTH, TurnEntry, digest
from server.store.records import LeafBytes, Snapshot

TURNS = [f"turn{i:08d}" for i in range(4)]


def state(length: int, last: int) -> Snapshot:
    return Snapshot(
        "model-1",
        "spec-1",
        length - 1,
        {
            "position": LeafBytes("int64", (), None, (length - 1).to_bytes(8, "little")),
            "pending": LeafBytes("int64", (), None, (last + 1).to_bytes(8, "little")),
            "frozen": LeafBytes("uint8", (), None, b"\0"),
            "k": LeafBytes("bfloat16", (2, 8, 3), 1, bytes(range(96))),
            "sink": LeafBytes("float8_e5m2", (2, 0, 3), None, b""),
        },
    )


def session(*, begins_at: int = 0, saved: tuple[int, ...] = (1, 3)) -> Archive:
    """Four turns of 1, 2, 3, 4 tokens, 10 … 19."""
    turns, length, tokens = [], begins_at, np.arange(10, 20, dtype=np.int32)
    for i, name in enumerate(TURNS):
        length += i + 1
        parent = TURNS[i - 1] if i else "before000000" if begins_at else None
        turns.append(
            TurnEntry(id=name, parent=parent, count=i + 1, length=length, end="eos", finish="stop", created=float(i))
        )
    last = {name: int(tokens[sum(range(1, i + 2)) - 1]) for i, name in enumerate(TURNS)}
    snapshots = {TURNS[i]: state(turns[i].length, last[TURNS[i]]) for i in saved}
    spec = "spec-1" if saved else None
    return Archive("tiny", "model-1", spec, 40 if begins_at else 4, tuple(turns), tokens, snapshots)


def plain(archive: Archive) -> Any:
    leaves = {
        turn: (s.position, {n: (x.dtype, x.shape, x.ring_axis, bytes(x.data)) for n, x in s.leaves.items()})
        for turn, s in archive.snapshots.items()
    }
    return replace(archive, tokens=None, snapshots=None), archive.tokens.tolist(), leaves  # type: ignore[arg-type]


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidArchive) as caught:
        read_archive(data)
    message = caught.value.message
    assert message.startswith("The file can't be imported: ")
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 300
    return message


def forged(
    archive: Archive,
    change: Callable[[dict[str, Any]], None] = lambda manifest: None,
    tensors: Callable[[dict[str, Any]], None] = lambda found: None,
    said: Callable[[dict[str, str]], None] = lambda metadata: None,
) -> bytes:
    """A file whose maker knows the format: every checksum is right."""
    data = write_archive(archive)
    found: dict[str, Any] = dict(deserialize(data))  # type: ignore[no-untyped-call]
    tensors(found)
    names = {"I32": "int32", "I64": "int64", "BF16": "bfloat16", "U8": "uint8", "F8_E5M2": "float8_e5m2"}
    kept = {name: np.frombuffer(tensor["data"], np.uint8) for name, tensor in found.items()}
    specs = {
        name: TensorSpec(
            dtype=names[tensor["dtype"]],
            shape=tensor["shape"],
            data_ptr=kept[name].ctypes.data,
            data_len=len(kept[name]),
        )
        for name, tensor in found.items()
    }
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    manifest = json.loads(metadata["manifest"])
    manifest["checks"] = {name: digest(tensor["data"]) for name, tensor in found.items()}
    change(manifest)
    metadata["manifest"] = json.dumps(manifest)
    metadata["check"] = digest(metadata["manifest"].encode())
    said(metadata)
    return serialize(specs, metadata)


@pytest.mark.parametrize("archive", [session(), session(saved=()), session(begins_at=500, saved=(0, 2))])
def test_what_was_written_is_read(archive: Archive) -> None:
    assert plain(read_archive(write_archive(archive))) == plain(archive)
    assert plain(read_archive(forged(archive))) == plain(archive)


def test_an_empty_session_is_a_session() -> None:
    empty = Archive("tiny", "model-1", None, 0, (), np.zeros(0, np.int32), {})
    assert plain(read_archive(write_archive(empty))) == plain(empty)


def test_snapshots_of_two_specifications_are_not_written() -> None:
    odd = state(3, 12)
    odd.leaves["extra"] = odd.leaves["frozen"]  # type: ignore[index]
    with pytest.raises(ValueError, match="one specification"):
        write_archive(replace(session(), snapshots={TURNS[1]: odd, TURNS[3]: state(10, 19)}))


DATA = write_archive(session())


@given(st.integers(0, len(DATA) - 1))
def test_every_truncation_is_refused(size: int) -> None:
    refusal(DATA[:size])


def test_a_truncation_says_how_much_is_missing() -> None:
    assert f"truncated: {len(DATA) - 5} of {len(DATA)} bytes" in refusal(DATA[:-5])


def read_if_valid(data: bytes) -> Archive | None:
    try:
        return read_archive(data)
    except InvalidArchive:
        return None


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
@settings(max_examples=400)
def test_a_changed_byte_is_refused_or_changes_nothing(at: int, by: int) -> None:
    changed = bytearray(DATA)
    changed[at] ^= by
    back = read_if_valid(bytes(changed))
    # White space in the header is nothing.
    assert back is None or plain(back) == plain(session())


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    refusal(data)
    refusal(len(data).to_bytes(8, "little") + data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=6) | st.just("__metadata__"), JSON, max_size=4) | JSON)
def test_any_header_is_refused(header: Any) -> None:
    text = json.dumps(header).encode()
    refusal(len(text).to_bytes(8, "little") + text + bytes(64))


FIELDS = ["model", "fingerprint", "spec", "turns_made", "turns", "leaves", "snapshots", "checks"]


@given(st.sampled_from(FIELDS), JSON)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_manifest_is_read_or_refused(field: str, value: Any) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest[field] = value

    # Accepted: a name it calls itself by, or a number of turns that are not there any more.
    accepted = read_if_valid(forged(session(), change)) is not None
    assert not accepted or field in ("model", "fingerprint", "spec", "turns_made")


def test_not_ours_is_said_to_be_so() -> None:
    assert "not a safetensors file" in refusal(pickle.dumps({"a": 1}, protocol=0))
    assert "its header is too large" in refusal((MAX_HEADER + 1).to_bytes(8, "little") + bytes(64))
    flat = np.zeros(4, np.uint8)
    spec = TensorSpec(dtype="uint8", shape=[4], data_ptr=flat.ctypes.data, data_len=4)
    for metadata in (None, {"format": "pt"}):
        assert "something else than a session" in refusal(serialize({"weight": spec}, metadata))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"version": "2"}, "format is version 2, this server reads 1"),
        ({"version": "9" * 400}, "version ?"),
        ({"version": "1\u0660"}, "version ?"),
        ({"manifest": None}, "has no manifest"),
        ({"manifest": "{}"}, "manifest is damaged: the checksum"),
        ({"check": "0" * 32}, "manifest is damaged: the checksum"),
        ({"check": None}, "manifest is damaged: the checksum"),
        ({"manifest": "{", "check": digest(b"{")}, "not JSON"),
        ({"manifest": "[]", "check": digest(b"[]")}, "damaged at its top"),
        ({"manifest": "{}", "check": digest(b"{}")}, "damaged at model (missing)"),
    ],
)
def test_what_a_file_says_of_itself(said: dict[str, str | None], why: str) -> None:
    def change(metadata: dict[str, str]) -> None:
        for name, value in said.items():
            if value is None:
                del metadata[name]
            else:
                metadata[name] = value

    assert why in refusal(forged(session(), said=change))


def change_turn(i: int, **fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["turns"][i].update(fields)


def drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        inner = manifest
        for part in path[:-1]:
            inner = inner[part]
        del inner[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (change_turn(2, parent=TURNS[0]), "turn 2 does not follow"),
        (change_turn(2, parent=None), "turn 2 does not follow"),
        (change_turn(2, length=9), "turn 2 does not follow"),
        (change_turn(0, parent="before000000"), "turn 0 does not follow"),
        (change_turn(0, length=2), "turn 0 does not follow"),
        (change_turn(1, count=0), "turns.1 (turn)"),
        (change_turn(1, count=-1), "turns.1.count"),
        (change_turn(1, count=2.0), "turns.1.count"),
        (change_turn(1, count=True), "turns.1.count"),
        (change_turn(1, length=MAX_LENGTH + 1), "turns.1.length"),
        (change_turn(1, length=10**30), "damaged"),
        (change_turn(1, end="never"), "turns.1.end"),
        (change_turn(1, finish="<script>"), "turns.1.finish"),
        (change_turn(1, created=-1.0), "turns.1.created"),
        (change_turn(1, id="turn_x"), "turns.1.id"),
        (change_turn(1, id=TURNS[3]), "turn"),
        (change_turn(1, secret="x"), "damaged at turns.1"),
        (drop("turns", 1), "tokens are not the 8 int32"),
        (drop("snapshots", 1), "tensors are not those"),
        (drop("leaves", 3), "tensors are not those"),
        (drop("checks", "tokens"), "tensors are not those"),
        (lambda m: m["checks"].update(tokens="0" * 32), "checksum of tensor tokens"),
        (lambda m: m["leaves"].append(m["leaves"][0]), "named twice"),
        (lambda m: m["leaves"][3].update(dtype="complex64"), "leaf k is not of the dtype"),
        (lambda m: m["leaves"][3].update(dtype="float16"), "leaf k is not of the dtype"),
        (lambda m: m["leaves"][3].update(shape=[2, 3, 8]), "leaf k is not of the dtype"),
        (lambda m: m["leaves"][3].update(shape=[1 << 31] * 8), "leaf k is not of the dtype"),
        (lambda m: m["leaves"][3].update(shape=[1] * 9), "leaves.3.shape"),
        (lambda m: m["leaves"][3].update(ring=3), "no axis 3"),
        (lambda m: m["snapshots"][0].update(turn="strange00000"), "a snapshot is of no turn"),
        (lambda m: m["snapshots"][0].update(turn=TURNS[3]), "of the same turn"),
        (lambda m: m["snapshots"][0].update(turn=TURNS[2]), "does not fit the turn"),
        (lambda m: m["snapshots"][0].update(position=1), "stand elsewhere"),
        (lambda m: m.update(spec=None), "without a specification"),
        (lambda m: m.update(turns_made=3), "fewer turns"),
        (lambda m: m.update(fingerprint="a\nb"), "damaged at fingerprint"),
        (lambda m: m.update(turns=m["turns"] * 40_000), "damaged at turns (too_long)"),
        (lambda m: m.update(snapshots=m["snapshots"] * 40), "damaged at snapshots (too_long)"),
    ],
)
def test_what_does_not_fit_is_named(change: Callable[[dict[str, Any]], None], why: str) -> None:
    assert why in refusal(forged(session(), change))


def test_a_first_turn_that_is_no_root_needs_its_snapshot() -> None:
    assert "neither a root nor a snapshot" in refusal(write_archive(session(begins_at=500, saved=(1,))))
    assert "neither a root nor a snapshot" in refusal(write_archive(session(begins_at=500, saved=())))


@pytest.mark.parametrize("leaf", ["position", "pending"])
@pytest.mark.parametrize("value", [-1, 0, 1 << 40, (1 << 63) - 1, -(1 << 63)])
def test_a_state_that_lies_about_where_it_stands_is_refused(leaf: str, value: int) -> None:
    def change(found: dict[str, Any]) -> None:
        found[f"snapshots/0/{leaf}"]["data"] = bytearray(value.to_bytes(8, "little", signed=True))

    assert f"leaf {leaf} of the snapshot" in refusal(forged(session(), tensors=change))


def test_a_state_without_a_position_is_refused() -> None:
    archive = session()
    bare = {
        turn: replace(s, leaves={name: leaf for name, leaf in s.leaves.items() if name != "position"})
        for turn, s in archive.snapshots.items()
    }
    assert "no leaf position" in refusal(write_archive(replace(archive, snapshots=bare)))


def test_tensors_that_no_manifest_names_are_refused() -> None:
    def change(found: dict[str, Any]) -> None:
        found["more"] = {"dtype": "U8", "shape": [math.prod((2, 3))], "data": bytearray(6)}

    assert "tensors are not those" in refusal(forged(session(), tensors=change))


def test_a_head_too_far_from_its_snapshot_is_refused() -> None:
    for archive, unread in ((session(saved=()), 10), (session(saved=(0,)), 9), (session(begins_at=500, saved=(0,)), 9)):
        assert within(archive, unread) is archive
        with pytest.raises(
            InvalidArchive, match=f"last {unread} tokens.* at most {unread - 1} again.*max_prompt_tokens"
        ):
            within(archive, unread - 1)


@pytest.mark.parametrize("begins_at", [0, 500])
def test_turns_too_far_from_a_snapshot_are_not_kept(begins_at: int) -> None:
    """Between the snapshots of the first and the last turn lie turns of 2 and 3 tokens."""
    archive = session(begins_at=begins_at, saved=(0, 3))
    assert within(archive, 5) is archive
    less = within(archive, 4)
    assert [turn.id for turn in less.turns] == TURNS[3:]
    assert less.tokens.tolist() == [16, 17, 18, 19]
    assert list(less.snapshots) == TURNS[3:]
    assert less.turns_made == archive.turns_made
    assert plain(read_archive(write_archive(less))) == plain(less)
