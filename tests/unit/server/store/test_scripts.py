"""The Lua loader: files, headers and calls are held to each other."""

from __future__ import annotations

import hashlib
import re

import pytest

from server.store.scripts import Call, ScriptError, Scripts, packaged, parse
from server.store.store import CALLS

GOOD = """#!lua
-- Move a thing.
-- KEYS: from to
-- ARGV: how [name value]...
for i = 2, #ARGV, 2 do
  redis.call("SET", KEYS[1] .. KEYS[2] .. ARGV[1], ARGV[i])
end
"""
CALL = Call("move", ("from", "to"), ("how",), more_args=("name", "value"))


def test_a_header_is_read() -> None:
    assert parse("move", GOOD) == CALL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("#!lua\n", ""), "first line"),
        (("#!lua\n", "#!lua flags=allow-everything\n"), "first line"),
        (("-- KEYS: from to\n", ""), "no '-- KEYS:'"),
        (("-- ARGV: how [name value]...\n", ""), "no '-- ARGV:'"),
        (("-- ARGV: how [name value]...", "-- ARGV: how [name value"), "no '-- ARGV:'"),
        (("KEYS[2]", "KEYS[3]"), r"uses KEYS\[3\]"),
        ((" .. KEYS[2]", ""), r"never uses KEYS\[2\]"),
        (("-- KEYS: from to", "-- KEYS: from to [more]..."), "never walks over KEYS"),
        (("-- ARGV: how [name value]...", "-- ARGV: how"), "walks over ARGV"),
        (("ARGV[1]", "ARGV[0]"), r"uses ARGV\[0\]"),
    ],
)
def test_a_header_that_lies_is_refused(change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(ScriptError, match=message):
        parse("move", GOOD.replace(*change))


def test_an_index_in_a_comment_does_not_count() -> None:
    with pytest.raises(ScriptError, match=r"never uses KEYS\[2\]"):
        parse("move", GOOD.replace(" .. KEYS[2]", "") + "-- KEYS[2] once did\n")


@pytest.mark.parametrize(
    ("sources", "calls", "message"),
    [
        ({}, [CALL], "no move.lua"),
        ({"move": GOOD}, [], "nothing calls move.lua"),
        ({"move": GOOD}, [Call("move", ("to", "from"), ("how",), more_args=("name", "value"))], "is called as"),
        ({"move": GOOD}, [Call("move", ("from", "to"), ("how",))], "is called as"),
    ],
)
def test_files_and_calls_must_agree(sources: dict[str, str], calls: list[Call], message: str) -> None:
    with pytest.raises(ScriptError, match=message):
        Scripts(sources, calls)


@pytest.mark.parametrize(
    ("keys", "args"),
    [((), ("h",)), (("a",), ("h",)), (("a", "b", "c"), ("h",)), (("a", "b"), ()), (("a", "b"), ("h", "name"))],
)
def test_a_call_of_another_size_is_refused(keys: tuple[str, ...], args: tuple[str, ...]) -> None:
    with pytest.raises(ScriptError, match=r"move\.lua takes"):
        Scripts({"move": GOOD}, [CALL]).prepare(CALL, keys, args)


def test_a_call_that_was_not_declared_is_refused() -> None:
    with pytest.raises(ScriptError, match="no script was loaded for the call other"):
        Scripts({"move": GOOD}, [CALL]).prepare(Call("other", (), ()), (), ())


def test_a_prepared_call_is_sent_by_hash_or_in_full() -> None:
    script = Scripts({"move": GOOD}, [CALL]).prepare(CALL, ("a", "b"), ("h", "n", b"v"))
    sha = hashlib.sha1(GOOD.encode()).hexdigest()
    assert script.by_hash() == ("EVALSHA", sha, 2, "a", "b", "h", "n", b"v")
    assert script.in_full() == ("EVAL", GOOD, 2, "a", "b", "h", "n", b"v")


def test_the_packaged_scripts_are_those_the_store_calls() -> None:
    Scripts(packaged(), CALLS)


@pytest.mark.parametrize("name", sorted(packaged()))
def test_every_packaged_script_says_what_it_does_and_reaches_no_other_key(name: str) -> None:
    source = packaged()[name]
    assert re.search(r"^-- [A-Z].+\.", source, re.MULTILINE)
    # A key is passed, never put together: on a cluster it could lie elsewhere.
    unnamed = r'redis\.p?call\((?:"(?:XGROUP|XINFO)", "\w+"|"(?!XGROUP|XINFO|XREADGROUP)\w+"),\s*"'
    assert not re.search(unnamed, source)
    # Clock and chance come from the caller.
    # (A claim measures how old an entry is: by the same clock that dated it, the server's, as an enqueue dates what
    # waits. And apis that share a tenant's limits must not disagree about the time.)
    assert "TIME" not in source or name in ("claim", "enqueue", "rate", "reserve")
    assert "math.random" not in source
