"""A cluster: every command goes to the node that has its key's slot, and follows slots as they move.

redis-py has a client for clusters. It is not used, because it tries again without a pause, closes every connection,
other tasks' too, when a slot is not served, refuses work where its pool is used up instead of waiting, and asks a node
for the keys of every XREADGROUP.

What fails since a node is away, or a slot on the move, is sent again with pauses, as often as a single server's would
be; so, as everywhere in the store, what is sent must bear being sent twice. Commands to one node keep their order;
those of one batch to different nodes have none. It knows nothing of what errors mean to us.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import redis.exceptions
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from server.store.node import Address, Command, Node, pauses

# Times that commands follow their slots to other nodes before that counts as a failure.
_REDIRECTS = 8
_KEYLESS = frozenset({"CLUSTER", "CONFIG", "INFO", "PING", "PUBLISH", "PUBSUB"})


def key_of(command: Command) -> bytes | None:
    """The first key of a command; all its keys must share the slot. None: it goes to any node."""
    name = str(command[0])
    if name in ("EVAL", "EVALSHA"):
        place = 3
    elif name == "XREADGROUP":
        place = command.index("STREAMS", 4) + 1
    elif name in ("XGROUP", "XINFO"):
        place = 2
    elif name in _KEYLESS:
        return None
    else:
        place = 1
    key = command[place]
    return key if isinstance(key, bytes) else str(key).encode()


def resend(answer: Any) -> bool:
    """Whether an answer says that the command has to be sent again."""
    if isinstance(answer, redis.exceptions.AuthenticationError | redis.exceptions.AuthorizationError):
        return False
    return isinstance(
        answer,
        redis.exceptions.ConnectionError
        | redis.exceptions.TimeoutError
        | redis.exceptions.AskError  # MovedError is one
        | redis.exceptions.TryAgainError
        | redis.exceptions.ClusterDownError
        | OSError,
    )


class Cluster:
    """The nodes that have slots. A node's pool is made when it is first heard of, and closed when it has none."""

    def __init__(self, url: str, *, timeout_s: float, retries: int) -> None:
        """url: of any node."""
        self._url = url
        self._timeout_s = timeout_s
        self._retries = retries
        self._seed = self._connect(None)
        self._nodes: dict[Address, Node] = {}
        self._owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._stale = True
        self._hint: Node | None = None  # who knows of a change
        self._lock = asyncio.Lock()

    def _connect(self, address: Address | None) -> Node:
        return Node(self._url, address, timeout_s=self._timeout_s, retries=0)

    def _at(self, asked: Node, host: bytes | str | None, port: int) -> Node:
        """The node that another one names; a part that it leaves out is its own."""
        if not port:
            return asked
        name = host.decode() if isinstance(host, bytes) else host
        address = (name or asked.host, int(port))
        if address not in self._nodes:
            self._nodes[address] = self._connect(address)
        return self._nodes[address]

    def _any(self) -> Node:
        """One that answered last time, where there is one."""
        nodes = list(self._nodes.values()) or [self._seed]
        return random.choice([n for n in nodes if not n.failing] or nodes)  # noqa: S311 - not a secret

    # Who has which slot

    async def _refresh(self) -> None:
        """Ask until one says who has which slot. Raises redis-py's errors where none does."""
        async with self._lock:
            if not self._stale:
                return
            nodes = [*self._nodes.values(), self._seed]
            random.shuffle(nodes)
            nodes.sort(key=lambda node: (node is not self._hint, node.failing))
            for node in nodes:
                answer = (await self._ask(node, [("CLUSTER", "SLOTS")]))[0]
                if not isinstance(answer, Exception):
                    await self._learn(node, answer)
                    self._stale, self._hint = False, None
                    return
            raise answer

    async def _learn(self, asked: Node, slots: Sequence[Any]) -> None:
        owners: list[Node | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, (host, port, *_), *_ in slots:
            owners[first : last + 1] = [self._at(asked, host, port)] * (last + 1 - first)
        self._owners = owners
        having = set(owners)
        for address, node in list(self._nodes.items()):
            if node not in having:
                # What is on its way to it fails, and goes to the new owner.
                await self._nodes.pop(address).close()

    def _owner(self, command: Command) -> Node | None:
        key = key_of(command)
        return self._any() if key is None else self._owners[key_slot(key)]

    # Sending

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """The answers, errors among them: those of nodes that stay away, too."""
        answers: list[Any] = [None] * len(commands)
        todo = list(range(len(commands)))
        backoff, tries, redirects = pauses(), 0, 0
        while True:
            await self._round(commands, todo, answers)
            todo = [i for i in todo if resend(answers[i])]
            if not todo:
                return answers
            if redirects < _REDIRECTS and all(isinstance(answers[i], redis.exceptions.AskError) for i in todo):
                redirects += 1
                continue
            if tries == self._retries:
                return answers
            self._stale = True
            tries += 1
            await asyncio.sleep(backoff.compute(tries))

    async def _round(self, commands: Sequence[Command], todo: Sequence[int], answers: list[Any]) -> None:
        """Send these once, each to its node, all nodes at the same time."""
        if self._stale:
            try:
                await self._refresh()
            except (redis.exceptions.RedisError, OSError) as error:
                for i in todo:
                    answers[i] = error
                return
        batches: dict[tuple[Node, bool], list[int]] = {}
        for i in todo:
            before = answers[i]
            # ASK: the slot is moving, and what this key has is there already. Said for this one time only.
            if type(before) is redis.exceptions.AskError:
                batches.setdefault((self._at(self._any(), before.host, before.port), True), []).append(i)
            elif (owner := self._owner(commands[i])) is not None:
                batches.setdefault((owner, False), []).append(i)
            else:
                answers[i] = redis.exceptions.ClusterDownError("nobody has the slot")
        await asyncio.gather(
            *(self._batch(node, asking, commands, indices, answers) for (node, asking), indices in batches.items())
        )

    async def _batch(
        self, node: Node, asking: bool, commands: Sequence[Command], indices: Sequence[int], answers: list[Any]
    ) -> None:
        if asking:
            said = await self._ask(node, [c for i in indices for c in (("ASKING",), commands[i])])
            said = said[1::2]
        else:
            said = await self._ask(node, [commands[i] for i in indices])
        for i, answer in zip(indices, said, strict=True):
            answers[i] = answer
            if isinstance(answer, redis.exceptions.MovedError):
                self._hint = self._owners[answer.slot_id] = self._at(node, answer.host, answer.port)
                self._stale = True

    async def _ask(self, node: Node, commands: Sequence[Command]) -> list[Any]:
        """The node's answers; where its connection fails, that error for each."""
        try:
            answers = await node.send(commands)
        except (redis.exceptions.RedisError, OSError) as error:
            node.failing = True
            return [error] * len(commands)
        node.failing = False
        return answers

    def dedicated(self) -> Any:
        """A connection for pub/sub, to any node: what is published at one is heard at all."""
        return self._any().dedicated()

    async def close(self) -> None:
        """Close every connection."""
        for node in (*self._nodes.values(), self._seed):
            await node.close()
