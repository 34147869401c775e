"""The seven state laws, for every registered architecture and its variants."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.registry import ARCHITECTURES
from model.state import Model, State, StateError, as_rows, from_bytes, to_bytes
from support.subjects import SUBJECTS, Subject

Text = list[int]

# The plain backend is slow, more so on a busy machine.
pytestmark = pytest.mark.timeout(400)


def read(model: Model, text: Text, state: State) -> Tensor:
    """Logits (V,) after a text read into a state of one row."""
    logits, _ = model.advance(*as_rows([text]), state)
    return logits[0]


def empty(model: Model, rows: int = 1) -> State:
    return State.zeros(model.spec, rows)


def assert_close(a: State, b: State, tolerance: float) -> None:
    for name, leaf in a.items():
        torch.testing.assert_close(leaf, b[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def test_every_architecture_is_under_the_laws() -> None:
    assert SUBJECTS.keys() == ARCHITECTURES.keys()


def test_1_complete(subject: Subject, text: Text) -> None:
    """The state alone goes on: in another instance, while the first has read something else in between."""
    first, state = subject.build(), empty(subject.build())
    read(first, text[:21], state)
    saved = state.clone()
    read(first, text[30:], empty(first))  # would show in anything mutable on the module
    there = read(first, text[21:], state)
    here = read(subject.build(), text[21:], saved)
    assert torch.equal(there, here)
    assert state.equal(saved)
    assert int(state["position"]) == len(text)


def test_1_pending_is_part_of_the_state_until_something_is_read(model: Model, text: Text) -> None:
    state = empty(model)
    state["pending"].fill_(1 + text[3])
    restored = from_bytes(model.spec, to_bytes(state))
    assert int(restored["pending"]) == 1 + text[3]
    read(model, text[3:5], restored)
    assert int(restored["pending"]) == 0


def test_2_fixed_size(model: Model, text: Text) -> None:
    state = empty(model)
    before = {n: (t.shape, t.dtype) for n, t in state.items()}
    sizes = {len(to_bytes(state))}
    for _ in range(3):
        read(model, text, state)
        sizes.add(len(to_bytes(state)))
    assert {n: (t.shape, t.dtype) for n, t in state.items()} == before
    assert len(sizes) == 1
    assert sum(t.nbytes for t in state.values()) == model.spec.nbytes


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 50), max_size=6))
def test_3_continuation_at_any_split(model: Model, subject: Subject, text: Text, cuts: list[int]) -> None:
    whole, parts = empty(model), empty(model)
    expected = read(model, text, whole)
    edges = [0, *sorted(set(cuts) - {0, 50}), 50]
    for a, b in itertools.pairwise(edges):
        got = read(model, text[a:b], parts)
    torch.testing.assert_close(got, expected, rtol=0, atol=subject.tolerance)
    assert_close(parts, whole, subject.tolerance)
    if subject.invariant:
        assert torch.equal(got, expected)
        assert parts.equal(whole)


def test_3_continuation_across_every_boundary(model: Model, subject: Subject, text: Text) -> None:
    """Split one before, at and one after each place where something wraps; and one token at a time."""
    whole = empty(model)
    expected = read(model, text, whole)
    for cut in {c + d for c in subject.boundaries for d in (-1, 0, 1)}:
        parts = empty(model)
        read(model, text[:cut], parts)
        got = read(model, text[cut:], parts)
        torch.testing.assert_close(got, expected, rtol=0, atol=subject.tolerance)
    single = empty(model)
    for token in text:
        got = read(model, [token], single)
    torch.testing.assert_close(got, expected, rtol=0, atol=subject.tolerance)
    assert_close(single, whole, subject.tolerance)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_4_rows_are_independent(model: Model, subject: Subject, lengths: list[int], seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    texts = [torch.randint(0, model.vocab_size, (n + 1,), generator=g).tolist() for n in lengths]
    together = empty(model, len(texts))
    model.advance(*as_rows([t[:-1] for t in texts]), together)
    logits, _ = model.advance(*as_rows([t[-1:] for t in texts]), together)  # a decode step of all rows
    for b, one in enumerate(texts):
        alone = empty(model)
        read(model, one[:-1], alone)
        expected = read(model, one[-1:], alone)
        torch.testing.assert_close(logits[b], expected, rtol=0, atol=subject.tolerance)
        if subject.invariant:
            assert torch.equal(logits[b], expected)
            assert together.slice(b, b + 1).equal(alone)


def test_4_another_rows_text_changes_nothing(model: Model, text: Text) -> None:
    """Not within a tolerance: same shapes, so the same bits, whatever the neighbour says."""
    results = []
    for neighbour in (text[:20], text[20:40]):
        state = empty(model, 2)
        logits, _ = model.advance(*as_rows([text[:20], neighbour]), state)
        results.append((logits[0], state.slice(0, 1).clone()))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1].equal(results[1][1])


def test_5_padding_is_a_no_op(model: Model, subject: Subject, text: Text) -> None:
    state = empty(model, 3)
    model.advance(*as_rows([text[:19], text[5:30], text[:3]]), state)
    before = state.clone()
    model.advance(*as_rows([text[19:30], [], []]), state)  # rows 1 and 2 are padding throughout
    assert state.slice(1, 3).equal(before.slice(1, 3))
    assert not state.slice(0, 1).equal(before.slice(0, 1))
    tokens, lengths = as_rows([text[19:22], text[:9]])  # row 0 padded from 3 to 9, with two different paddings
    after = []
    for pad in (0, model.vocab_size - 1):
        padded, row = tokens.clone(), before.slice(0, 2).clone()
        padded[0, 3:] = pad
        logits, _ = model.advance(padded, lengths, row)
        after.append((logits[0], row))
    assert torch.equal(after[0][0], after[1][0])
    assert after[0][1].equal(after[1][1])
    unpadded = before.slice(0, 1).clone()
    expected = read(model, text[19:22], unpadded)
    torch.testing.assert_close(after[0][0], expected, rtol=0, atol=subject.tolerance)


def test_6_round_trip(model: Model, text: Text) -> None:
    state = empty(model)
    read(model, text[:37], state)
    data = to_bytes(state)
    restored = from_bytes(model.spec, data)
    assert restored.equal(state)
    assert torch.equal(read(model, text[37:], restored), read(model, text[37:], state))
    for cut in (0, 7, len(data) // 2, len(data) - 1):
        with pytest.raises(StateError):
            from_bytes(model.spec, data[:cut])


def test_7_unbounded_position(subject: Subject, text: Text) -> None:
    """The same local text gives the same logits wherever it stands."""
    model = subject.build()
    results = []
    for start in (1_000, 1_000_000, 1_000_000_000):
        state = empty(model)
        state["position"].fill_(start)
        results.append(read(model, text, state))
        assert int(state["position"]) == start + len(text)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=2 * subject.tolerance)
