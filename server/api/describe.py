"""The OpenAPI document: what routes say of themselves, gathered so that a reader, a client's generator and the tests
find every parameter, body and answer described.

A route says `@router.post(path, **described(...))`; its bodies and queries are parsed by `schemas.common.parse`, so
FastAPI does not see them by itself. Invariants: every reference in the document resolves within it; a `Body`'s examples
are requests that run as they stand (a test sends each), but for the ids below, and name the model that is served.

It knows nothing of what the routes do.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

SESSION = "sess_0123456789abcdefghij_0"
TURN = "turn_0123456789abcdefghij_0123456789ab"
RESPONSE = "resp_0123456789abcdefghij_0123456789ab"
CONVERSATION = "conv_0123456789abcdefghij_0"
MODEL = "smollm2-135m"  # stands for the served model's name
JSON = "application/json"
INTRODUCTION = """
An inference server for conversations that never end: every session is a state of fixed size.

Send `Authorization: Bearer <key>` where keys are configured. A session, a generation or a response belongs to its key's
tenant; anybody else's id is answered like an unknown one. Every answer has `X-Request-Id`, and `X-Session-Id` and
`X-Generation-Id` where there is one. An unknown parameter is refused by its name, never ignored; a null is an absent
field. `Retry-After` says when to come back; `x-should-retry: false` that it is of no use.
"""
PARTS = {
    "session_id": "A session of the caller's, as `POST /v1/generate` or `POST /v1/sessions` named it.",
    "generation_id": "A generation of the caller's: one run of a turn, as the `start` event names it.",
    "model_id": "The served model's name, or an alias of it.",
    "response_id": "A stored response of the caller's.",
    "conversation_id": "A conversation of the caller's.",
    "item_id": "An item of the conversation.",
    "name": "The file's name.",
}
TAGS = (
    ("/v1/generat", "Generate"),
    ("/v1/sessions", "Sessions"),
    ("/v1/tokenize", "Text"),
    ("/v1/detokenize", "Text"),
    ("/v1/", "OpenAI"),
    ("/", "Operations"),
)


IDEMPOTENCY: dict[str, dict[str, Any]] = {
    "Idempotency-Key": {
        "description": "A name for this request: sent again with it, the request is answered by the same turn.",
        "schema": {"type": "string", "pattern": "^[ -~]{1,255}$"},
    }
}


def streamed(*events: str) -> dict[int | str, dict[str, Any]]:
    """Server-sent events as another answer of `described`. events: their names; none: chunks and a last `[DONE]`."""
    event: dict[str, Any] = {
        "type": "object",
        "properties": {"data": {"type": "string", "description": "A chunk as JSON, or at the end `[DONE]`."}},
        "required": ["data"],
    }
    if events:
        event["properties"] = {
            "event": {"enum": list(events), "description": "What kind of event it is."},
            "data": {"type": "string", "contentMediaType": JSON, "description": "What it says, as JSON."},
            "id": {"type": "string", "description": "From here one can go on, where events have ids."},
        }
        event["required"] = ["event", "data"]
    return {200: {"content": {"text/event-stream": {"itemSchema": event}}}}


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(description="What went wrong, and what to do about it. Never repeats what was sent.")
    type: str = Field(description="The kind of error, by the names that OpenAI's clients know.")
    param: str | None = Field(description="The request's field at fault, as `messages[0].role`.")
    code: str = Field(description="The error's own name, for programs.")


class ErrorAnswer(BaseModel):
    """Every answer that is an error."""

    error: ErrorDetail = Field(description="The one thing to mend.")


def described(
    *,
    done: str,
    answer: type[BaseModel] | None = None,
    status: int = 200,
    body: type[BaseModel] | None = None,
    optional: bool = False,
    query: type[BaseModel] | None = None,
    headers: Mapping[str, Mapping[str, Any]] | None = None,
    examples: Mapping[str, Mapping[str, Any]] | None = None,
    other: Mapping[int | str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """What a route's decorator is given.

    done: what success means. answer: its JSON. body, query: what `parse` reads; optional: no body at all will do.
    headers: by name: a description and a schema. examples: summary → body. other: more answers, by status.
    """
    extra: dict[str, Any] = {}
    if body is not None:
        content: dict[str, Any] = {"schema": _with_nulls(body.model_json_schema())}
        if examples:
            content["examples"] = {
                f"example-{number}": {"summary": summary, "value": value}
                for number, (summary, value) in enumerate(examples.items(), 1)
            }
        extra["requestBody"] = {"required": not optional, "content": {JSON: content}}
    parameters = [{"name": name, "in": "header", **says} for name, says in (headers or {}).items()]
    if query is not None:
        parameters += [_parameter(name, schema) for name, schema in query.model_json_schema()["properties"].items()]
    if parameters:
        extra["parameters"] = parameters
    said: dict[int | str, dict[str, Any]] = {status: {"description": done}}
    if answer is not None:
        said[status]["model"] = answer
    for more, what in (other or {}).items():
        said[more] = said.get(more, {}) | what
    return {"status_code": status, "response_model": None, "responses": said, "openapi_extra": extra}


def _with_nulls(schema: dict[str, Any]) -> dict[str, Any]:
    """A body's schema as `parse` reads it: whatever may be left out may be null instead."""
    for name, field in schema["properties"].items():
        kinds = field.get("anyOf", [field])
        if name in schema.get("required", ()) or any(None in one.get("enum", ()) for one in kinds):
            continue
        if isinstance(field.get("type"), str) and "const" not in field and "enum" not in field:
            field["type"] = [field["type"], "null"]
        elif {"type": "null"} not in kinds:
            said = {key: field.pop(key) for key in ("title", "description", "default") if key in field}
            schema["properties"][name] = {"anyOf": [*field.get("anyOf", [field]), {"type": "null"}]} | said
    return schema


def _parameter(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in schema.items() if key != "description"}
    if {"type": "null"} in rest.get("anyOf", ()):  # an address has no null
        rest |= next(one for one in rest.pop("anyOf") if one != {"type": "null"})
        rest.pop("default", None)
    return {"name": name, "in": "query", "description": schema.get("description", ""), "schema": rest}


class DocumentedApp(FastAPI):
    """FastAPI, with a document of ours. anonymous: nobody needs a key. model: what is served, by name."""

    def __init__(self, *, anonymous: bool, model: str, **more: Any) -> None:
        super().__init__(**more)
        self.anonymous = anonymous
        self.model = model

    def openapi(self) -> dict[str, Any]:
        """The document; made once."""
        if self.openapi_schema is None:
            self.openapi_schema = self._document()
        return self.openapi_schema

    def _document(self) -> dict[str, Any]:
        document = get_openapi(
            title=self.title, version=self.version, description=INTRODUCTION.strip(), routes=self.routes
        )
        components: dict[str, Any] = document.setdefault("components", {})
        schemas: dict[str, Any] = components.setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which nothing here answers
            schemas.pop(name, None)
        schemas["ErrorAnswer"] = ErrorAnswer.model_json_schema()
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                self._complete(path, operation)
        _hoist(document, schemas)
        _rename(document, self.model)
        return document

    def _complete(self, path: str, operation: dict[str, Any]) -> None:
        operation.setdefault("tags", [next(tag for start, tag in TAGS if path.startswith(start))])
        for parameter in operation.get("parameters", ()):
            if not parameter.get("description") and parameter["name"] in PARTS:
                parameter["description"] = PARTS[parameter["name"]]
        responses = operation["responses"]
        responses.pop("422", None)
        for response in responses.values():
            content = response.get("content", {})
            if len(content) > 1 and content.get(JSON) == {"schema": {}}:  # FastAPI's guess
                del content[JSON]
        problem = {"content": {JSON: {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}}
        responses.setdefault("default", {"description": "Refused, or failed: says why."} | problem)
        if path.startswith("/v1/") and not self.anonymous:
            operation["security"] = [{"key": []}]


def _hoist(node: Any, schemas: dict[str, Any]) -> None:
    """Move what a schema defines for itself to where the whole document finds it, and let its references follow."""
    if isinstance(node, list):
        for item in node:
            _hoist(item, schemas)
    if not isinstance(node, dict):
        return
    for name, schema in node.pop("$defs", {}).items():
        known = schemas.setdefault(name, schema)
        # Two schemas of one name: the second would be taken for the first.
        assert known is schema or _plain(known) == _plain(schema), f"two schemas are called {name}"
        _hoist(known, schemas)
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        node["$ref"] = "#/components/schemas/" + reference.removeprefix("#/$defs/")
    for value in list(node.values()):
        _hoist(value, schemas)


def _rename(node: Any, model: str) -> None:
    """Let the examples name the model that is served."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        if value == MODEL:
            node[key] = model
        _rename(value, model)


def _plain(node: Any) -> Any:
    """A schema, wherever its references point from."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if isinstance(node, dict):
        return {key: value.rpartition("/")[2] if key == "$ref" else _plain(value) for key, value in node.items()}
    return node
