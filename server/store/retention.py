"""What of a lineage is still needed, and dropping the rest.

A session needs the run from its head back to a base: the newest snapshot at or before the oldest of its last
`turns_kept` turns, or the root while there is no such snapshot. So every turn it keeps has an older snapshot and an
unbroken run behind it, and nothing is trimmed before the snapshot at the cut-off is written. Of the snapshots between
base and head a bounded number stays, at growing distances from the newest. What no branch of the lineage needs goes.

The plan is pure; it is carried out by one script, or not at all where something changed meanwhile that could need more
(see prune.lua): the next snapshot plans anew. It knows nothing of who runs a turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from server.errors import CorruptState
from server.store import keys as ids
from server.store.blocks import read_manifest, sizes, thin
from server.store.codec import decode_outline
from server.store.options import Context
from server.store.records import Outline
from server.store.scripts import Call

OUTLINE = Call("outline", ("turns",), ())
PRUNE = Call(
    "prune",
    ("lineage", "snaps", "turns", "blocks"),
    ("version", "snaps", "turns", "blocks", "branches"),
    more_keys=("session",),
    more_args=("item",),
)
CALLS = (OUTLINE, PRUNE)


@dataclass(frozen=True, slots=True)
class SnapshotOutline:
    """position: tokens it has read; nbytes: of its manifest; blocks: hash → bytes."""

    position: int
    nbytes: int
    blocks: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Needs:
    """What one branch needs. turns: newest first, its base last where it has one; snapshots: those that stay."""

    turns: tuple[str, ...]
    snapshots: frozenset[str]
    kept: int
    nbytes: int


def chain(head: str | None, outlines: Mapping[str, Outline]) -> list[Outline]:
    """The stored turns from the head back, newest first."""
    found: list[Outline] = []
    while head is not None and (turn := outlines.get(head)) is not None and len(found) < len(outlines):
        found.append(turn)
        head = turn.parent
    return found


def needs(
    head: str | None,
    outlines: Mapping[str, Outline],
    snapshots: Mapping[str, SnapshotOutline],
    turns_kept: int,
    snapshots_kept: int,
) -> Needs:
    """What a branch that stands at `head` needs, and how many bytes that is."""
    turns = chain(head, outlines)
    saved = [i for i, turn in enumerate(turns) if turn.id in snapshots]  # newest first
    base = next((i for i in saved if i >= turns_kept - 1), None)
    if base is None and turns and turns[-1].parent is not None:
        base = len(turns) - 1  # trimmed before, and rewound since
    if base is not None:
        turns = turns[: base + 1]
    order = [turns[i].id for i in reversed(saved) if i < len(turns)]  # oldest first
    fixed = {name for name in (turns[base].id if base is not None else None, order[-1] if order else None) if name}
    positions = [snapshots[name].position for name in order]
    dropped = thin(positions, {i for i, name in enumerate(order) if name in fixed}, snapshots_kept)
    stay = frozenset(name for i, name in enumerate(order) if i not in dropped)
    blocks = {block: size for name in stay for block, size in snapshots[name].blocks.items()}
    nbytes = sum(turn.nbytes for turn in turns) + sum(snapshots[name].nbytes for name in stay) + sum(blocks.values())
    # The base itself can be gone back to, but nothing before it.
    return Needs(tuple(turn.id for turn in turns), stay, len(turns), nbytes)


class Retention:
    """Every method raises StoreUnavailable when the store can't be reached."""

    def __init__(self, context: Context) -> None:
        self._c = context

    async def outlines(self, lineage: str) -> dict[str, Outline]:
        """All stored turns of a lineage. Those that can't be read are left out: whoever needs one names it."""
        flat = await self._c.connection.run(OUTLINE, [self._c.keys.turns(lineage)], [])
        found: dict[str, Outline] = {}
        for name, head, nbytes in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            with suppress(CorruptState):
                found[name.decode()] = decode_outline(name.decode(), head, int(nbytes))
        return found

    async def snapshots(self, lineage: str) -> dict[str, SnapshotOutline | None]:
        """All snapshots of a lineage; None for a manifest that can't be read."""
        stored = await self._c.connection.call("HGETALL", self._c.keys.snaps(lineage))
        found: dict[str, SnapshotOutline | None] = {}
        for name, data in stored.items():
            found[name.decode()] = None
            with suppress(CorruptState):
                body = read_manifest(name.decode(), data)
                found[name.decode()] = SnapshotOutline(int(body["position"]), len(data), sizes(body))
        return found

    async def prune(self, lineage: str) -> bool:
        """Drop what no branch needs. False where something changed meanwhile: nothing was dropped."""
        keys, connection, options = self._c.keys, self._c.connection, self._c.options
        # The version first: what changes after it is read is noticed.
        fields = await connection.call("HGETALL", keys.lineage(lineage))
        version = fields.get(b"version")
        if version is None:
            return False
        branches = {int(name[2:]) for name in fields if name.startswith(b"b:")}
        names = {branch: ids.branch_id(lineage, branch) for branch in sorted(branches)}
        outlines, snapshots = await self.outlines(lineage), await self.snapshots(lineage)
        blocks = await connection.call("HKEYS", keys.blocks(lineage))
        # The heads last: every turn of theirs that is not among the outlines is newer, and nothing of it is dropped.
        answers = await connection.pipeline(
            [("HMGET", keys.session(name), "head", "kept", "stored_bytes") for name in names.values()]
        )
        heads = {branch: answer for branch, answer in zip(names, answers, strict=True) if answer[0] is not None}
        if any(head and head.decode() not in outlines for head, _, _ in heads.values()):
            return False  # a turn came meanwhile, or can't be read: its run can't be followed
        readable = {name: snapshot for name, snapshot in snapshots.items() if snapshot is not None}
        needed = {
            branch: needs(head.decode() or None, outlines, readable, options.turns_kept, options.snapshots_kept)
            for branch, (head, _, _) in heads.items()
        }
        turns = {turn for need in needed.values() for turn in need.turns}
        stay = {name for need in needed.values() for name in need.snapshots}
        used = {block for name in stay for block in readable[name].blocks}
        items: list[list[Any]] = [
            [name for name in snapshots if name not in stay],
            [name for name in outlines if name not in turns],
            [name for name in blocks if name.decode() not in used],
            [f"b:{branch}" for branch in branches - heads.keys()],
        ]
        changes = [
            (keys.session(names[branch]), need.kept - int(heads[branch][1]), need.nbytes - int(heads[branch][2]))
            for branch, need in needed.items()
        ]
        changes = [change for change in changes if change[1] or change[2]]
        if not any(items) and not changes:
            return True
        answer = await connection.run(
            PRUNE,
            [*_pruned_keys(self._c, lineage), *(key for key, _, _ in changes)],
            [version, *(len(part) for part in items), *(item for part in items for item in part), *_flat(changes)],
        )
        return bool(answer == b"OK")


def _pruned_keys(context: Context, lineage: str) -> Sequence[str]:
    keys = context.keys
    return keys.lineage(lineage), keys.snaps(lineage), keys.turns(lineage), keys.blocks(lineage)


def _flat(changes: Sequence[tuple[str, int, int]]) -> list[int]:
    return [number for _, kept, nbytes in changes for number in (kept, nbytes)]
