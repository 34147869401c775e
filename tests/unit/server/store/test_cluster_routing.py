"""Which key a command is routed by, and which answers mean that it has to be sent again."""

from __future__ import annotations

import pytest
import redis.exceptions as theirs

from server.store.cluster import key_of, resend
from server.store.node import Command


@pytest.mark.parametrize(
    ("command", "key"),
    [
        (("HGETALL", "k"), b"k"),
        (("MGET", "k", "l"), b"k"),
        (("XADD", b"k", "*", "a", "b"), b"k"),
        (("EVALSHA", "sha", 2, "k", "l", "argument"), b"k"),
        (("EVAL", "source", 1, b"k"), b"k"),
        (("XREADGROUP", "GROUP", "g", "STREAMS", "COUNT", 1, "BLOCK", 9, "STREAMS", "k", "l", ">", ">"), b"k"),
        (("XINFO", "CONSUMERS", "k", "g"), b"k"),
        (("XGROUP", "CREATE", "k", "g", "0"), b"k"),
        (("PING",), None),
        (("INFO", "server"), None),
        (("PUBLISH", "channel", "message"), None),
        (("CLUSTER", "SLOTS"), None),
    ],
)
def test_a_command_is_routed_by_its_first_key(command: Command, key: bytes | None) -> None:
    assert key_of(command) == key


@pytest.mark.parametrize(
    ("answer", "again"),
    [
        (theirs.ConnectionError("gone"), True),
        (theirs.TimeoutError("late"), True),
        (theirs.BusyLoadingError("loading"), True),
        (ConnectionResetError(), True),
        (theirs.MovedError("1 10.0.0.1:1"), True),
        (theirs.AskError("1 10.0.0.1:1"), True),
        (theirs.TryAgainError("moving"), True),
        (theirs.ClusterDownError("down"), True),
        (theirs.AuthenticationError("no"), False),
        (theirs.NoScriptError("no"), False),
        (theirs.ResponseError("WRONGTYPE"), False),
        (theirs.OutOfMemoryError("full"), False),
        (None, False),
        ([b"an answer"], False),
    ],
)
def test_what_a_node_that_is_away_or_a_slot_on_the_move_answers_is_sent_again(answer: object, again: bool) -> None:
    assert resend(answer) is again
