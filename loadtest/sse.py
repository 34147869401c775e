"""Events out of a stream's bytes, with the time at which the last byte of each came.

Lines are cut at LF, CR LF and CR only, as the format says; what `str.splitlines` takes for line ends besides may stand
in an event's JSON.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """kind, id: its fields `event` and `id`, "" where there are none. data: its data lines, joined by LF. at: by
    `time.perf_counter`."""

    kind: str
    data: bytes
    at: float
    id: str = ""


async def events(chunks: AsyncIterable[bytes]) -> AsyncGenerator[Event, None]:
    """Each event that has data; comments and whatever else a stream may hold are passed over."""
    kind, name_of, data, rest = "", "", list[bytes](), b""
    async for chunk in chunks:
        at = time.perf_counter()
        rest += chunk
        # A CR at the end may be half of a CR LF.
        tail = b"\r" if rest.endswith(b"\r") else b""
        *lines, rest = rest.removesuffix(tail).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest += tail
        for line in lines:
            if line:
                name, _, value = line.partition(b":")
                value = value.removeprefix(b" ")
                if name == b"event":
                    kind = value.decode(errors="replace")
                elif name == b"id":
                    name_of = value.decode(errors="replace")
                elif name == b"data":
                    data.append(value)
                continue
            if data:
                yield Event(kind, b"\n".join(data), at, name_of)
            kind, name_of, data = "", "", []
