"""Records to bytes and back; damage is always noticed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.errors import CorruptState
from server.store.codec import (
    decode_event,
    decode_generation,
    decode_request,
    decode_session,
    decode_turn,
    encode_data,
    encode_request,
    encode_result,
    encode_turn,
)
from server.store.records import End, Result, Status, Turn, TurnRequest

LINEAGE = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=20, max_size=20)
SUFFIX = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=12, max_size=12)
TOKEN = st.integers(-(2**31), 2**31 - 1)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    lineage = draw(LINEAGE)
    return Turn(
        id=f"turn_{lineage}_{draw(SUFFIX)}",
        parent=draw(st.none() | SUFFIX.map(lambda s: f"turn_{lineage}_{s}")),
        tokens=tuple(draw(st.lists(TOKEN, max_size=50))),
        length=draw(st.integers(0, 10**12)),
        end=draw(st.sampled_from(End)),
        finish=draw(st.sampled_from(["stop", "length", "cancelled"])),
        created=draw(st.floats(0, 4e9)),
    )


A_TURN = Turn(
    *("turn_" + "a" * 20 + "_" + "1" * 12, "turn_" + "a" * 20 + "_" + "0" * 12, (1, 2, 2**31 - 1), 10),
    *(End.OPEN, "length", 1.5),
)


@given(turns())
def test_a_turn_comes_back_as_it_was(turn: Turn) -> None:
    assert decode_turn(turn.id, encode_turn(turn)) == turn


@given(turns(), st.integers(0), st.integers(1, 255))
def test_a_changed_byte_is_noticed(turn: Turn, where: int, flip: int) -> None:
    data = bytearray(encode_turn(turn))
    data[where % len(data)] ^= flip
    with pytest.raises(CorruptState, match=turn.id):
        decode_turn(turn.id, bytes(data))


def test_every_single_byte_and_every_cut_is_noticed() -> None:
    data = encode_turn(A_TURN)
    for i in range(len(data)):
        for flip in (1, 0x20, 0x80, 0xFF):
            changed = bytearray(data)
            changed[i] ^= flip
            with pytest.raises(CorruptState):
                decode_turn(A_TURN.id, bytes(changed))
        with pytest.raises(CorruptState):
            decode_turn(A_TURN.id, data[:i])


@given(st.binary(max_size=300))
@example(b"")
@example(b"PTRN")
@example(b"PTRN\x01\xff\xff\xff\xff" + bytes(8))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptState, match=A_TURN.id):
        decode_turn(A_TURN.id, data)


def test_what_is_wrong_is_named() -> None:
    data = encode_turn(A_TURN)
    other = replace(A_TURN, id=A_TURN.id[:-1] + "9")
    for name, bad, why in (
        (A_TURN.id, data[:5], "only 5 bytes"),
        (A_TURN.id, b"JUNK" + data[4:], "not a turn"),
        (A_TURN.id, data[:4] + b"\x02" + data[5:], "format is version 2"),
        (A_TURN.id, data[:-9] + b"\x00" + data[-8:], "checksum"),
        (other.id, data, "checksum"),
    ):
        with pytest.raises(CorruptState, match=f"{name} is corrupt: .*{why}"):
            decode_turn(name, bad)


def test_a_turn_is_small() -> None:
    assert len(encode_turn(replace(A_TURN, tokens=tuple(range(1000))))) < 150 + 4 * 1000


def test_a_turn_must_fit_its_lineage_and_int32() -> None:
    with pytest.raises(OverflowError):
        encode_turn(replace(A_TURN, tokens=(2**31,)))
    with pytest.raises(ValueError, match="lineage"):
        encode_turn(replace(A_TURN, parent="turn_" + "b" * 20 + "_" + "0" * 12))
    with pytest.raises(ValueError, match="not an id"):
        encode_turn(replace(A_TURN, id="turn"))


REQUESTS = st.builds(
    TurnRequest,
    input_ids=st.lists(TOKEN, max_size=20).map(tuple),
    max_tokens=st.integers(0, 10**6),
    sampling=st.dictionaries(
        st.text(max_size=5), st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.none()
    ),
    stop=st.lists(st.text(), max_size=3).map(tuple),
    stop_token_ids=st.lists(TOKEN, max_size=3).map(tuple),
    ignore_eos=st.booleans(),
    raw=st.booleans(),
    store=st.booleans(),
    logprobs=st.none() | st.integers(0, 20),
    on_disconnect=st.sampled_from(["cancel", "continue"]),
    continue_final=st.booleans(),
)


@given(REQUESTS.filter(lambda r: all(not isinstance(v, float) or math.isfinite(v) for v in r.sampling.values())))
def test_a_request_comes_back_as_it_was(request_: TurnRequest) -> None:
    assert decode_request("gen", encode_request(request_)) == request_
    traced = replace(request_, trace="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    assert decode_request("gen", encode_request(traced)) == traced


def test_a_request_that_nobody_traces_is_as_the_version_before_wrote_it() -> None:
    """Its workers, side by side with ours during an upgrade, refuse a name that they do not know."""
    assert b"trace" not in encode_request(TurnRequest((1,), 2, {"seed": 3}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.integers(1, 10**9), st.dictionaries(st.text(), JSON, max_size=4))
def test_an_event_comes_back_as_it_was(sequence: int, data: dict[str, Any]) -> None:
    event = decode_event("gen", str(sequence).encode(), b"token", encode_data(data))
    assert (event.sequence, event.type, event.data) == (sequence, "token", data)


@pytest.mark.parametrize("bad", [(b"x", b"{}"), (b"1", b"["), (b"1", b"[]"), (b"1", b"\xff"), (b"1", b"null")])
def test_an_event_that_can_not_be_read_is_named(bad: tuple[bytes, bytes]) -> None:
    with pytest.raises(CorruptState, match="of generation gen_1 can't be read") as caught:
        decode_event("gen_1", bad[0], b"token", bad[1])
    assert caught.value.__suppress_context__


SESSION = {
    b"tenant": b"t", b"model": b"m", b"fingerprint": b"f", b"head": b"", b"length": b"0", b"end": b"raw",
    b"created": b"1.5", b"updated": b"2.5", b"running": b"", b"fence": b"0-", b"state_bytes": b"10",
    b"stored_bytes": b"0", b"turns": b"0", b"kept": b"0", b"stored": b"1",
}  # fmt: skip
GENERATION = {b"session": b"s", b"tenant": b"t", b"status": b"done", b"created": b"1.0", b"updated": b"2.0"}


@pytest.mark.parametrize("field", sorted(SESSION.keys() - {b"fence"}))
def test_a_session_without_a_field_is_corrupt(field: bytes) -> None:
    assert decode_session("sess", SESSION, 9.0).expires == 9.0
    with pytest.raises(CorruptState, match="session sess"):
        decode_session("sess", {k: v for k, v in SESSION.items() if k != field}, 9.0)


@pytest.mark.parametrize("field", [b"length", b"end", b"created", b"turns"])
def test_a_session_with_a_broken_field_is_corrupt(field: bytes) -> None:
    with pytest.raises(CorruptState, match="session sess"):
        decode_session("sess", {**SESSION, field: b"\xffx"}, 9.0)


@pytest.mark.parametrize("change", [{b"status": b"asleep"}, {b"request": b"{"}, {b"result": b"[]"}, {b"created": b"x"}])
def test_a_broken_generation_is_corrupt(change: dict[bytes, bytes]) -> None:
    assert decode_generation("gen", GENERATION).status is Status.DONE
    with pytest.raises(CorruptState, match="generation gen"):
        decode_generation("gen", {**GENERATION, **change})


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"finish_reason": "stop", "usage": {"n": 1}, "timing": {}, "position": 7, "other": 1},
        {"finish_reason": "length", "usage": {"n": 2}, "error": {"code": "x"}},
    ],
)
@pytest.mark.parametrize("turn", [None, "turn_x"])
def test_a_result_is_whole_whatever_its_last_event_says(said: dict[str, Any], turn: str | None) -> None:
    result = Result("stop", {"n": 1}, {}, 7, turn)
    stored = encode_result(result, said)
    assert decode_generation("gen", {**GENERATION, b"result": stored}, said).result == result
    if "position" in said:
        assert b"usage" not in stored
