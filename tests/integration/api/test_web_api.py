"""The playground as files: a page for browsers alone, whole, and under a policy that lets nothing else in."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

import server

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FILES = {file.name for file in (Path(server.__file__).parent / "web").iterdir()}


async def test_a_browser_gets_the_page_and_others_the_places(client: httpx.AsyncClient):
    page = await client.get("/", headers=BROWSER)
    assert page.headers["content-type"].startswith("text/html")
    for accept in ("*/*", "application/json", ""):
        places = await client.get("/", headers={"Accept": accept})
        assert (places.json()["name"], places.headers["vary"]) == ("perennial", "Accept")
    assert page.headers["vary"] == "Accept"


async def test_it_is_whole_and_loads_nothing_else(client: httpx.AsyncClient):
    page = await client.get("/", headers=BROWSER)
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert (policy["script-src"], policy["style-src"], policy["connect-src"]) == ("'self'", "'self'", "'self'")
    assert policy["require-trusted-types-for"] == "'script'"
    assert not re.search(r"<script[^>]*>[^<]|\son\w+=|\sstyle=|<style|://", page.text)
    asked, seen = {f"web/{name}" for name in re.findall(r'(?:src|href)="web/([^"]+)"', page.text)}, set()
    while asked - seen:
        name = (asked - seen).pop()
        seen.add(name)
        file = await client.get(f"/{name}")
        assert file.status_code == 200, name
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        assert file.headers["content-type"].startswith(kind)
        asked |= {f"web/{other}" for other in re.findall(r'from "\./([^"]+)"', file.text)}
        assert "innerHTML" not in file.text
    assert {name.removeprefix("web/") for name in seen} == FILES - {"index.html"}


async def test_a_file_that_has_not_changed_is_not_sent_again(client: httpx.AsyncClient):
    file = await client.get("/web/main.js")
    again = await client.get("/web/main.js", headers={"If-None-Match": file.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_nothing_else_is_there(client: httpx.AsyncClient):
    for wrong in ("index.html", "..%2Fapp.py", "web.py", ""):
        refused = await client.get(f"/web/{wrong}")
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
