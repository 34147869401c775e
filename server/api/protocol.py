"""HTTP as uvicorn speaks it, with two things more: a bound on what is not a body, and errors in the usual shape.

The parser keeps a header, a request's target or a trailer until it is whole, however long it becomes, so a client could
fill the memory with one request that never begins. Invariant: of bytes that bring neither body nor the end of a
request, never more than `HEAD_BYTES` and one read of the socket are taken in a row.

It knows nothing of what is asked.
"""

import json
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.errors import InvalidRequest, PerennialError, TooLarge

HEAD_BYTES = 65_536


class Protocol(HttpToolsProtocol):
    """See the module. One for each connection."""

    _idle = 0  # bytes since the last of a body, or since the last request ended

    def data_received(self, data: bytes) -> None:
        """Bytes of the client's."""
        self._idle += len(data)
        super().data_received(data)
        if self._idle > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                TooLarge(f"The request's head is larger than the {HEAD_BYTES} bytes this server accepts."),
            )

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._idle = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._idle = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP request."""
        self._refuse(HTTPStatus.BAD_REQUEST, InvalidRequest(msg))

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
