"""HTTP as uvicorn speaks it, with three things more: bounds on what is not a body, in bytes and in time, and errors in
the usual shape.

The parser keeps a header, a request's target or a trailer until it is whole, however long it becomes and takes, so a
client could fill the memory with one request that never begins, or hold connections with as many. Invariants: of bytes
that bring neither body nor the end of a request, never more than `HEAD_BYTES` and one read of the socket are taken in a
row; a head is whole `head_s` after its connection was made, or after its first byte where another request came before,
or the connection ends. A client that waits for an answer meanwhile is never cut off.

It knows nothing of what is asked.
"""

import asyncio
import json
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.errors import InvalidRequest, PerennialError, TooLarge

HEAD_BYTES = 65_536


class Protocol(HttpToolsProtocol):
    """See the module. One for each connection. head_s: s; a subclass sets it (`bounded`)."""

    head_s = 30.0
    _idle = 0  # bytes since the last of a body, or since the last request ended
    _headless = True  # no request is under way whose head has come
    _begun = False  # of the head that is awaited, something has come
    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there, and is expected to ask for something."""
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn narrows what asyncio promises
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._unexpect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client's."""
        self._idle += len(data)
        super().data_received(data)
        if self._headless and self._limit is None:
            self._expect()
        if self._idle > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                TooLarge(f"The request's head is larger than the {HEAD_BYTES} bytes this server accepts."),
            )

    def on_message_begin(self) -> None:
        """The first byte of a head."""
        self._begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """A head is whole."""
        self._headless = self._begun = False
        self._unexpect()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._idle = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._idle = 0
        self._headless = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP request."""
        self._refuse(HTTPStatus.BAD_REQUEST, InvalidRequest(msg))

    def _expect(self) -> None:
        if not self.transport.is_closing():
            self._limit = self.loop.call_later(self.head_s, self._late)

    def _unexpect(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _late(self) -> None:
        self._limit = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect()  # part of its next head is here, but it is our answer that is awaited
        elif self._begun:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                InvalidRequest(f"The request's head did not arrive within {self.head_s:g} s."),
            )
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus, error: PerennialError) -> None:
        if self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete:
            self.transport.close()  # in the middle of an answer there is no place for another
            return
        body = json.dumps(error.body()).encode()
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nx-should-retry: false\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def bounded(head_s: float) -> type[Protocol]:
    """The protocol, with so much time for a head, s."""

    class Bounded(Protocol):
        """See Protocol."""

    Bounded.head_s = head_s
    return Bounded
