"""Around every request: its id, its one log line, its metrics, who may read the answer, and one when something broke.

    RequestMiddleware   the request's id, its log line, its metrics
      Origins           CORS, where origins are configured
        LastResort      an exception that nobody named

Invariants: every response carries X-Request-Id (and X-Session-Id, X-Generation-Id where there is one); an exception
that nobody named becomes a 500 in the usual shape and a traceback in the log, never in the answer. Handlers tell the
line what they know by writing to `Facts`.

Plain ASGI: it sees each chunk pass and holds none back.
"""

import asyncio
import math
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.body import ClientGoneError
from server.errors import InvalidRequest, PerennialError
from server.logs import get_logger
from server.metrics import ApiMetrics
from server.tracing import OFF, Span, Tracing

SANE_ID = re.compile(r"^[A-Za-z0-9._:-]{1,128}$")
# What a page may read of an answer, besides its body.
EXPOSED = (
    *("X-Request-Id", "X-Session-Id", "X-Generation-Id", "Idempotent-Replayed", "Retry-After", "x-should-retry"),
    *("Location", "Content-Disposition"),
)
QUIET = ("/health/live", "/health/ready", "/metrics")
log = get_logger()


@dataclass(slots=True)
class Facts:
    """What one request's log line will say. started: of `time.perf_counter`, in s. trace: the W3C traceparent for what
    is done for it elsewhere, None where it is not traced."""

    request_id: str
    started: float
    session: str | None = None
    generation: str | None = None
    trace: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def headers(self) -> dict[str, str]:
        """What identifies this request and what it is about."""
        out = {"X-Request-Id": self.request_id}
        if self.session is not None:
            out["X-Session-Id"] = self.session
        if self.generation is not None:
            out["X-Generation-Id"] = self.generation
        return out


def facts_of(scope: Scope) -> Facts:
    """The facts of the request that a scope belongs to."""
    facts = scope["perennial.facts"]
    assert isinstance(facts, Facts)
    return facts


class RequestMiddleware:
    """See the module."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics, tracing: Tracing) -> None:
        self.app = app
        self.metrics = metrics
        self.tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope)
        named = given.get("x-request-id", "")
        request_id = named if SANE_ID.match(named) else f"req_{secrets.token_hex(12)}"
        facts = scope["perennial.facts"] = Facts(request_id, time.perf_counter())
        tracing = OFF if scope["path"] in QUIET else self.tracing
        span = tracing.begin(scope["method"], "server", given.get("traceparent"), request=request_id)
        facts.trace = span.within
        status = 0

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in facts.headers().items():
                    headers[name] = value
            await send(message)

        try:
            await self.app(scope, receive, tagged)
        except ClientGoneError:
            facts.more["client"] = "left"
        except asyncio.CancelledError:
            # The stop's time is up. Nothing is above but the server, which closes the connection: no traceback needed.
            facts.more["cut"] = True
        finally:
            self._tell(scope, facts, status, span)

    def _tell(self, scope: Scope, facts: Facts, status: int, span: Span) -> None:
        seconds = time.perf_counter() - facts.started
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if route != "unmatched" else "any"
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.request_seconds.labels(route).observe(seconds)
        ids = {"session": facts.session, "generation": facts.generation}
        known: dict[str, Any] = {name: value for name, value in ids.items() if value is not None}
        span.end(name=f"{method} {route}", error=str(status) if status >= 500 else None, status=status, **known)
        write = log.debug if scope["path"] in QUIET else log.info
        write(
            "request",
            request=facts.request_id,
            method=scope["method"],
            route=route,
            status=status,
            seconds=round(seconds, 4),
            **known,
            **facts.more,
        )


class LastResort:
    """Below CORS, so that a page may read this answer too."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, noted)
        except ClientGoneError:
            raise
        except Exception:
            facts = facts_of(scope)
            log.exception("request_failed", request=facts.request_id, session=facts.session)
            if started:
                raise  # a broken stream must look broken: the server closes the connection
            await error_response(PerennialError())(scope, receive, send)


class Origins(CORSMiddleware):
    """CORS for bearer keys: a page sends its key itself, so cookies never count, and a preflight needs no key."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),  # the clients' own, such as X-Stainless-…, cannot all be named
            allow_credentials=False,
            expose_headers=EXPOSED,
            max_age=600,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """As any error of ours where it refuses."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        headers = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
        return error_response(InvalidRequest(f"{bytes(response.body).decode()}."), headers)


def error_response(
    error: PerennialError,
    headers: Mapping[str, str] | None = None,
    *,
    status: int | None = None,
    should_retry: bool | None = None,
) -> JSONResponse:
    """An error as its answer, with Retry-After and x-should-retry where they mean something.

    status, should_retry: where a worker's word stands for the class's; None takes the class's.
    """
    status = error.status if status is None else status
    should_retry = error.should_retry if should_retry is None else should_retry
    out = dict(headers or {})
    if error.retry_after is not None:
        out["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if should_retry is not None:
        out["x-should-retry"] = str(should_retry).lower()
    if status == 401:
        out["WWW-Authenticate"] = "Bearer"
    return JSONResponse(error.body(), status, out)
