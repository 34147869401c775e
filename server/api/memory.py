"""A session's memory: look at it, reset it, clean it, freeze it. Each change is a turn of the session's history, so a
rewind undoes it; a look and a dry run leave nothing.

All of it is a worker's to do, as a turn is, since only a worker has states. A look never waits: where the session is
busy, it is taken of its last committed turn, through a fork that ends with it.

It knows nothing of matrices.
"""

import contextlib
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from server.api.answers import Follower
from server.api.backend import Backend
from server.api.body import read_json
from server.api.departure import Departure, departing, unless_left
from server.api.deps import BackendDep, FactsDep, TenantDep
from server.api.describe import described
from server.api.middleware import Facts
from server.api.prompts import check_wait
from server.api.schemas.common import parse
from server.api.schemas.memory import (
    Change,
    ChangedAnswer,
    CleanMemory,
    FreezeMemory,
    InspectMemory,
    MemoryAnswer,
    ResetMemory,
)
from server.api.taking import Waiting
from server.errors import EmptySession, PerennialError, SessionBusy, TooManyGenerations, TurnMismatch
from server.store.records import Generation, Session, TurnRequest

router = APIRouter()


@router.get(
    "/v1/sessions/{session_id}/memory",
    **described(done="The memory.", answer=MemoryAnswer, query=InspectMemory),
)
async def inspect_memory(
    request: Request, session_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> dict[str, Any]:
    """What the session remembers beyond its window, matrix by matrix, as its last committed turn left it."""
    query = parse(InspectMemory, dict(request.query_params))
    layers = {} if query.layer is None else {"layers": [query.layer]}
    change = Change(if_turn=None, wait_s=0.0)
    told = await _Operating(request, tenant, backend, facts, session_id).run(
        {"kind": "inspect", **layers}, change, look=True
    )
    return {"object": "memory", **{name: told[name] for name in MemoryAnswer.model_fields if name in told}}


@router.post(
    "/v1/sessions/{session_id}/memory/reset",
    **described(
        done="It is done.",
        answer=ChangedAnswer,
        body=ResetMemory,
        examples={"The memory": {"scope": "memory"}, "Memory and window": {"scope": "all", "wait_s": 5}},
    ),
)
async def reset_memory(
    request: Request, session_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> dict[str, Any]:
    """Empty the memory, the window, or both; the text and its position stay."""
    body = parse(ResetMemory, await read_json(request, backend.settings.max_body_bytes))
    return await _change(request, tenant, backend, facts, session_id, "reset", body)


@router.post(
    "/v1/sessions/{session_id}/memory/svd-clean",
    **described(
        done="It is done, or (`dry_run`) would be.",
        answer=ChangedAnswer,
        body=CleanMemory,
        optional=True,
        examples={
            "What would it do": {"energy_threshold": 0.9, "dry_run": True},
            "Without the strongest component": {"energy_threshold": 1, "drop_top": 1},
        },
    ),
)
async def clean_memory(
    request: Request, session_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> dict[str, Any]:
    """Keep of each memory matrix the singular components that are asked for."""
    body = parse(CleanMemory, await read_json(request, backend.settings.max_body_bytes, optional=True))
    return await _change(request, tenant, backend, facts, session_id, "svd-clean", body, store=not body.dry_run)


_FREEZE: Any = {
    "answer": ChangedAnswer,
    "body": FreezeMemory,
    "optional": True,
    "examples": {"Now": {}, "Wait for a running turn": {"wait_s": 30}},
}


@router.post("/v1/sessions/{session_id}/memory/freeze", **described(done="It is frozen.", **_FREEZE))
async def freeze_memory(
    request: Request, session_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> dict[str, Any]:
    """From now on the memory is read but not written."""
    body = parse(FreezeMemory, await read_json(request, backend.settings.max_body_bytes, optional=True))
    return await _change(request, tenant, backend, facts, session_id, "freeze", body)


@router.post("/v1/sessions/{session_id}/memory/unfreeze", **described(done="It is written again.", **_FREEZE))
async def unfreeze_memory(
    request: Request, session_id: str, tenant: TenantDep, backend: BackendDep, facts: FactsDep
) -> dict[str, Any]:
    """From now on the memory is written again."""
    body = parse(FreezeMemory, await read_json(request, backend.settings.max_body_bytes, optional=True))
    return await _change(request, tenant, backend, facts, session_id, "unfreeze", body)


async def _change(
    request: Request,
    tenant: str,
    backend: Backend,
    facts: Facts,
    session_id: str,
    kind: str,
    body: Change,
    *,
    store: bool = True,
) -> dict[str, Any]:
    operating = _Operating(request, tenant, backend, facts, session_id)
    told = await operating.run(body.operation(kind), body, store=store)
    return {"object": "memory.operation", **{name: told[name] for name in ChangedAnswer.model_fields if name in told}}


class _Operating:
    """One operation on its way to a worker and back."""

    def __init__(self, request: Request, tenant: str, backend: Backend, facts: Facts, session_id: str) -> None:
        self._request = request
        self._tenant = tenant
        self._backend = backend
        self._facts = facts
        self._session_id = session_id

    async def run(
        self, operation: Mapping[str, Any], change: Change, *, store: bool = True, look: bool = False
    ) -> dict[str, Any]:
        """What the worker says of it. look: it changes nothing, and never waits."""
        async with departing(self._request) as departure:
            generation, turn = await self._take_in(operation, change, departure, store=store and not look, look=look)
            self._facts.generation = generation.id
            follower = Follower(self._backend, self._facts, generation.id, original=True)

            async def leave() -> None:  # it is short, and done all the same
                self._facts.more["client"] = "left"

            told = await unless_left(follower.whole(), departure, leave)
        return {**told, **told["report"], "session": self._session_id, "turn": turn if look else told["turn"]}

    async def _take_in(
        self, operation: Mapping[str, Any], change: Change, departure: Departure, *, store: bool, look: bool
    ) -> tuple[Generation, str]:
        """Accept it as a turn, waiting for a busy session as long as that may be. Returns it and the head before it."""
        check_wait(change.wait_s, self._backend.settings)
        waiting = Waiting(departure)
        view = await self._backend.serving()
        while True:
            session = await self._backend.store.sessions.get_session(self._tenant, self._session_id)
            self._facts.session = session.id
            view.check_served(session.fingerprint)
            if session.head is None:
                raise EmptySession
            try:
                return await self._accept(session, operation, change, store=store), session.head
            except (SessionBusy, TooManyGenerations) as busy:
                if look and isinstance(busy, SessionBusy):
                    return await self._aside(session, operation, change), session.head
                await waiting.pause(busy, change.wait_s)
            except TurnMismatch:  # it has moved on while it was looked at
                if change.if_turn is not None:
                    raise

    async def _accept(
        self, session: Session, operation: Mapping[str, Any], change: Change, *, store: bool
    ) -> Generation:
        assert session.head is not None
        history = await self._backend.store.history.digest(session.head) if store else None
        asked = TurnRequest(
            *((), 0, {"seed": 0}),
            store=store,
            on_disconnect="continue",
            history=history,
            operation=operation,
            trace=self._facts.trace,
        )
        async with self._backend.limits.admit(self._tenant) as place:
            generation = await self._backend.store.sessions.accept(session, asked, if_turn=change.if_turn)
            place.generation = generation.id
        self._backend.metrics.accepted.inc()
        return generation

    async def _aside(self, session: Session, operation: Mapping[str, Any], change: Change) -> Generation:
        """On a fork of its last committed turn, which ends with it."""
        fork = await self._backend.store.branches.fork(session, stored=False)
        try:
            return await self._accept(fork, operation, change, store=False)
        except BaseException:
            with contextlib.suppress(PerennialError):
                await self._backend.store.branches.delete(self._tenant, fork.id)
            raise
