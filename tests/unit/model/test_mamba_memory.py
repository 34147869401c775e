"""What can be done to the states of state space models, and what can't."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from model.memory import Kind, MemoryOperationError, Operation, Scope, describe, operate
from model.state import Model, State, as_rows
from model.svd_clean import Cut
from support.subjects import SUBJECTS
from support.tiny import one_thread

__all__ = ["one_thread"]

FAMILIES = ["mamba", "mamba2", "hybrid"]


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Products this small only wait for each other's threads."""


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> Model:
    return SUBJECTS[request.param]["cpu-f32"].build()


def words(model: Model, count: int, seed: int = 3) -> list[int]:
    g = torch.Generator().manual_seed(seed)
    found: list[int] = torch.randint(0, model.vocab_size, (count,), generator=g).tolist()
    return found


def after(model: Model, text: list[int]) -> State:
    state = State.zeros(model.spec, 1)
    model.advance(*as_rows([text]), state)
    return state


def test_every_state_is_a_matrix_described_by_its_own_figures(model: Model) -> None:
    state = after(model, words(model, 48))
    matrices = model.memory.matrices(state)
    leaves = {name: leaf for name, leaf in state.items() if name.startswith("ssm.")}
    assert {f"ssm.{matrix.layer}" for matrix in matrices} == leaves.keys()
    assert sum(matrix.M.numel() for matrix in matrices) == sum(leaf[0].numel() for leaf in leaves.values())
    assert [matrix.place for matrix in matrices] == sorted({matrix.place for matrix in matrices})
    for matrix in matrices:
        told = describe(model.memory, state, matrix)
        expected = np.linalg.svd(matrix.M.double().numpy(), compute_uv=False)
        np.testing.assert_allclose(told["singular_values"], expected, rtol=1e-4, atol=1e-6 * max(expected.max(), 1))
        assert told["writes"] == 48
        assert (told["norm_z"], told["gates"]) == (None, [])
        json.dumps(told)


def test_a_reset_layer_begins_anew_and_the_others_go_on(model: Model) -> None:
    state, text = after(model, words(model, 20)), words(model, 9, seed=4)
    before, chosen = state.clone(), model.memory.layers[1]
    operate(model.memory, state, Operation(Kind.RESET, Scope.MEMORY, (chosen,)))
    for name, leaf in state.items():
        if name in (f"ssm.{chosen}", f"conv.{chosen}"):
            assert not leaf.any(), name
        elif name != "writes":
            assert torch.equal(leaf, before[name]), name
    counts = [model.memory.writes(state, layer) for layer in model.memory.layers]
    assert counts == [0 if layer == chosen else 20 for layer in model.memory.layers]
    operate(model.memory, state, Operation(Kind.RESET, Scope.ALL))
    assert int(state["position"]) == 20
    fresh = State.zeros(model.spec, 1)
    there, _ = model.advance(*as_rows([text]), state)
    here, _ = model.advance(*as_rows([text]), fresh)
    assert torch.equal(there, here)


def test_a_cleaning_can_be_done_again(model: Model) -> None:
    state = after(model, words(model, 48))
    again = state.clone()
    done, told = operate(model.memory, state, Operation(Kind.CLEAN, cut=Cut(0.6, drop_top=1)))
    assert any(matrix["retained_rank"] < matrix["rank"] for matrix in told)
    assert not state.equal(again)
    assert {model.memory.writes(state, layer) for layer in model.memory.layers} == {0}
    repeated = Operation.from_json(json.loads(json.dumps(done.to_json())))
    operate(model.memory, again, repeated)
    assert again.equal(state)


def test_what_a_state_space_has_not_is_refused_by_name(model: Model) -> None:
    state = after(model, words(model, 5))
    before = state.clone()
    for operation, reason in (
        (Operation(Kind.RESET, Scope.ALL, (0,)), "layers choose among the memories alone"),
        (Operation(Kind.FREEZE), "cannot read its memory without writing it"),
        (Operation(Kind.UNFREEZE), "cannot read its memory without writing it"),
        (Operation(Kind.CLEAN, layers=(99,)), "layer 99 of this model has no memory"),
    ):
        with pytest.raises(MemoryOperationError, match=reason):
            operate(model.memory, state, operation)
    assert state.equal(before)
    assert not model.memory.frozen(state)


def test_only_a_hybrid_has_a_window_to_reset(model: Model) -> None:
    state = after(model, words(model, 30))
    before, reset = state.clone(), Operation(Kind.RESET, Scope.WINDOW)
    if "origin" not in state:
        with pytest.raises(MemoryOperationError, match="has no window, only states"):
            operate(model.memory, state, reset)
        assert state.equal(before)
        return
    operate(model.memory, state, reset)
    assert int(state["origin"]) == 30
    kept = [name for name in state if name.startswith(("ssm", "conv", "writes"))]
    assert kept
    assert all(torch.equal(state[name], before[name]) for name in kept)
    assert not any(leaf.any() for name, leaf in state.items() if name.startswith(("k.", "v.", "sink")))
