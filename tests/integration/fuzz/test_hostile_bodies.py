"""Bodies that mean harm, at every route that takes one: whatever comes, a clear answer comes back, soon.

The routes, their fields and a good body for each are the document's own, so a new route is among them by itself. A
field of the good body is replaced by something hostile, as text, since much of it no JSON writer would write.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from server.api.describe import CONVERSATION, RESPONSE, SESSION, TURN
from support.target import PATIENCE_S, Target

pytestmark = pytest.mark.timeout(400)  # the first of them starts the server

MARK = "zabaglione"  # stands in what is sent; it must never come back in an error
HERE = '"@@here@@"'
GREW = 256 * 2**20  # what any number of bodies may add to an api's memory, bytes
JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class Post:
    """A route that takes a body. path: with ids of things that are there. good: a body that is answered."""

    path: str
    good: dict[str, Any]
    fields: dict[str, Any]

    def places(self) -> list[tuple[str | int, ...]]:
        """Where something can stand: each field, and each place within the good body."""
        within = [place for name, value in self.good.items() for place in _places(value, (name,))]
        return sorted({*within, *((name,) for name in self.fields), ("unheard_of",)}, key=str)

    def body(self, place: tuple[str | int, ...], fragment: str) -> bytes:
        """The good body with something else in one place."""
        body = json.loads(json.dumps(self.good))
        node = body
        for part in place[:-1]:
            node = node[part]
        node[place[-1]] = json.loads(HERE)
        return json.dumps(body).replace(HERE, fragment).encode("utf-8", "surrogatepass")


def _places(value: Any, place: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in items:
        yield from _places(child, (*place, name))


@pytest.fixture(scope="module")
def client(_open: Target) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=_open.url, timeout=PATIENCE_S) as one:
        yield one


@pytest.fixture(scope="module")
def posts(client: httpx.Client) -> list[Post]:
    """Every route of the document that takes JSON."""
    made = client.post("/v1/generate", json={"prompt": "x", "stream": False}).json()
    response = client.post("/v1/responses", json={"model": "tiny", "input": "x"}).json()["id"]
    conversation = client.post("/v1/conversations").json()["id"]
    known = {SESSION: made["session"], TURN: made["turn"], RESPONSE: response, CONVERSATION: conversation}
    known |= {"{session_id}": made["session"], "{response_id}": response, "{conversation_id}": conversation}
    document = client.get("/openapi.json").json()
    found = []
    for template, methods in document["paths"].items():
        content = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            continue
        path, good = template, json.dumps(next(iter(content["examples"].values()))["value"])
        for name, value in known.items():
            path, good = path.replace(name, value), good.replace(name, value)
        fields = content["schema"].get("properties", {})
        small = {name: 4 for name in fields if name in ("max_tokens", "max_completion_tokens", "max_output_tokens")}
        body = json.loads(good)
        found.append(Post(path, body | {name: 4 for name in small if name in body}, fields))
    assert len(found) >= 10
    return found


def judge(response: httpx.Response, place: tuple[str | int, ...] | None = None) -> None:
    """An answer is a good one, or an error in the usual shape that says what to mend and repeats nothing."""
    if response.is_success:
        return
    assert response.status_code < 500, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}, error
    assert 0 < len(error["message"]) < 1000
    assert error["type"] == "invalid_request_error"
    assert error["code"]
    assert error["param"] is None or len(error["param"]) < 200
    assert MARK not in response.text
    if place is not None and error["code"] == "invalid_request" and error["param"] is None:
        # Of the body as a whole, or of fields that do not go together.
        assert response.status_code == 400
        assert error["message"].startswith(("The body ", "Only one of", "Exactly one of", "One of")) or any(
            str(part) in error["message"] for part in place
        ), (place, error)


def deep(levels: int, opened: str, closed: str) -> str:
    return opened * levels + "0" * (opened != "[") + closed * levels


NASTY = [
    *("1e400", "-1e400", "1e-400", "-0", "1" + "0" * 5000, "-" + "9" * 4300, "0." + "0" * 5000 + "1"),
    *(str(2**63), str(-(2**63) - 1), str(2**64), "1e308", "NaN", "Infinity", "-Infinity", "01", "+1", "0x10"),
    *(r'"\ud800"', r'"\udfff\ud800"', r'{"\ud800": 1}', r'"\u0000"', '"\x00"', r'"\uffff\ufffe"', '"\ud800"'),
    *('"' + "\u202e" * 50 + '"', '"' + "a\u0300" * 5000 + '"', r'"\x41"', "'a'", "undefined", "tru", ""),
    *("null", "true", "false", "[]", "{}", '""', "[[]]", "[null]", '[""]', "[{}]", '{"a": 1, "a": 2}', "[1,]"),
    *("0", "-1", "1.5", '"1"', '"true"', '"nan"', "[0, 1]", '{"role": "user"}', '{"$ref": "#"}', '{"__proto__": {}}'),
    *(deep(levels, *pair) for levels in (3, 900, 100_000) for pair in (("[", "]"), ('{"a":', "}"))),
    *("[" * 100_000, '{"a":' * 100_000),
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)
FRAGMENTS = st.sampled_from(NASTY) | VALUES.map(json.dumps)


def throw(client: httpx.Client, posts: list[Post], count: int, number: int) -> None:
    """Something hostile in some place of some body, so many times."""

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.data())
    def once(data: st.DataObject) -> None:
        post = data.draw(st.sampled_from(posts))
        place = data.draw(st.sampled_from(post.places()))
        body = post.body(place, data.draw(FRAGMENTS))
        judge(client.post(post.path, content=body, headers=JSON), place)

    once()


def test_something_hostile_in_any_place(target: Target, client: httpx.Client, posts: list[Post]) -> None:
    throw(client, posts, 100, 1)


@pytest.mark.full
@pytest.mark.timeout(900)
def test_something_hostile_in_any_place_at_length(target: Target, client: httpx.Client, posts: list[Post]) -> None:
    throw(client, posts, 500, 2)
    before = target.rss()
    throw(client, posts, 3000, 3)
    assert target.rss() - before < GREW


def huge() -> dict[str, str]:
    """Values that are all within the bound on a body, by what they are."""
    message, part = json.dumps({"role": "user", "content": "x"}), json.dumps({"type": "text", "text": "x"})
    return {
        "a million texts": "[" + ",".join(['"a"'] * 10**6) + "]",
        "a million numbers": "[" + ",".join(["0"] * 10**6) + "]",
        "a million lists": "[" + ",".join(["[]"] * 10**6) + "]",
        "100,000 messages": "[" + ",".join([message] * 100_000) + "]",
        "100,000 parts": f'[{{"role":"user","content":[{",".join([part] * 100_000)}]}}]',
        "a million calls": f'[{{"role":"assistant","tool_calls":[{",".join(["0"] * 10**6)}]}}]',
        "300,000 names": "{" + ",".join(f'"{n}":{n}' for n in range(300_000)) + "}",
        "seven million letters": '"' + "a" * 7_000_000 + '"',
        "two million characters of three bytes": '"' + "\u3042" * 2_000_000 + '"',
        "a million escapes": '"' + r"\u3042" * 1_000_000 + '"',
    }


def throw_huge(client: httpx.Client, posts: list[Post], among: list[tuple[Post, str, str]]) -> None:
    values = huge()
    for post, name, kind in among:
        response = client.post(post.path, content=post.body((name,), values[kind]), headers=JSON)
        judge(response, (name,))


def all_of(posts: list[Post]) -> list[tuple[Post, str, str]]:
    return [(post, name, kind) for post in posts for name in sorted({*post.fields, "unheard_of"}) for kind in huge()]


@pytest.mark.parametrize(
    ("path", "field", "kind"),
    [
        ("/v1/generate", "stop", "a million texts"),
        ("/v1/generate", "messages", "a million numbers"),
        ("/v1/chat/completions", "messages", "100,000 messages"),
        ("/v1/chat/completions", "messages", "a million calls"),
        ("/v1/responses", "metadata", "300,000 names"),
    ],
)
def test_a_field_of_millions_is_refused_by_its_name(
    target: Target, client: httpx.Client, posts: list[Post], path: str, field: str, kind: str
) -> None:
    post = next(post for post in posts if post.path == path)
    before = target.rss()
    response = client.post(path, content=post.body((field,), huge()[kind]), headers=JSON)
    judge(response, (field,))
    assert response.status_code in (400, 413)
    assert (response.json()["error"]["param"] or "").startswith(field) or "names" in response.json()["error"]["message"]
    assert target.rss() - before < GREW


@pytest.mark.full
@pytest.mark.timeout(1500)
def test_a_field_of_millions_anywhere(target: Target, client: httpx.Client, posts: list[Post]) -> None:
    """Some hundreds of all there are, and at the end the memory is what it was after the first of them."""
    among = random.Random(4).sample(all_of(posts), 250)
    throw_huge(client, posts, among[:50])
    before = target.rss()
    throw_huge(client, posts, among[50:])
    assert target.rss() - before < GREW


WRONG: list[Any] = [None, True, 5, 1.5, "x", ["x"], [5], {"x": 1}, {}, []]


def test_a_wrong_type_is_refused_by_its_name(target: Target, client: httpx.Client, posts: list[Post]) -> None:
    """Whatever type stands in whichever field: where it is refused, the field is named."""
    named = 0
    chosen = [(post, name, value) for post in posts for name in sorted(post.fields) for value in WRONG]
    for post, name, value in random.Random(5).sample(chosen, 250):
        response = client.post(post.path, json=post.good | {name: value})
        judge(response, (name,))
        if response.is_success or response.json()["error"]["code"] != "invalid_request":
            continue
        error = response.json()["error"]
        assert name in f"{error['param']} {error['message']}", (post.path, name, value, error)
        named += 1
    assert named > 100


RAW: list[tuple[bytes, dict[str, str]]] = [
    (b"", JSON),
    (b" \n", JSON),
    (b"\xef\xbb\xbf{}", JSON),
    (b"{}\x00", JSON),
    (b"{} {}", JSON),
    (b"\xff\xfe{\x00}\x00", JSON),
    (b"\xed\xa0\x80", JSON),
    (b'{"a": "\xc0\xaf"}', JSON),
    (b'"x"', JSON),
    (b"[]", JSON),
    (b"5", JSON),
    (b'{"model": "tiny", "model": "tiny"}', JSON),
    (b"model=tiny", {"content-type": "application/x-www-form-urlencoded"}),
    (b"<x/>", {"content-type": "text/xml"}),
    (b"{}", {"content-type": "multipart/form-data; boundary=x"}),
    (b"{}", {"content-type": "application/json; charset=utf-16"}),
    (b"{}", {"content-type": "\xff\xfe"}),
    (b"{}", {"content-type": "a" * 10_000}),
    (gzip.compress(b"{}"), JSON | {"content-encoding": "gzip"}),
    (gzip.compress(b" " * 10**8), JSON | {"content-encoding": "gzip"}),
    (b"{}", JSON | {"content-encoding": "br, gzip"}),
]


def test_what_is_no_json_is_refused_everywhere(target: Target, client: httpx.Client, posts: list[Post]) -> None:
    for post in posts:
        for raw, headers in RAW:
            sent = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
            response = client.post(post.path, content=raw, headers=sent)
            judge(response)
            empty = raw == b"" and response.is_success  # where no body at all will do
            assert empty or response.status_code == 400, (post.path, raw[:40], response.text)
            if "content-encoding" in headers:
                assert "Content-Encoding" in response.json()["error"]["message"]


HEADERS: list[dict[bytes, bytes]] = [
    {b"idempotency-key": b""},
    {b"idempotency-key": b"\xff"},
    {b"idempotency-key": b"a" * 256},
    {b"idempotency-key": b"a\tb"},
    {b"authorization": b"Bearer"},
    {b"authorization": b"Bearer \xff\xfe"},
    {b"authorization": b"Basic Og=="},
    {b"x-request-id": b"\xff" * 200},
    {b"x-request-id": b'"; drop'},
    {b"accept": b"\xff"},
    {b"accept-encoding": b"gzip;q=9999999999999999999"},
    {b"cookie": b"a=b;" * 5000},
    {b"last-event-id": b"9" * 5000},
    {b"range": b"bytes=0-1"},
    {b"if-none-match": b"*"},
    {b"expect": b"200-nonsense"},
    {b"x-forwarded-for": b"::1, \xff"},
    {b"origin": b"null"},
    {f"x-{n}".encode(): b"x" * 50 for n in range(500)},
]


def test_headers_of_every_bad_kind(target: Target, client: httpx.Client, posts: list[Post]) -> None:
    ask = {"model": "tiny", "prompt": "x", "max_tokens": 2}
    for headers in HEADERS:
        response = client.post("/v1/completions", json=ask, headers=headers)
        judge(response)
        if b"idempotency-key" in headers:
            assert (response.status_code, response.json()["error"]["param"]) == (400, "Idempotency-Key")
        else:
            assert response.is_success, (headers, response.text)
    events = client.get("/v1/generations/gen_x/events", headers={"last-event-id": "9" * 5000})
    assert (events.status_code, events.json()["error"]["param"]) == (400, "after")
