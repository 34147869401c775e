"""Every route of an application, and what its document says may be sent there: for tests that must forget none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI


@dataclass(frozen=True)
class Door:
    """One method of one path. document: its operation in the OpenAPI document; None for one that is not shown."""

    method: str
    path: str
    document: dict[str, Any] | None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def body(self, components: dict[str, Any]) -> dict[str, Any]:
        """The fields of its JSON body, by name."""
        content = ((self.document or {}).get("requestBody") or {}).get("content") or {}
        schema = (content.get("application/json") or {}).get("schema") or {}
        while "$ref" in schema:
            schema = components[schema["$ref"].rpartition("/")[2]]
        return dict(schema.get("properties") or {})

    def query(self) -> list[dict[str, Any]]:
        """Its query's parameters."""
        return [one for one in (self.document or {}).get("parameters") or () if one["in"] == "query"]


def doors(app: FastAPI) -> list[Door]:
    """Every method of every route, those of included routers too."""
    paths = app.openapi()["paths"]

    def walk(routes: list[Any]) -> Iterator[Door]:
        for route in routes:
            if (router := getattr(route, "original_router", None)) is not None:
                yield from walk(router.routes)
                continue
            shown = route.path.replace(":path}", "}")
            for method in sorted(route.methods - {"HEAD"}):
                yield Door(method, shown, (paths.get(shown) or {}).get(method.lower()))

    found = list(walk(app.routes))
    assert len({str(door) for door in found}) == len(found) > 20
    return found
