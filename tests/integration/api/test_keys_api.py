"""Browsers: which pages may call, and what they may read. (Keys themselves: test_tenants_api.py.)"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from support.serving import running_api

ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def api(serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = serving.settings | {
        "key_prefix": f"{serving.prefix}-cors",
        "api_keys": f"red:{hashlib.sha256(b'key-red').hexdigest()}",
        "cors_origins": f"{ORIGIN},http://localhost:3000",
    }
    with running_api(tmp_path_factory.mktemp("cors"), **settings) as (url, process):
        yield url
    assert "key-red" not in process.errors()


def preflight(origin: str, method: str = "POST") -> dict[str, str]:
    return {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang",
    }


async def test_a_preflight_needs_no_key(api: str):
    async with httpx.AsyncClient(base_url=api) as page:
        for method in ("GET", "POST", "DELETE"):
            allowed = await page.options("/v1/generate", headers=preflight(ORIGIN, method))
            assert allowed.status_code == 200
            assert allowed.headers["access-control-allow-origin"] == ORIGIN
            assert "authorization" in allowed.headers["access-control-allow-headers"]
            assert "x-stainless-lang" in allowed.headers["access-control-allow-headers"]
            assert "access-control-allow-credentials" not in allowed.headers
            assert allowed.headers["x-request-id"]
        for wrong in (preflight("https://evil.example"), preflight(f"{ORIGIN}.evil.example"), preflight("null")):
            refused = await page.options("/v1/generate", headers=wrong)
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
            assert "access-control-allow-origin" not in refused.headers
        assert (await page.options("/v1/generate", headers=preflight(ORIGIN, "PUT"))).status_code == 400


async def test_a_page_reads_answers_and_refusals(api: str):
    async with httpx.AsyncClient(base_url=api, headers={"Origin": ORIGIN}) as page:
        for path, headers, status in (
            ("/v1/sessions", {"Authorization": "Bearer key-red"}, 200),
            ("/v1/sessions", {}, 401),
            ("/nowhere", {}, 404),
        ):
            answer = await page.get(path, headers=headers)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, ORIGIN)
            exposed = answer.headers["access-control-expose-headers"].lower()
            assert {"x-request-id", "x-session-id", "retry-after"} <= set(exposed.split(", "))
        other = await page.get("/v1/sessions", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_without_origins_no_page_is_let_in(client: httpx.AsyncClient):
    assert (await client.options("/v1/generate", headers=preflight(ORIGIN))).status_code == 405
    answer = await client.get("/health/live", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_form_of_another_page_runs_nothing(client: httpx.AsyncClient):
    """What a browser sends without asking first is not what is answered here."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        refused = await client.post("/v1/generate", content=b'{"prompt": "x"}', headers={"Content-Type": kind})
        assert refused.status_code == 400
