"""The OpenAPI document and its page: every field described, examples that run, answers that are as described."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx

from server.api.describe import SESSION, TURN
from server.api.schemas.answers import (
    Deleted,
    GeneratedAnswer,
    GenerationAnswer,
    SessionAnswer,
    SessionList,
    Text,
    Tokens,
    TurnList,
)
from support.serving import ScriptedWorker

NATIVE = re.compile(r"^/v1/(generate|generations|sessions|tokenize|detokenize)(/|$)")
ANSWERS = {
    answer.__name__: answer
    for answer in (Deleted, GeneratedAnswer, GenerationAnswer, SessionAnswer, SessionList, Text, Tokens, TurnList)
}
METHODS = {"get", "post", "delete"}


async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await client.get("/openapi.json")).json())


def operations(found: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in found["paths"].items():
        assert set(methods) <= METHODS
        for method, operation in methods.items():
            yield method, path, operation


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


def undescribed(schema: Any, components: dict[str, Any], seen: tuple[str, ...] = ()) -> Iterator[str]:
    """Properties without a description, wherever a schema leads."""
    for node in nodes(schema):
        reference = node.get("$ref")
        if isinstance(reference, str) and reference not in seen:
            name = reference.rpartition("/")[2]
            yield from (f"{name}: {one}" for one in undescribed(components[name], components, (*seen, reference)))
        properties = node.get("properties")
        for name, field in properties.items() if isinstance(properties, dict) else ():
            if isinstance(field, dict) and not field.get("description"):
                yield name


async def test_all_of_it_is_described_and_every_reference_resolves(client: httpx.AsyncClient):
    found = await document(client)
    components = found["components"]["schemas"]
    references = {node["$ref"] for node in nodes(found) if isinstance(node.get("$ref"), str)}
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(components)
    native = 0
    for method, path, operation in operations(found):
        where = f"{method} {path}"
        assert operation.get("description"), where
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), f"{where}: {parameter['name']}"
        assert "422" not in operation["responses"], where
        assert operation["tags"], where
        if NATIVE.match(path):
            native += 1
            lacking = [
                *undescribed(operation.get("requestBody"), components),
                *undescribed(operation["responses"], components),
            ]
            assert not lacking, f"{where}: {lacking}"
    assert native >= 14


async def test_the_examples_run_and_the_answers_are_as_described(client: httpx.AsyncClient, worker: ScriptedWorker):
    found = await document(client)
    ran = 0

    async def ask(path: str, body: dict[str, Any]) -> httpx.Response:
        asking = asyncio.create_task(client.post(path, json=body))
        if path == "/v1/generate":
            turn = await worker.take()
            await turn.start()
            await turn.say("yes")
            await turn.finish()
        return await asking

    def check(operation: dict[str, Any], response: httpx.Response) -> None:
        said = operation["responses"][str(response.status_code)]["content"]["application/json"]["schema"]
        ANSWERS[said["$ref"].rpartition("/")[2]].model_validate_json(response.content)

    for _, path, operation in operations(found):
        if "requestBody" not in operation or not NATIVE.match(path):
            continue
        examples = operation["requestBody"]["content"].get("application/json", {}).get("examples", {})
        assert examples or path.endswith("/import"), path
        for example in examples.values():
            # A session of two turns for each.
            first = (await ask("/v1/generate", {"prompt": "x", "stream": False})).json()
            await ask("/v1/generate", {"prompt": "y", "stream": False, "session_id": first["session"]})
            text = json.dumps(example["value"]).replace(SESSION, first["session"]).replace(TURN, first["turn"])
            answer = await ask(path.replace("{session_id}", first["session"]), json.loads(text))
            assert answer.is_success, f"{path}: {example['summary']}: {answer.text}"
            if answer.headers["content-type"].startswith("application/json"):
                check(operation, answer)
            else:
                assert "event: done" in answer.text
            ran += 1
    assert ran >= 12
    values = {
        "{session_id}": first["session"],
        "{generation_id}": first["generation"],
    }
    for method, path, operation in operations(found):
        if method == "get" and NATIVE.match(path) and not path.endswith(("/events", "/export")):
            known = path
            for name, value in values.items():
                known = known.replace(name, value)
            check(operation, await client.get(known))
    deleted = await client.delete(f"/v1/sessions/{first['session']}")
    check(found["paths"]["/v1/sessions/{session_id}"]["delete"], deleted)


async def test_the_page_comes_with_all_it_needs(client: httpx.AsyncClient):
    page = await client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assets = re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text)
    assert len(assets) == 3
    for asset in assets:
        file = await client.get(f"/{asset}")
        assert (file.status_code, len(file.content) > 100) == (200, True)
        assert file.headers["content-type"].split(";")[0] in ("text/javascript", "text/css")
    assert "://" not in page.text
    for wrong in ("favicon.png", "..%2Fdocs.py", "main.py"):
        refused = await client.get(f"/docs/{wrong}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
