"""The plain loop: read, sample, repeat. What everything batched is compared with.

It knows nothing of text, of other rows or of stopping early for anything but an end token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from model.sampling import History, Sampled, SamplingParams, sample
from model.state import Model, State, as_rows


def generate(
    model: Model,
    tokens: Sequence[int],
    params: SamplingParams,
    max_tokens: int,
    stop_ids: frozenset[int] = frozenset(),
    state: State | None = None,
    chunk: int = 256,
) -> Iterator[Sampled]:
    """Yield up to `max_tokens` sampled tokens, the end token included, that follow `tokens` (at least one).

    state: one row to go on from, advanced in place; absent, an empty one. It has read everything but the last token
    yielded, as at the end of a turn. `chunk` bounds how many tokens are read at a time and changes nothing else.
    """
    if not tokens:
        raise ValueError("there is nothing to read: tokens is empty")
    state = State.zeros(model.spec, 1, model.device) if state is None else state
    history = History(tokens)
    unread = list(tokens)
    for _ in range(max_tokens):
        for start in range(0, len(unread), chunk):
            logits, state = model.advance(*as_rows([unread[start : start + chunk]], state.device), state)
        (drawn,) = sample(logits, [params], [int(state["position"][0])], [history])
        history.push(drawn.token)
        state["pending"].fill_(1 + drawn.token)
        yield drawn
        if drawn.token in stop_ids:
            return
        unread = [drawn.token]
