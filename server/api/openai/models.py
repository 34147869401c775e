"""`GET /v1/models`: the served model under its name and its aliases; and which names a request may say.

A model that is a file or a directory is served under the last part of its path.
"""

import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from server.api.backend import Backend, View
from server.api.deps import BackendDep, TenantDep
from server.api.describe import described
from server.api.schemas.openai.answers import ModelAnswer, ModelList
from server.errors import NotFound, StoreUnavailable
from server.settings import Settings

router = APIRouter()
A_PATH = re.compile(r"^(/|\.|~|[A-Za-z]:\\)|\.gguf$")


class ModelNotFound(NotFound):
    """There is no model with this name here."""

    code = "model_not_found"


def served_name(model: str) -> str:
    """What a worker's model is called. model: as its setting has it: a path, a hub name, or a plain name."""
    if A_PATH.search(model):
        return re.split(r"[/\\]", model.rstrip("/\\"))[-1]
    return model


def names(settings: Settings, view: View | None) -> dict[str, str]:
    """Every name that is accepted, and the served model it stands for. view: None while the workers are unknown."""
    model = view.new_session("").model if view is not None and view.workers else settings.model
    served = served_name(model)
    out = {served: served}
    for entry in settings.model_aliases:
        alias, _, target = entry.partition("=")
        if not target or target in (served, model):
            out.setdefault(alias, served)
    return out


def check_model(asked: str, settings: Settings, view: View) -> str:
    """The served model's name. Raises ModelNotFound for a name that is neither its own nor an alias."""
    known = names(settings, view)
    if asked not in known:
        raise ModelNotFound(
            f"There is no model with this name here; this server has {', '.join(sorted(known))}.", param="model"
        )
    return known[asked]


@router.get("/v1/models", **described(done="Every name.", answer=ModelList))
async def list_models(tenant: TenantDep, backend: BackendDep) -> dict[str, Any]:
    """The served model, first under its own name, then under each alias."""
    del tenant
    return {"object": "list", "data": await _listed(backend)}


@router.get("/v1/models/{model_id:path}", **described(done="The name.", answer=ModelAnswer))
async def get_model(model_id: str, tenant: TenantDep, backend: BackendDep) -> Mapping[str, Any]:
    """One of them."""
    del tenant
    for model in await _listed(backend):
        if model["id"] == model_id:
            return model
    raise ModelNotFound(param="model")


async def _listed(backend: Backend) -> list[dict[str, Any]]:
    try:
        view: View | None = await backend.look()
    except StoreUnavailable:  # the model is known without it
        view = None
    started = int(max((float(w.info.get("started") or 0) for w in view.workers), default=0)) if view else 0
    return [
        {"id": name, "object": "model", "created": started, "owned_by": "perennial", "root": served}
        for name, served in names(backend.settings, view).items()
    ]
