"""For operators: is it alive, can it run a turn, which version, what does it measure. None of these needs a key."""

import platform
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, Response

from server.api import web
from server.api.deps import BackendDep
from server.api.describe import described
from server.api.schemas.ops import IndexAnswer, LiveAnswer, ReadyAnswer, VersionAnswer
from server.errors import StoreUnavailable

router = APIRouter()


@router.get("/health/live", **described(done="It does.", answer=LiveAnswer))
async def live() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/health/ready", **described(done="It can.", answer=ReadyAnswer))
async def ready(backend: BackendDep) -> dict[str, Any]:
    """200 only when a turn can really run: the store answers and a worker of this model lives. Else 503 with why."""
    view = await backend.serving()
    return {"status": "ready", "model": backend.settings.model, "workers": len(view.workers)}


@router.get("/version", **described(done="The versions.", answer=VersionAnswer))
async def show_version(backend: BackendDep) -> dict[str, Any]:
    """What runs here, and which model the live workers serve."""
    try:
        infos = [worker.info for worker in (await backend.look()).workers]
    except StoreUnavailable:
        infos = []
    return {
        "version": version("perennial"),
        "python": platform.python_version(),
        "model": backend.settings.model,
        "tokenizer": backend.tokenizer.fingerprint,
        "fingerprints": sorted({str(info.get("fingerprint")) for info in infos}),
    }


@router.get(
    "/metrics",
    **described(done="The figures.", other={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}),
)
async def metrics(backend: BackendDep) -> Response:
    """Prometheus' text format."""
    return Response(backend.metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get(
    "/",
    **described(
        done="The places; to a browser (`Accept: text/html`), the playground.",
        answer=IndexAnswer,
        other={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
    ),
)
async def index(request: Request, backend: BackendDep) -> Response:
    """Where to go from here: the playground for a browser, else the places as JSON."""
    if web.wanted(request):
        return web.page()
    places = {
        "name": "perennial",
        "version": version("perennial"),
        "model": backend.settings.model,
        "generate": "POST /v1/generate",
        "sessions": "/v1/sessions",
        "docs": "/docs",
        "openapi": "/openapi.json",
        "ready": "/health/ready",
        "metrics": "/metrics",
    }
    return JSONResponse(places, headers={"Vary": "Accept"})
