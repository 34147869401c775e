"""What a route asks for before it does anything: the backend, the caller's tenant, the request's facts."""

from typing import Annotated

from fastapi import Depends, Request

from server.api.backend import Backend
from server.api.middleware import Facts, facts_of


async def _backend(request: Request) -> Backend:
    backend = request.app.state.backend
    assert isinstance(backend, Backend)
    return backend


async def _facts(request: Request) -> Facts:
    return facts_of(request.scope)


BackendDep = Annotated[Backend, Depends(_backend)]
FactsDep = Annotated[Facts, Depends(_facts)]


async def _tenant(request: Request, backend: BackendDep, facts: FactsDep) -> str:
    """Raises Unauthorized, RateLimited, and StoreUnavailable where requests are counted."""
    tenant = backend.keys.tenant(request.headers.get("authorization"))
    facts.more["tenant"] = tenant
    await backend.limits.request(tenant)
    return tenant


TenantDep = Annotated[str, Depends(_tenant)]
