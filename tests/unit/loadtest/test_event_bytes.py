"""Events come out of a stream the same, however its bytes are cut."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import pytest

from loadtest.sse import events

STREAM = (
    b": a comment\n\nid: 1-0\nevent: start\ndata: {}\n\n: ping\n\n"
    b'event: token\r\ndata: {"text": "\xe2\x80\xa8\xc2\x85"}\r\n\r\n'
    b"data: one\rdata:two\r\rdata: [DONE]\n\nevent: nothing\n\ndata: cut off\n"
)
WHOLE = [
    ("start", b"{}"),
    ("token", b'{"text": "\xe2\x80\xa8\xc2\x85"}'),
    ("", b"one\ntwo"),
    ("", b"[DONE]"),
]


async def read(chunks: Iterable[bytes]) -> list[tuple[str, bytes]]:
    async def given() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [(event.kind, event.data) async for event in events(given())]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_any_cut_gives_the_same_events(size: int) -> None:
    assert await read(STREAM[at : at + size] for at in range(0, len(STREAM), size)) == WHOLE


async def test_an_id_is_its_own_events_only() -> None:
    async def given() -> AsyncIterator[bytes]:
        yield STREAM

    assert [event.id async for event in events(given())] == ["1-0", "", "", ""]


async def test_times_are_those_of_the_chunk_that_ended_each_event() -> None:
    async def given() -> AsyncIterator[bytes]:
        for chunk in (b"data: a\n\ndata: b", b"\n\n"):
            yield chunk

    first, second = [event async for event in events(given())]
    assert first.at < second.at
