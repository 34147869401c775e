"""The api process: its routes, its errors, and how it serves.

Invariants: every answer that is an error has OpenAI's shape, the router's own 404 and 405 too; a stop lets running
streams end (within `drain_s`) and cancels nothing. Nothing here or below imports torch, so it starts in about a second.

It does not know whether a supervisor started it.
"""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from model.tokenizer import Tokenizer
from server.api import docs, generate, generations, memory, ops, sessions, text, web
from server.api.answers import GenerationFailedError
from server.api.backend import Backend
from server.api.describe import DocumentedApp
from server.api.middleware import LastResort, Origins, RequestMiddleware, error_response
from server.api.openai import chat, completions, conversations, models, responses
from server.api.protocol import bounded
from server.errors import InvalidRequest, NotFound, PerennialError
from server.settings import Settings
from server.tracing import OFF, Tracing

AFTER_DRAIN_S = 3.0  # a worker's last commit must still reach the clients


class MethodNotAllowed(InvalidRequest):
    """This path does not answer this method."""

    status = 405
    code = "method_not_allowed"


def create_app(settings: Settings, tokenizer: Tokenizer, tracing: Tracing = OFF) -> FastAPI:
    """The application. Connects to the store when it starts, or as soon as the store is there; closes `tracing`."""
    backend = Backend(settings, tokenizer)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        backend.open()
        try:
            yield
        finally:
            await backend.close()
            await asyncio.to_thread(tracing.close)

    app = DocumentedApp(
        anonymous=not settings.access().tenants,
        model=models.served_name(settings.model),
        title="Perennial",
        version=version("perennial"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.backend = backend
    # The one that is added last is met first.
    app.add_middleware(LastResort)
    if settings.cors_origins:
        app.add_middleware(Origins, origins=settings.cors_origins)
    app.add_middleware(RequestMiddleware, metrics=backend.metrics, tracing=tracing)
    native, openai = (
        (generate, generations, sessions, memory, text),
        (chat, completions, responses, conversations, models),
    )
    for routes in (*native, *openai, ops, docs, web):
        app.include_router(routes.router)

    @app.exception_handler(PerennialError)
    async def known(_: Request, error: PerennialError) -> Response:
        backend.metrics.refused.labels(error.code).inc()
        return error_response(error)

    @app.exception_handler(GenerationFailedError)
    async def failed(_: Request, error: GenerationFailedError) -> Response:
        # Taken in and counted by how it ended, so not `refused`.
        return error_response(error, status=error.answer_status, should_retry=error.answer_should_retry)

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> Response:
        named: PerennialError = PerennialError(str(error.detail))
        headers = error.headers
        if error.status_code == 404:
            named = NotFound("There is no such path here.")
        elif error.status_code == 405:
            named = MethodNotAllowed(f"This path does not answer {request.method[:16]}.")
            headers = {"Allow": ", ".join(sorted(_allowed(app.routes, request.scope)))}
        elif error.status_code < 500:
            named = InvalidRequest(str(error.detail))
        backend.metrics.refused.labels(named.code).inc()
        return error_response(named, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        del error  # it repeats what the client sent
        return error_response(InvalidRequest("The request's path or headers are not valid."))

    return app


def _allowed(routes: Iterable[Any], scope: Scope) -> set[str]:
    """The methods that a path answers: each is a route of its own, of which the router names the first only. Where the
    path is a route's own word for word, one that takes it for an id does not count."""
    matching = list(_matching(routes, scope))
    literal = [route for route in matching if route.path == scope["path"]]
    return {method for route in literal or matching for method in route.methods}


def _matching(routes: Iterable[Any], scope: Scope) -> Iterator[Any]:
    for route in routes:
        if (included := getattr(route, "original_router", None)) is not None:
            yield from _matching(included.routes, scope)
        elif route.matches(scope)[0] is not Match.NONE:
            yield route


class Server(uvicorn.Server):
    """Stops on SIGTERM or SIGINT and returns, where uvicorn would kill itself afterwards; a second one hurries."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del sig, frame
        if self.should_exit:
            for task in self.server_state.tasks:
                task.cancel()  # cut off what still runs; the rest of the stop goes its way
        self.should_exit = True


async def serve(app: FastAPI, sock: socket.socket, settings: Settings) -> None:
    """Answer on a bound socket until SIGTERM or SIGINT, then finish what is streaming, within `drain_s`."""
    config = uvicorn.Config(
        app,
        http=bounded(settings.head_s),
        ws="none",  # whatever happens to be installed
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(settings.drain_s + AFTER_DRAIN_S),
        backlog=2048,
    )
    await Server(config).serve(sockets=[sock])
