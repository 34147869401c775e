"""The OpenAPI document and its page: every field described, examples that run, answers that are as described."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx

from server.api.describe import CONVERSATION, RESPONSE, SESSION, TURN, ErrorAnswer
from server.api.schemas import answers, memory, ops
from server.api.schemas.openai import answers as openai_answers
from server.api.schemas.openai import conversations, responses
from support.serving import ScriptedWorker

ANSWERS = {
    name: answer
    for module in (answers, memory, ops, openai_answers, conversations, responses)
    for name, answer in vars(module).items()
    if isinstance(answer, type) and issubclass(answer, answers.Answer)
}
METHODS = {"get", "post", "delete"}
AN_ID = f"{{.*_id}}|{SESSION}|{TURN}|{RESPONSE}|{CONVERSATION}"
NO_JSON = ("/events", "/export", "/metrics")


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
    bodies = 0
    for method, path, operation in operations(found):
        where = f"{method} {path}"
        assert operation.get("description"), where
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), f"{where}: {parameter['name']}"
        assert "422" not in operation["responses"], where
        assert operation["tags"], where
        lacking = [
            *undescribed(operation.get("requestBody"), components),
            *undescribed(operation["responses"], components),
        ]
        assert not lacking, f"{where}: {lacking}"
        success = next(said for status, said in operation["responses"].items() if status.startswith("2"))
        assert success["description"], where
        for content in success["content"].values():
            assert content.get("schema") or content["itemSchema"], where
        for content in operation.get("requestBody", {}).get("content", {}).values():
            bodies += 1
            assert content["schema"].get("properties") or content["schema"].get("$ref") or "/sessions" in path, where
        takes_turns = "/v1/generate", "/v1/chat/completions", "/v1/completions", "/v1/responses"
        named = {parameter["name"] for parameter in operation.get("parameters", ())}
        assert ("Idempotency-Key" in named) == (method == "post" and path in takes_turns), where
    assert bodies >= 12


@asynccontextmanager
async def answering(worker: ScriptedWorker) -> AsyncIterator[None]:
    """Every turn that comes is answered."""

    async def answer() -> None:
        while True:
            turn = await worker.take()
            await turn.start()
            if turn.begun.request.operation is not None:
                await turn.operate()
                continue
            await turn.say("yes")
            await turn.finish()

    task = asyncio.create_task(answer())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def check(operation: dict[str, Any], response: httpx.Response) -> None:
    """An answer against what the document says of it, and against the class that it was made from."""
    assert response.is_success, response.text
    said = operation["responses"][str(response.status_code)]["content"]["application/json"]["schema"]
    ANSWERS[said["$ref"].rpartition("/")[2]].model_validate_json(response.content)


async def ids(client: httpx.AsyncClient) -> dict[str, str]:
    """A session of two turns, a response and a conversation, by the names they have in examples and in paths."""
    first = (await client.post("/v1/generate", json={"prompt": "x", "stream": False})).json()
    more = {"session_id": first["session"], "stream": False}
    second = (await client.post("/v1/generate", json={"prompt": "y"} | more)).json()
    asked = await client.post("/v1/responses", json={"model": "tiny", "input": "x"})
    assert asked.status_code == 200, asked.text
    response, conversation = asked.json(), (await client.post("/v1/conversations")).json()
    return {
        SESSION: first["session"],
        TURN: first["turn"],
        RESPONSE: response["id"],
        CONVERSATION: conversation["id"],
        "{session_id}": first["session"],
        "{generation_id}": second["generation"],
        "{response_id}": response["id"],
        "{conversation_id}": conversation["id"],
        "{model_id}": "tiny",
    }


def replaced(text: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        text = text.replace(name, value)
    return text


async def test_the_examples_run_and_the_answers_are_as_described(client: httpx.AsyncClient, worker: ScriptedWorker):
    found = await document(client)
    ran = streamed = 0
    async with answering(worker):
        for _, path, operation in operations(found):
            if "requestBody" not in operation:
                continue
            examples = operation["requestBody"]["content"].get("application/json", {}).get("examples", {})
            assert examples or path.endswith("/import"), path
            for example in examples.values():
                text = json.dumps(example["value"])
                # Its own, since it may be changed; where it is named at all.
                known = await ids(client) if re.search(AN_ID, path + text) else {}
                body = json.loads(replaced(text, known))
                answer = await client.post(replaced(path, known), json=body)
                assert answer.is_success, f"{path}: {example['summary']}: {answer.text}"
                if answer.headers["content-type"].startswith("application/json"):
                    check(operation, answer)
                else:
                    streamed += 1
                    kind = answer.headers["content-type"].partition(";")[0]
                    assert kind in operation["responses"][str(answer.status_code)]["content"]
                    assert any(last in answer.text for last in ("event: done", "[DONE]", "event: response.completed"))
                ran += 1
    assert (ran >= 25, streamed >= 4) == (True, True)


async def test_what_is_looked_at_and_deleted_is_as_described(client: httpx.AsyncClient, worker: ScriptedWorker):
    found = await document(client)
    looked = 0
    async with answering(worker):
        known = await ids(client)
        memory_path = "/v1/sessions/{session_id}/memory"  # only a worker can tell
        check(found["paths"][memory_path]["get"], await client.get(replaced(memory_path, known)))
        background = {"model": "tiny", "input": "x", "background": True}
        cancelled = (await client.post("/v1/responses", json=background)).json()["id"]
    for method, path, operation in operations(found):
        if method == "get" and not path.endswith(NO_JSON) and path != memory_path:
            check(operation, await client.get(replaced(path, known)))
            looked += 1
    path = "/v1/responses/{response_id}/cancel"
    check(found["paths"][path]["post"], await client.post(replaced(path, {"{response_id}": cancelled})))
    for path in ("responses/{response_id}", "conversations/{conversation_id}", "sessions/{session_id}"):
        operation = found["paths"][f"/v1/{path}"]["delete"]
        check(operation, await client.delete(f"/v1/{replaced(path, known)}"))
        ErrorAnswer.model_validate_json((await client.delete(f"/v1/{replaced(path, known)}")).content)
    assert looked >= 12


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
