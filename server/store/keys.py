"""Ids and keys: every key of a lineage is found from any id that belongs to it.

    session       sess_<lineage>_<branch>        lineage: 20 of [0-9a-z], the hash tag of all its keys
    generation    gen_<lineage>_<12 of [0-9a-z]>
    turn          turn_<lineage>_<12 of [0-9a-z]>    the same twelve as its generation's
    response      resp_<lineage>_<12 of [0-9a-z]>    the same twelve again: OpenAI's name for both
    conversation  conv_<lineage>_<branch>            OpenAI's name for the session

Parsing is strict: whatever is not exactly an id is None, so that nothing a client sends can name another key.
It knows nothing of what the keys hold.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_SESSION = re.compile(r"sess_([0-9a-z]{20})_(0|[1-9][0-9]{0,8})", re.ASCII)
_GENERATION = re.compile(r"gen_([0-9a-z]{20})_[0-9a-z]{12}", re.ASCII)
_TURN = re.compile(r"turn_([0-9a-z]{20})_[0-9a-z]{12}", re.ASCII)
_RESPONSE = re.compile(r"resp_([0-9a-z]{20})_[0-9a-z]{12}", re.ASCII)


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def new_session_id() -> str:
    """The first branch of a new lineage."""
    return f"sess_{_random(20)}_0"


def branch_id(lineage: str, branch: int) -> str:
    """A branch of a lineage."""
    return f"sess_{lineage}_{branch}"


def branch_of(session_id: str) -> int:
    """The number of a session's branch. Raises ValueError for what is not a session's id."""
    parsed = parse_session(session_id)
    if parsed is None:
        raise ValueError("not a session's id")
    return parsed[1]


def derived_lineage(*parts: str) -> str:
    """The lineage that is always the same for the same parts; nobody who does not know them all can guess it."""
    digest = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()
    number, letters = int.from_bytes(digest), []
    for _ in range(20):
        number, letter = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[letter])
    return "".join(letters)


def new_generation_id(lineage: str) -> str:
    """A fresh generation of this lineage."""
    return f"gen_{lineage}_{_random(12)}"


def new_turn_id(lineage: str) -> str:
    """A fresh turn of this lineage."""
    return f"turn_{lineage}_{_random(12)}"


def turn_of(generation_id: str) -> str:
    """The turn that a generation commits, if any: known before it runs. Raises ValueError for what is no generation."""
    lineage = parse_generation(generation_id)
    if lineage is None:
        raise ValueError("not a generation's id")
    return f"turn_{lineage}_{_own(generation_id)}"


def generation_of(turn_id: str) -> str:
    """The generation whose turn this is. Raises ValueError for what is no turn."""
    lineage = parse_turn(turn_id)
    if lineage is None:
        raise ValueError("not a turn's id")
    return f"gen_{lineage}_{_own(turn_id)}"


def response_of(generation_id: str) -> str:
    """The response that a generation answers. Raises ValueError for what is no generation."""
    return "resp_" + turn_of(generation_id).removeprefix("turn_")


def answering(response_id: str) -> str | None:
    """The generation that answers a response, None for what is not a response's id."""
    return "gen_" + response_id.removeprefix("resp_") if _RESPONSE.fullmatch(response_id) else None


def conversation_of(session_id: str) -> str:
    """A session's name as a conversation. Raises ValueError for what is not a session's id."""
    branch_of(session_id)
    return "conv_" + session_id.removeprefix("sess_")


def conversing(conversation_id: str) -> str | None:
    """The session that a conversation is, None for what is not a conversation's id."""
    session_id = "sess_" + conversation_id.removeprefix("conv_")
    return session_id if conversation_id.startswith("conv_") and parse_session(session_id) else None


def new_nonce() -> str:
    """What tells one owner of a fence from another."""
    return _random(12)


def parse_session(session_id: str) -> tuple[str, int] | None:
    """Lineage and branch, None for what is not a session's id."""
    match = _SESSION.fullmatch(session_id)
    return (match[1], int(match[2])) if match else None


def parse_generation(generation_id: str) -> str | None:
    """Lineage, None for what is not a generation's id."""
    match = _GENERATION.fullmatch(generation_id)
    return match[1] if match else None


def parse_turn(turn_id: str) -> str | None:
    """Lineage, None for what is not a turn's id."""
    match = _TURN.fullmatch(turn_id)
    return match[1] if match else None


def lineage_of(known_id: str) -> str:
    """The lineage of an id of ours. Raises ValueError for anything else."""
    session = parse_session(known_id)
    lineage = session[0] if session else parse_generation(known_id) or parse_turn(known_id)
    if lineage is None:
        raise ValueError("not an id of a session, generation or turn")
    return lineage


def _own(generation_id: str) -> str:
    """What a generation's id says beyond its lineage: each byte of a key is written again with each command."""
    return generation_id.rpartition("_")[2]


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of all keys under one prefix."""

    prefix: str = "perennial"

    def session(self, session_id: str) -> str:
        """Hash: the session's record. Raises ValueError for what is not a session's id."""
        parsed = parse_session(session_id)
        if parsed is None:
            raise ValueError("not a session's id")
        return f"{self.prefix}:{{{parsed[0]}}}:session:{parsed[1]}"

    def gone(self, session_id: str) -> str:
        """String: the tenant of a session, outliving it, so that its owner is told that it is gone."""
        parsed = parse_session(session_id)
        if parsed is None:
            raise ValueError("not a session's id")
        return f"{self.prefix}:{{{parsed[0]}}}:gone:{parsed[1]}"

    def lineage(self, lineage: str) -> str:
        """Hash: the branches of a lineage ("b:<branch>"), the number of the next one, and a version that goes up with
        every change that could need a turn or a snapshot which was not needed before."""
        return f"{self.prefix}:{{{lineage}}}:lineage"

    def idempotency(self, lineage: str, digest: str) -> str:
        """String: "<generation> <digest of its request>", for a request that carried an idempotency key."""
        return f"{self.prefix}:{{{lineage}}}:idem:{digest}"

    def turns(self, lineage: str) -> str:
        """Hash: turn id → encoded turn."""
        return f"{self.prefix}:{{{lineage}}}:turns"

    def snaps(self, lineage: str) -> str:
        """Hash: turn id → snapshot manifest."""
        return f"{self.prefix}:{{{lineage}}}:snaps"

    def blocks(self, lineage: str) -> str:
        """Hash: content hash → bytes of a snapshot's block."""
        return f"{self.prefix}:{{{lineage}}}:blocks"

    def responses(self, lineage: str) -> str:
        """Hash: twelve letters of a response → its record; "<twelve>:end" → how it ended; "bytes" → of all of them."""
        return f"{self.prefix}:{{{lineage}}}:resps"

    def response_order(self, lineage: str) -> str:
        """Sorted set: twelve letters of each response by when it was made."""
        return f"{self.prefix}:{{{lineage}}}:resporder"

    def generation(self, generation_id: str) -> str:
        """Hash: the generation's record."""
        return f"{self.prefix}:{{{lineage_of(generation_id)}}}:gen:{_own(generation_id)}"

    def events(self, generation_id: str) -> str:
        """Stream: the generation's events, ids "<sequence>-0"."""
        return f"{self.prefix}:{{{lineage_of(generation_id)}}}:events:{_own(generation_id)}"

    def generations(self, session_id: str) -> str:
        """Sorted set: a session's recent generations by when they were accepted. Raises ValueError as `session`."""
        return f"{self.prefix}:{{{lineage_of(session_id)}}}:gens:{branch_of(session_id)}"

    def live(self, generation_id: str) -> str:
        """Channel: the generation's events as they are appended."""
        return f"{self.prefix}:{{{lineage_of(generation_id)}}}:live:{_own(generation_id)}"

    def tenant_sessions(self, tenant: str) -> str:
        """Sorted set: session ids of a tenant by their last use."""
        return f"{self.prefix}:{{t:{tenant}}}:sessions"

    def tenant_rate(self, tenant: str) -> str:
        """String: when the tenant's bucket of requests will be full again, Unix time in ms of the store's own clock."""
        return f"{self.prefix}:{{t:{tenant}}}:rate"

    def tenant_running(self, tenant: str) -> str:
        """Sorted set: generations of a tenant that may be queued or running, and places held for more until a time."""
        return f"{self.prefix}:{{t:{tenant}}}:running"

    def message_hash(self, digest: str) -> str:
        """String: "<session> <turn>" that the conversation with this hash ends in."""
        return f"{self.prefix}:{{h:{digest}}}:turn"

    @property
    def queue(self) -> str:
        """Stream: generation ids that wait for any worker, and those of them in a worker's hands. Its group's readers
        are all the workers that may have a stream of their own."""
        return f"{self.prefix}:{{queue}}:turns"

    def stream(self, worker_id: str) -> str:
        """Stream: generation ids that wait for this worker, which has their sessions warm; "" for anybody's."""
        return f"{self.queue}:{worker_id}" if worker_id else self.queue

    def queued(self, generation_id: str) -> str:
        """String: where in the queue the generation is, "<entry> <whose stream>" or what stands for it in `waiting`."""
        return f"{self.prefix}:{{queue}}:queued:{generation_id}"

    @property
    def waiting(self) -> str:
        """Sorted set: generations that wait to enter a stream, since their tenant has another one there."""
        return f"{self.prefix}:{{queue}}:waiting"

    @property
    def intended(self) -> str:
        """Sorted set: generations that are about to be accepted and are not queued yet, by the time of their note."""
        return f"{self.prefix}:{{queue}}:intended"

    @property
    def workers(self) -> str:
        """Sorted set: worker ids by their last heartbeat."""
        return f"{self.prefix}:{{queue}}:seen"

    def alive(self, worker_id: str) -> str:
        """String with a short life: what a worker says of itself."""
        return f"{self.prefix}:{{queue}}:alive:{worker_id}"

    @property
    def control(self) -> str:
        """Channel: generation ids whose cancellation was asked for."""
        return f"{self.prefix}:control"
