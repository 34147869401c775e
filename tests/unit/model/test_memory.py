"""Operations on the memory of every variant of Senri: what they change, what they leave, and that they can be done
again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from model.memory import Kind, MemoryOperationError, Operation, Scope, describe, operate, shift
from model.state import Model, State, as_rows
from model.svd_clean import Cut
from support.subjects import SUBJECTS, Subject

# One backend knows all there is to know of a rule's memory.
VARIANTS = [pytest.param(s, id=v) for v, s in SUBJECTS["senri"].items() if v.endswith("cpu-f32") and "linear" not in v]
CLEAN = Operation(Kind.CLEAN, cut=Cut(0.6, drop_top=1))


@pytest.fixture(params=VARIANTS)
def subject(request: pytest.FixtureRequest) -> Subject:
    assert isinstance(request.param, Subject)
    return request.param


@pytest.fixture
def model(subject: Subject) -> Model:
    return subject.build()


def words(model: Model, count: int, seed: int = 3) -> list[int]:
    g = torch.Generator().manual_seed(seed)
    found: list[int] = torch.randint(0, model.vocab_size, (count,), generator=g).tolist()
    return found


def after(model: Model, text: list[int]) -> State:
    state = State.zeros(model.spec, 1)
    model.advance(*as_rows([text]), state)
    return state


def logits(model: Model, state: State, text: list[int]) -> torch.Tensor:
    """After the text, read into a copy."""
    found, _ = model.advance(*as_rows([text]), state.clone())
    return found[0]


def test_the_matrices_are_views_and_are_described_by_their_own_figures(model: Model) -> None:
    state = after(model, words(model, 48))
    matrices = model.memory.matrices(state)
    assert matrices
    assert len({matrix.place for matrix in matrices}) == len(matrices)
    assert [matrix.place for matrix in matrices] == sorted(matrix.place for matrix in matrices)
    for matrix in matrices:
        told = describe(model.memory, state, matrix)
        expected = np.linalg.svd(matrix.M.double().numpy(), compute_uv=False)
        np.testing.assert_allclose(told["singular_values"], expected, rtol=1e-4, atol=1e-6 * max(expected.max(), 1))
        assert told["norm"] == pytest.approx(np.linalg.norm(matrix.M.double().numpy()))
        assert told["rank"] == np.linalg.matrix_rank(matrix.M.numpy())
        assert told["writes"] > 0
        json.dumps(told)
    matrices[0].M.fill_(1.0)
    assert bool((model.memory.matrices(state)[0].M == 1).all())
    some = model.memory.layers[0]
    assert {matrix.layer for matrix in model.memory.matrices(state, [some])} == {some}


@pytest.mark.parametrize("scope", Scope)
def test_a_reset_empties_its_scope_and_nothing_else(model: Model, scope: Scope) -> None:
    state = after(model, words(model, 45))
    state["pending"].fill_(4)
    before = state.clone()
    operate(model.memory, state, Operation(Kind.RESET, scope))
    memory, window = ("M", "z", "seg", "conv", "writes", "waiting"), ("k", "v", "sink", "waiting")
    for name, leaf in state.items():
        kind = name.partition(".")[0].partition("_")[0]
        emptied = (kind in memory and scope is not Scope.WINDOW) or (kind in window and scope is not Scope.MEMORY)
        if name == "origin":
            assert int(leaf) == (0 if scope is Scope.MEMORY else 45)
        elif emptied:
            assert not leaf.any(), name
        else:
            assert torch.equal(leaf, before[name]), name


def test_after_a_reset_of_all_it_goes_on_as_from_the_beginning(model: Model, subject: Subject) -> None:
    """At the end of a segment: what comes is cut into segments as a first text is."""
    state = after(model, words(model, 40))
    operate(model.memory, state, Operation(Kind.RESET, Scope.ALL))
    text = words(model, 37, seed=4)
    expected = logits(model, State.zeros(model.spec, 1), text)
    torch.testing.assert_close(logits(model, state, text), expected, rtol=0, atol=2 * subject.tolerance)


def test_a_cleaning_done_again_is_the_same_whatever_its_cut_would_choose_now(model: Model) -> None:
    state = after(model, words(model, 48))
    again, start = state.clone(), state.clone()
    done, told = operate(model.memory, state, CLEAN)
    assert done.done is not None
    pairs = zip(model.memory.matrices(state), model.memory.matrices(start), strict=True)
    assert not any(torch.equal(a.M, b.M) for a, b in pairs if b.M.any())
    assert not any(model.memory.writes(state, layer) for layer in {place[0] for place in done.done})
    for before, matrix in zip(told, model.memory.matrices(state), strict=True):
        assert np.linalg.matrix_rank(matrix.M.numpy()) <= before["retained_rank"]
        assert before["retained_rank"] < before["rank"] or before["rank"] == 0  # a memory no key was sent to
    stored = Operation.from_json(json.loads(json.dumps(done.to_json())))
    assert stored == done
    # Other floats, in which the threshold could cut elsewhere.
    for matrix in model.memory.matrices(again):
        matrix.M.mul_(1 + 1e-6)
    assert operate(model.memory, again, stored)[0] == done
    for a, b in zip(model.memory.matrices(again), model.memory.matrices(state), strict=True):
        torch.testing.assert_close(a.M, b.M, rtol=1e-3, atol=1e-4)
    with pytest.raises(MemoryOperationError, match="matrices"):
        operate(model.memory, start, Operation(Kind.CLEAN, done={(0, 0, 0): (0, 1)}))


def test_one_layer_can_be_cleaned_alone(model: Model) -> None:
    state = after(model, words(model, 48))
    before = state.clone()
    layers = sorted({matrix.layer for matrix in model.memory.matrices(state)})
    done, _ = operate(model.memory, state, Operation(Kind.CLEAN, layers=(layers[0],), cut=Cut(0.5)))
    assert done.done is not None
    assert {place[0] for place in done.done} == {layers[0]}
    for layer in layers[1:]:
        assert torch.equal(state[f"M.{layer}"], before[f"M.{layer}"])


def test_freezing_shows_and_an_unknown_layer_is_refused_by_name(model: Model) -> None:
    state = after(model, words(model, 20))
    operate(model.memory, state, Operation(Kind.FREEZE))
    assert model.memory.frozen(state)
    before = state.clone()
    with pytest.raises(MemoryOperationError, match="layer 0 of this model has no memory") as caught:
        operate(model.memory, state, Operation(Kind.INSPECT, layers=(0,)))
    assert caught.value.param == "layers"
    with pytest.raises(MemoryOperationError, match="window"):
        operate(model.memory, state, Operation(Kind.RESET, Scope.ALL, layers=(1,)))
    assert state.equal(before)
    operate(model.memory, state, Operation(Kind.UNFREEZE))
    assert not model.memory.frozen(state)


def test_the_shift_is_the_divergence_of_the_next_tokens_distribution() -> None:
    before, now = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([0.0, 1.0, 2.0])
    p, q = torch.softmax(before, 0), torch.softmax(now, 0)
    told = shift(before, now)
    assert told["kl"] == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-5)
    assert told["same_top"] is False
    assert shift(before, before + 5) == {"kl": pytest.approx(0.0, abs=1e-9), "same_top": True}
