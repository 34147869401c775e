"""Server-sent events over ASGI: frames, pings, and the client's departure.

One task sends the events, one pings a silent stream, one waits for the client to leave; none is made per event.
Written here because `sse-starlette` ends every stream as soon as the server begins to stop, and does so through state
shared by the whole process, while ours are to finish (`decisions.md`: a stop commits what runs).

Invariants: a frame goes out whole, so a ping never falls inside one. `on_leave` is called at most once, and only when
the client left (or stopped reading for `STALLED_S`) before the last event; being cancelled by a server that stops is
not the client leaving.

It does not know what the events mean.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PING = b": ping\n\n"
STALLED_S = 60.0


def frame(event: str, data: Any, id: str | None = None) -> bytes:  # noqa: A002  (the field's name in the format)
    """One event. data: anything JSON; it fits on one line, because JSON escapes line breaks."""
    head = b"" if id is None else b"id: " + id.encode() + b"\n"
    return (
        head + b"event: " + event.encode() + b"\ndata: " + orjson.dumps(data, option=orjson.OPT_NON_STR_KEYS) + b"\n\n"
    )


class EventStream(Response):
    """Sends `frames` as text/event-stream until they end, the client leaves, or the server is stopped by force."""

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        ping_s: float,
        on_leave: Callable[[], Awaitable[None]],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.frames = frames
        self.ping_s = ping_s
        self.on_leave = on_leave
        self.status_code = 200
        self.background = None
        # X-Accel-Buffering: nginx would hold frames back otherwise.
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises whatever `frames` raises; leaving is no error."""
        del scope
        loop = asyncio.get_running_loop()
        last_sent = loop.time()

        async def deliver(body: bytes, more: bool = True) -> None:
            nonlocal last_sent
            async with asyncio.timeout(STALLED_S):
                await send({"type": "http.response.body", "body": body, "more_body": more})
            last_sent = loop.time()

        async def pump() -> bool:
            async for chunk in self.frames:
                try:
                    await deliver(chunk)
                except TimeoutError:
                    return False
            return True

        async def ping() -> None:
            while True:
                silent = loop.time() - last_sent
                if silent >= self.ping_s:
                    await deliver(PING)
                else:
                    await asyncio.sleep(self.ping_s - silent)

        async def left() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending, pinging, leaving = (asyncio.create_task(job()) for job in (pump, ping, left))
        tasks: set[asyncio.Task[Any]] = {sending, pinging, leaving}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            complete = sending.done() and sending.result()
            if not complete:
                await self.on_leave()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.frames.aclose()
        if complete:
            await deliver(b"", more=False)
