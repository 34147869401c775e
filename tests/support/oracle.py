"""What a session's text should be: the plain loop over one sequence of tokens, in this process, from its beginning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from model.generate import generate
from model.kernels import choose_ops
from model.memory import Operation, operate
from model.registry import load_model
from model.sampling import History, SamplingParams, sample
from model.state import State, as_rows

CHUNK = 256


class Oracle:
    """The model of a checkpoint as a server in batch-invariant mode runs it."""

    def __init__(self, checkpoint: Path | str, sliding_window: int) -> None:
        ops = choose_ops("auto", batch_invariant=True)
        # The backend has its threads by now; what is left to torch is small, as in a worker.
        torch.set_num_threads(1)
        self._model = load_model(str(checkpoint), ops, sliding_window_size=sliding_window).model

    def turn(
        self, before: Sequence[int], read: Sequence[int], count: int, params: SamplingParams
    ) -> list[tuple[int, Tensor]]:
        """The `count` tokens that follow `before` and then what a turn reads, with the log-softmax (V,) float64 that
        each was drawn from; only what the turn reads and draws is penalised."""
        state, history = State.zeros(self._model.spec, 1), History(read)
        unread, made = [*before, *read], list[tuple[int, Tensor]]()
        while len(made) < count:
            for start in range(0, len(unread), CHUNK):
                logits, state = self._model.advance(*as_rows([unread[start : start + CHUNK]]), state)
            (one,) = sample(logits, [params], [int(state["position"][0])], [history])
            history.push(one.token)
            state["pending"].fill_(1 + one.token)
            made.append((one.token, logits[0].double().log_softmax(-1)))
            unread = [one.token]
        return made

    def next_after(self, steps: Sequence[Sequence[int] | Operation], seed: int, count: int) -> list[int]:
        """As `next`, after runs of tokens and operations on the memory. An operation finds all read but one token."""
        state, unread = State.zeros(self._model.spec, 1), list[int]()
        for step in steps:
            if isinstance(step, Operation):
                state = self._read(unread[:-1], state)
                state["pending"].fill_(1 + unread[-1])
                unread = unread[-1:]
                operate(self._model.memory, state, step)
            else:
                unread += step
        params = SamplingParams(temperature=0.8, seed=seed, banned=frozenset({257}))
        state, history, made = self._read(unread[:-1], state), History(()), list[int]()
        token = unread[-1]
        while len(made) < count:
            logits, state = self._model.advance(*as_rows([[token]]), state)
            (one,) = sample(logits, [params], [int(state["position"][0])], [history])
            token = one.token
            made.append(token)
        return made

    def _read(self, tokens: Sequence[int], state: State) -> State:
        for start in range(0, len(tokens), CHUNK):
            self._model.advance(*as_rows([tokens[start : start + CHUNK]]), state)
        return state

    def next(self, tokens: Sequence[int], seed: int, count: int, temperature: float = 0.8) -> list[int]:
        """The `count` tokens that follow; no token ends the text."""
        params = SamplingParams(temperature=temperature, seed=seed, banned=frozenset({257}))
        return [drawn.token for drawn in generate(self._model, tokens, params, count)]
