"""Reads a request's body, refusing what is too large before it has arrived.

Stricter than JSON readers usually are, because two readers must never disagree about what was asked: no NaN or
Infinity, no name twice in one object, no half of a surrogate pair (it has no UTF-8 form), UTF-8 only. Nor an object
of very many names, which would take long to refuse.
It does not know what the body is for.
"""

import asyncio
import json
from typing import Any, NoReturn

from starlette.requests import Request

from server.errors import InvalidRequest, TooLarge

MOST_NAMES = 4096  # in one object: far above any that is read, and an error about each of them is cheap
STALLED_S = 60.0  # how long a client that is sending a body may send nothing


class ClientGoneError(Exception):
    """The client closed the connection before there was anything to answer."""


async def read_json(request: Request, limit: int, *, optional: bool = False, stalled_s: float = STALLED_S) -> Any:
    """The parsed body. limit: bytes. optional: no body at all reads as `{}`. stalled_s: as in `read_body`.

    Raises TooLarge, InvalidRequest, or ClientGoneError when the client left while sending.
    """
    raw = await read_body(request, limit, stalled_s=stalled_s)
    if optional and not raw:
        return {}
    _check_content_type(request.headers.get("content-type", ""))
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise InvalidRequest("The body must be sent as it is, without Content-Encoding.")
    return parse_json(raw)


async def read_body(request: Request, limit: int, *, stalled_s: float | None = None) -> bytes:
    """The body's bytes. limit: of them. stalled_s: how long the client may send nothing, None: for ever.

    Raises TooLarge, InvalidRequest when the client stalled, ClientGoneError when it left while sending.
    """
    too_large = TooLarge(f"The body is larger than the {limit} bytes this server accepts.")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > limit:
        raise too_large
    body = bytearray()
    more = True
    while more:
        try:
            async with asyncio.timeout(stalled_s):
                message = await request.receive()
        except TimeoutError:
            raise InvalidRequest("The rest of the body did not arrive in time.") from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        body += message.get("body", b"")
        if len(body) > limit:
            raise too_large
        more = message.get("more_body", False)
    return bytes(body)


def _check_content_type(header: str) -> None:
    kind, _, parameters = header.partition(";")
    if kind.strip().lower() != "application/json":
        raise InvalidRequest("The body must be sent with Content-Type: application/json.")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if charset and charset not in ("utf-8", "utf8"):
        raise InvalidRequest("The body must be UTF-8.")


def printable(name: str) -> str:
    """A name that a client made up, cut and escaped so that it fits in a message."""
    return name[:64].encode("unicode_escape").decode("ascii")


def parse_json(raw: bytes) -> Any:
    """Strictly one JSON value. Raises InvalidRequest saying where it goes wrong, never what stands there."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InvalidRequest(f"The body is not valid UTF-8 (at byte {e.start}).") from None
    try:
        value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
        if "\\u" in text:  # only an escape can bring in a lone surrogate: UTF-8 itself has none
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as e:
        raise InvalidRequest(f"The body is not valid JSON: {e.msg} (line {e.lineno}, column {e.colno}).") from None
    except UnicodeEncodeError:
        raise InvalidRequest("The body has an escape that is half of a surrogate pair.") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except ValueError:  # the interpreter's limit on digits
        raise InvalidRequest("The body has a number with too many digits.") from None
    return value


def _no_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"The body is not valid JSON: {name} is not a JSON number.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_NAMES:
        raise InvalidRequest(f"The body has an object with more than {MOST_NAMES} names.")
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise InvalidRequest(f"The body has {printable(name)} twice in one object.", param=printable(name))
            seen.add(name)
    return out
