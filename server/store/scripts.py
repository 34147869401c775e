"""Lua scripts as files that declare what they take, and one loader that holds files and callers to it.

A file begins:

    #!lua flags=allow-oom
    -- What it does, in a line or more.
    -- KEYS: session blocks
    -- ARGV: fence ttl_ms [hash data]...

The names in brackets repeat. Each caller declares the same as a `Call`; `Scripts` refuses at load a missing file or
header, a file nobody calls, a declaration that differs, an index the header does not cover and one that is never
used. The first line matters: with it a full store refuses a script before it runs, never half-way through.
It knows nothing of connections: `Prepared` is what a connection sends.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

_NAMES = r"((?:[a-z_]+ ?)*)(?:\[([a-z_]+(?: [a-z_]+)*)\]\.\.\.)?"
_SHEBANG = re.compile(r"#!lua(?: flags=(?:no-writes|allow-oom))?\n")
_KEYS = re.compile(rf"^-- KEYS: ?{_NAMES}$", re.MULTILINE)
_ARGV = re.compile(rf"^-- ARGV: ?{_NAMES}$", re.MULTILINE)

Value = str | bytes | int


class ScriptError(Exception):
    """A script and its declaration, or its call, do not fit each other."""


@dataclass(frozen=True, slots=True)
class Call:
    """How a script is called: names of its keys and arguments in order; `more_…` are those that repeat at the end."""

    name: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    more_keys: tuple[str, ...] = ()
    more_args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prepared:
    """One checked call, ready to be sent by hash or in full."""

    source: str
    sha: str
    keys: tuple[Value, ...]
    args: tuple[Value, ...]

    def by_hash(self) -> tuple[Value, ...]:
        return ("EVALSHA", self.sha, len(self.keys), *self.keys, *self.args)

    def in_full(self) -> tuple[Value, ...]:
        return ("EVAL", self.source, len(self.keys), *self.keys, *self.args)


def _check_indices(name: str, array: str, body: str, fixed: int, repeats: bool) -> None:
    used = {int(i) for i in re.findall(rf"\b{array}\[(\d+)\]", body)}
    walks = re.search(rf"\b{array}\[[a-z]|#{array}\b(?!\[)|\bunpack\({array}", body) is not None
    if used - set(range(1, fixed + 1)):
        raise ScriptError(f"{name}.lua uses {array}[{max(used)}], its header declares {fixed}")
    if not repeats and set(range(1, fixed + 1)) - used:
        raise ScriptError(f"{name}.lua never uses {array}[{min(set(range(1, fixed + 1)) - used)}]")
    if walks != repeats:
        raise ScriptError(f"{name}.lua {'walks over' if walks else 'never walks over'} {array}, its header differs")


def parse(name: str, source: str) -> Call:
    """Read a script's header and hold its body to it. Raises ScriptError."""
    if not _SHEBANG.match(source):
        raise ScriptError(f"{name}.lua: the first line is not '#!lua', with flags=allow-oom or no-writes at most")
    keys, argv = _KEYS.search(source), _ARGV.search(source)
    if keys is None or argv is None:
        raise ScriptError(
            f"{name}.lua: the header has no '-- {'KEYS' if keys is None else 'ARGV'}:' line, or a bad one"
        )
    fixed_keys, more_keys = keys[1].split(), (keys[2] or "").split()
    fixed_args, more_args = argv[1].split(), (argv[2] or "").split()
    body = re.sub(r"--[^\n]*", "", source)
    _check_indices(name, "KEYS", body, len(fixed_keys), bool(more_keys))
    _check_indices(name, "ARGV", body, len(fixed_args), bool(more_args))
    return Call(name, tuple(fixed_keys), tuple(fixed_args), tuple(more_keys), tuple(more_args))


def packaged() -> dict[str, str]:
    """Name → source of the scripts beside this file."""
    folder = resources.files("server.store").joinpath("lua")
    files = (f for f in folder.iterdir() if f.name.endswith(".lua"))
    return {f.name.removesuffix(".lua"): f.read_text(encoding="utf-8") for f in files}


class Scripts:
    """The scripts, each held to the call that was declared for it."""

    def __init__(self, sources: Mapping[str, str], calls: Iterable[Call]) -> None:
        """Raises ScriptError for a file without a call, a call without a file, and one that differs from its file."""
        declared = {call.name: call for call in calls}
        if missing := declared.keys() - sources.keys():
            raise ScriptError(f"there is no {min(missing)}.lua")
        if unused := sources.keys() - declared.keys():
            raise ScriptError(f"nothing calls {min(unused)}.lua")
        for name, source in sources.items():
            if (header := parse(name, source)) != declared[name]:
                raise ScriptError(f"{name}.lua declares {header}, it is called as {declared[name]}")
        self._calls = declared
        self._sources = {
            name: (text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
            for name, text in sources.items()
        }

    def prepare(self, call: Call, keys: Sequence[Value], args: Sequence[Value]) -> Prepared:
        """Raises ScriptError for a call that was not declared, or the wrong number of keys or arguments."""
        if self._calls.get(call.name) != call:
            raise ScriptError(f"no script was loaded for the call {call.name}")
        for what, given, fixed, more in (
            ("keys", keys, call.keys, call.more_keys),
            ("arguments", args, call.args, call.more_args),
        ):
            surplus = len(given) - len(fixed)
            if surplus < 0 or (surplus % len(more) if more else surplus):
                raise ScriptError(
                    f"{call.name}.lua takes {len(fixed)} {what}{' and more' if more else ''}, not {len(given)}"
                )
        source, sha = self._sources[call.name]
        return Prepared(source, sha, tuple(keys), tuple(args))
