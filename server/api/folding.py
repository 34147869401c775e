"""The hash of a conversation, from its messages as they are sent: what a turn is found by when they are sent again.

Every turn that is made of messages carries it on from the turn before, however that was named, so a conversation may be
held by its session, by responses or by its whole history, and by each in turn. Raw text and raw tokens end the chain:
nobody could send them again as messages.

It knows nothing of the store, nor of who looks a hash up (`openai.recognition`).
"""

import json
from collections.abc import Sequence
from typing import Any

from server.api.schemas.generate import Message
from server.store.history import fold, root


def opening(tenant: str, fingerprint: str, tools: Any = None) -> str:
    """Of a conversation in which nothing has been said. fingerprint: of the model with its template."""
    return root(tenant, fingerprint, canonical(tools or []))


def folded_on(before: str, message: Message) -> str:
    """Of the conversation with one more message."""
    plain = message.plain()
    if set(plain) == {"role", "content"}:
        return fold(before, message.role, message.content)
    return fold(before, f"{message.role} with tools", canonical(plain))


def asked(before: str | None, messages: Sequence[Message] | None) -> str | None:
    """Of the conversation up to and with what is asked. Slow for many messages.

    None where nobody can send it again: it has no beginning in messages, or the answer becomes a part of its last one.
    """
    if before is None or messages is None or messages[-1].role == "assistant":
        return None
    for message in messages:
        before = folded_on(before, message)
    return before


def canonical(value: Any) -> str:
    """JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
