"""Every way a request can be wrong gets a clear 4xx in OpenAI's shape; the server and the session go on unharmed."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import httpx
import pytest

from support.serving import ScriptedWorker

MARK = "zabaglione"  # stands in prompts; it must never come back in an error
MESSAGES = [{"role": "user", "content": MARK}]


def check(response: httpx.Response, status: int, param: str | None = None, code: str | None = None) -> str:
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert code is None or error["code"] == code
    assert MARK not in response.text
    assert "Traceback" not in response.text
    assert response.headers["x-request-id"]
    message: str = error["message"]
    return message


BAD_FIELDS: list[tuple[dict[str, Any], str | None]] = [
    ({"temperature": -0.1}, "temperature"),
    ({"temperature": "0.5"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"temperature": 1e308}, "temperature"),
    ({"top_p": 1.5}, "top_p"),
    ({"top_k": -1}, "top_k"),
    ({"top_k": 1.5}, "top_k"),
    ({"min_p": -0.1}, "min_p"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"repetition_penalty": 0.005}, "repetition_penalty"),
    ({"repetition_penalty": 101}, "repetition_penalty"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 10**30}, "max_tokens"),
    ({"max_tokens": 4097}, "max_tokens"),
    ({"max_tokens": "5"}, "max_tokens"),
    ({"max_tokens": 5.0}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"seed": "x"}, "seed"),
    ({"seed": 2**64}, "seed"),
    ({"stop": ""}, "stop[0]"),
    ({"stop": ["a"] * 17}, "stop"),
    ({"stop": [1]}, "stop[0]"),
    ({"stop_token_ids": 5}, "stop_token_ids"),
    ({"stop_token_ids": [5] * 17}, "stop_token_ids"),
    ({"stop_token_ids": [5, -1]}, "stop_token_ids[1]"),
    ({"stop_token_ids": [5, True]}, "stop_token_ids[1]"),
    ({"stop_token_ids": [5, 258]}, "stop_token_ids[1]"),
    ({"logprobs": 21}, "logprobs"),
    ({"logprobs": True}, "logprobs"),
    ({"logit_bias": {"x": 1}}, "logit_bias.x"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1"),
    ({"logit_bias": {"257": 1, "258": 1}}, "logit_bias"),
    ({"logit_bias": {"999999": 1}}, "logit_bias"),
    ({"logit_bias": [1]}, "logit_bias"),
    ({"stream": "yes"}, "stream"),
    ({"store": 1}, "store"),
    ({"wait_s": -1}, "wait_s"),
    ({"wait_s": 3600}, "wait_s"),
    ({"on_disconnect": "ignore"}, "on_disconnect"),
    ({"session_id": 5}, "session_id"),
    ({"session_id": ""}, "session_id"),
    ({"if_turn": "turn_x"}, None),
    ({"temprature": 0.5}, "temprature"),
    ({"tools": []}, "tools"),
]


@pytest.mark.parametrize(("fields", "param"), BAD_FIELDS, ids=lambda value: json.dumps(value)[:40])
async def test_a_wrong_field_is_named(
    client: httpx.AsyncClient, worker: ScriptedWorker, fields: dict[str, Any], param: str | None
):
    check(await client.post("/v1/generate", json={"messages": MESSAGES} | fields), 400, param)


async def test_an_unknown_parameter_is_told_its_nearest(client: httpx.AsyncClient):
    response = await client.post("/v1/generate", json={"prompt": MARK, "max_token": 5})
    assert "max_tokens" in check(response, 400, "max_token", "unknown_parameter")


BAD_INPUTS: list[tuple[Any, str | None]] = [
    ({}, None),
    ({"prompt": ""}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": [MARK]}, "prompt"),
    ({"messages": []}, "messages"),
    ({"messages": MARK}, "messages"),
    ({"messages": [MARK]}, "messages[0]"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages[0].content"),
    ({"messages": [{"role": "wizard", "content": MARK}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": MARK, "mood": 1}]}, "messages[0].mood"),
    ({"input_ids": []}, "input_ids"),
    ({"input_ids": [1, -1]}, "input_ids[1]"),
    ({"input_ids": [1, 258]}, "input_ids[1]"),
    ({"input_ids": [1, 2**31]}, "input_ids[1]"),
    ({"input_ids": [1.5]}, "input_ids[0]"),
    ({"input_ids": [True]}, "input_ids[0]"),
    ({"prompt": MARK, "messages": MESSAGES}, None),
    ({"prompt": MARK, "input_ids": [1]}, None),
    ([MARK], None),
    (MARK, None),
    (None, None),
]


@pytest.mark.parametrize(("body", "param"), BAD_INPUTS, ids=lambda value: json.dumps(value)[:40])
async def test_wrong_input_is_named(client: httpx.AsyncClient, worker: ScriptedWorker, body: Any, param: str | None):
    check(await client.post("/v1/generate", json=body), 400, param)


RAW: list[tuple[bytes, str]] = [
    (b"", "JSON"),
    (b"{", "JSON"),
    (b'{"prompt": "zabaglione"', "JSON"),
    (b"{'prompt': 'zabaglione'}", "JSON"),
    (b'{"prompt": "zabaglione", "temperature": NaN}', "NaN"),
    (b'{"prompt": "zabaglione", "temperature": -Infinity}', "Infinity"),
    (b'{"prompt": "zabaglione", "temperature": 1e999}', "temperature"),
    (b'{"prompt": "\xff"}', "UTF-8"),
    (b'{"prompt": "\\ud800 zabaglione"}', "surrogate"),
    (b'{"\\udfff": "zabaglione"}', "surrogate"),
    (b'{"prompt": "zabaglione", "prompt": "b"}', "twice"),
    (b'{"prompt": "zabaglione", "seed": ' + b"9" * 5000 + b"}", "digits"),
    (b"[" * 100_000, "nested"),
    (b'{"messages":' + b'[{"content":' * 15_000, "nested"),
]


@pytest.mark.parametrize(("raw", "says"), RAW, ids=[says + str(i) for i, (_, says) in enumerate(RAW)])
async def test_a_body_that_is_no_json_is_refused(client: httpx.AsyncClient, raw: bytes, says: str):
    response = await client.post("/v1/generate", content=raw, headers={"content-type": "application/json"})
    param = response.json()["error"]["param"]
    assert says in check(response, 400, param)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1", ""]
)
async def test_another_content_type_is_refused(client: httpx.AsyncClient, kind: str):
    check(await client.post("/v1/generate", content=b'{"prompt":"x"}', headers={"content-type": kind}), 400)


async def test_a_body_over_the_limit_is_refused(client: httpx.AsyncClient):
    body = json.dumps({"prompt": MARK * 20_000}).encode()
    check(await client.post("/v1/generate", content=body, headers={"content-type": "application/json"}), 413)


async def test_a_huge_declared_body_is_refused_before_it_is_sent(serving):
    host, port = serving.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 52428800\r\n\r\n"
    )
    async with asyncio.timeout(5):
        assert b" 413 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_an_endless_chunked_body_is_refused_when_it_passes_the_limit(client: httpx.AsyncClient):
    sent = 0

    async def chunks():
        nonlocal sent
        for _ in range(800):
            sent += 65536
            yield b" " * 65536

    response = await client.post("/v1/generate", content=chunks(), headers={"content-type": "application/json"})
    check(response, 413)


async def test_a_prompt_of_too_many_tokens_is_refused_with_its_count(client: httpx.AsyncClient, worker: ScriptedWorker):
    response = await client.post("/v1/generate", json={"prompt": "x" * 20_001})
    assert "20001" in check(response, 413, "prompt")


@pytest.mark.parametrize(("path", "param"), [("generate", "input_ids"), ("detokenize", "tokens")])
async def test_too_many_ids_are_refused_before_any_of_them_is_looked_at(
    client: httpx.AsyncClient, worker: ScriptedWorker, path: str, param: str
):
    most = {param: [5] * 20_000 + [-1]}  # the last is no token, which is what would be named if it were looked at
    assert "20001" in check(await client.post(f"/v1/{path}", json=most), 413, param)
    most[param][-2:] = [-1]
    check(await client.post(f"/v1/{path}", json=most), 400, f"{param}[19999]")


async def test_an_id_outside_the_vocabulary_is_named_by_its_first_place(client: httpx.AsyncClient):
    response = await client.post("/v1/detokenize", json={"tokens": [5, 258, 5, 258, 300]})
    assert "257" in check(response, 400, "tokens[1]")


@pytest.mark.parametrize(
    "session_id", ["sess_nothing", "sess_" + "a" * 20 + "_0", "../../etc/passwd", "{x}", "sess_\u00e9", "*" * 128]
)
async def test_an_unknown_session_is_404(client: httpx.AsyncClient, worker: ScriptedWorker, session_id: str):
    response = await client.post("/v1/generate", json={"session_id": session_id, "messages": MESSAGES})
    check(response, 404, code="session_not_found")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("kind", ["sessions/sess_", "generations/gen_"])
async def test_an_unknown_id_is_404(client: httpx.AsyncClient, method: str, kind: str):
    for suffix in ("x", "a" * 20 + "_0", "a" * 20 + "_" + "b" * 12, "%00", "a" * 5000):
        check(await client.request(method, f"/v1/{kind}{suffix}"), 404)


async def test_another_path_or_method_has_the_same_shape(client: httpx.AsyncClient):
    check(await client.get("/v1/nothing"), 404, code="not_found")
    response = await client.get("/v1/generate")
    check(response, 405, code="method_not_allowed")
    assert response.headers["allow"] == "POST"


async def test_a_request_that_is_not_http_does_no_harm(serving, client: httpx.AsyncClient):
    host, port = serving.url.removeprefix("http://").split(":")

    def send(raw: bytes) -> None:
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(raw)
            sock.settimeout(2)
            sock.recv(100)

    for raw in (
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/generate HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ):
        await asyncio.to_thread(send, raw)
    assert (await client.get("/health/live")).status_code == 200


async def test_a_client_that_leaves_while_sending_does_no_harm(serving, client: httpx.AsyncClient):
    host, port = serving.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b'POST /v1/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"pro'
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await client.get("/health/live")).status_code == 200


async def test_a_session_is_unharmed_by_refused_turns(client: httpx.AsyncClient, worker: ScriptedWorker):
    async def answer(text: str) -> None:
        turn = await worker.take()
        await turn.start()
        await turn.say(text)
        await turn.finish()

    answering = asyncio.create_task(answer("one"))
    first = (await client.post("/v1/generate", json={"messages": MESSAGES, "stream": False})).json()
    await answering
    path = f"/v1/sessions/{first['session']}"

    async def seen() -> dict[str, Any]:
        session: dict[str, Any] = (await client.get(path)).json()
        return {name: value for name, value in session.items() if name != "expires"}

    before = await seen()
    for fields in ({"temperature": -1}, {"input_ids": [5]}, {"max_tokens": 0}, {"nonsense": 1}):
        refused = await client.post("/v1/generate", json={"session_id": first["session"], "prompt": MARK} | fields)
        assert refused.status_code == 400
    assert await seen() == before
    answering = asyncio.create_task(answer("two"))
    second = await client.post(
        "/v1/generate", json={"session_id": first["session"], "messages": MESSAGES, "stream": False}
    )
    await answering
    assert (second.status_code, second.json()["text"]) == (200, "two")
