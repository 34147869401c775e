"""A request that breaks a rule is refused where it is made or submitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from model.sampling import SamplingParams
from model.state import LeafSpec, State, StateSpec
from server.engine.request import EngineStoppedError, Request


def make(**fields: Any) -> Request:
    return Request(
        **{"id": "r", "session": "s", "tokens": (1,), "sampling": SamplingParams(), "max_tokens": 1} | fields
    )


def test_the_rules(toy: Any) -> None:
    with pytest.raises(ValueError, match="at least one token"):
        make(tokens=())
    with pytest.raises(ValueError, match="not from both"):
        make(warm="k", state=State.zeros(toy.spec, 1))
    with pytest.raises(ValueError, match="one row, not 2"):
        make(state=State.zeros(toy.spec, 2))
    with pytest.raises(ValueError, match="max_tokens is -1"):
        make(max_tokens=-1)


@pytest.mark.parametrize("field", ["tokens", "forced", "penalised"])
@pytest.mark.parametrize("token", [-1, 41])
def test_a_token_that_is_not_the_models_is_refused(desk: Callable[..., Any], field: str, token: int) -> None:
    d = desk()
    with pytest.raises(ValueError, match=f"token {token} is not in a vocabulary of 41"):
        d.engine.submit(make(**{field: (token,)}))
    d.engine.submit(make())  # the refused one left nothing behind
    d.run()
    assert len(d.tokens["r"]) == 1


def test_a_state_of_another_model_is_refused(desk: Callable[..., Any]) -> None:
    other = State.zeros(StateSpec({"x": LeafSpec((), torch.int64, "other")}), 1)
    with pytest.raises(ValueError, match="not of this model's specification"):
        desk().engine.submit(make(state=other))


def test_an_id_is_taken_until_its_row_is_let_go(desk: Callable[..., Any]) -> None:
    d = desk()
    d.submit("r", [1])
    with pytest.raises(ValueError, match="running already"):
        d.submit("r", [1])
    d.run()
    with pytest.raises(ValueError, match="running already"):
        d.submit("r", [1])
    d.engine.drop("r")
    d.run()
    d.finished.clear()
    d.submit("r", [1])
    d.run()
    assert len(d.tokens["r"]) == 10


def test_nothing_is_taken_after_drain_or_stop(desk: Callable[..., Any]) -> None:
    d = desk()
    d.engine.drain(1.0)
    with pytest.raises(EngineStoppedError):
        d.submit("r", [1])
    d.engine.cancel("x")  # other commands still are, until it has stopped
    d.engine.stop()
    with pytest.raises(EngineStoppedError):
        d.engine.cancel("x")


def test_an_engine_needs_a_slot(desk: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="0 slots"):
        desk(slots=0)
