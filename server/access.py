"""Who may use the server, and how much of it: the entries of `API_KEYS` and `API_KEYS_FILE`, as they are written.

    <sha256>                                        a key of a tenant of its own
    label:<sha256>                                  a key of the tenant "label", who may have several
    label:<sha256>;rpm=60;concurrent=4              and with limits, which stand in place of the defaults
    label:<sha256>;stored_bytes=10000000;max_tokens=512

Limits are a tenant's, never a key's, since what is counted is the tenant's: where its keys name different ones, the
tightest counts; 0 lifts the default. A message names an entry by its place, never by its text: it may be a key that
was pasted where its hash belongs.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

_ENTRY = re.compile(
    r"^(?:(?P<label>[A-Za-z0-9][A-Za-z0-9_.-]{0,63}):)?(?P<hash>[0-9a-fA-F]{64})"
    r"(?P<limits>(?:\s*;\s*(?:concurrent|rpm|stored_bytes|max_tokens)=[0-9]{1,15})*)$"
)
AN_ENTRY = "a sha256 in 64 hex digits, label:sha256, or one with limits (label:sha256;concurrent=4;rpm=60)"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one tenant may have; 0: as much as it likes.

    concurrent: generations that are queued or run. rpm: requests in a minute. stored_bytes: of all its sessions.
    max_tokens: of one generation.
    """

    concurrent: int = 0
    rpm: int = 0
    stored_bytes: int = 0
    max_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Access:
    """tenants: sha256 of a key, in lower-case hex → its tenant; empty: nobody needs a key. limits: by tenant, of those
    whose keys name any. default: everybody else's."""

    tenants: Mapping[str, str]
    limits: Mapping[str, Limits]
    default: Limits


def new_key() -> str:
    """A key nobody has yet: 256 random bits."""
    return f"pnl-{secrets.token_urlsafe(32)}"


def digest_of(key: str) -> str:
    """What of a key is configured. Any text will do: a header may carry bytes that are no UTF-8."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def is_entry(text: str) -> bool:
    """Whether this is how a key is configured."""
    return _ENTRY.match(text) is not None


def read_access(entries: Iterable[tuple[str, str]], default: Limits) -> Access:
    """entries: each where it stands and what it says. Raises ValueError for a key that is given to two tenants."""
    tenants: dict[str, str] = {}
    named: dict[str, dict[str, int]] = {}
    for where, entry in entries:
        match = _ENTRY.match(entry)
        if match is None:
            raise ValueError(f"{where}: expected {AN_ENTRY}")
        digest = match["hash"].lower()
        tenant = match["label"] or f"key-{digest[:12]}"
        if tenants.setdefault(digest, tenant) != tenant:
            raise ValueError(f"{where}: the same key as another entry's, under another label")
        mine = named.setdefault(tenant, {})
        for part in match["limits"].split(";")[1:]:
            kind, _, number = part.strip().partition("=")
            mine[kind] = _tighter(mine.get(kind, 0), int(number))
    return Access(tenants, {tenant: replace(default, **mine) for tenant, mine in named.items() if mine}, default)


def _tighter(one: int, other: int) -> int:
    """Of two limits of a kind; 0 is none."""
    return min(one, other) if one and other else one or other
