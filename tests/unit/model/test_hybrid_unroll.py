"""The hybrid's `unroll` against its naive reference and `advance`, its gradients against finite differences, and what
it can't see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.hybrid import Config, Hybrid
from model.hybrid_ref import logits_ref
from model.hybrid_unroll import HybridUnroll
from model.memory import Scope
from model.state import State, as_rows
from model.unroll import detach
from model.weights import WeightsError
from support.tiny import make_ops, one_thread
from support.tiny_ssm import HYBRID, hybrid, hybrid_tensors

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

# Over windows of 16, blocks of 64 and pieces of 128.
LONGEST = 150
TEXTS = [
    torch.randint(0, HYBRID.vocab_size, (n,), generator=torch.Generator().manual_seed(n)).tolist()
    for n in (LONGEST, 3, 0, 70)
]
TOLERANCE = 1e-3
SHAPES: dict[str, dict[str, Any]] = {
    "sinks": {},
    "no-sinks": {"num_sink_tokens": 0, "tie_word_embeddings": False, "num_key_value_heads": 1},
    "other-pattern": {"layer_types": ("window", "mamba2", "mamba2", "window"), "mamba_n_groups": 1},
    "no-window": {"layer_types": ("mamba2",) * 4},
    "no-mamba": {"layer_types": ("window",) * 4},
}


@pytest.fixture(scope="module", params=SHAPES)
def config(request: pytest.FixtureRequest) -> Config:
    return replace(HYBRID, **SHAPES[request.param])


@pytest.fixture(scope="module")
def trained(config: Config) -> HybridUnroll:
    return HybridUnroll.load(config, hybrid_tensors(config))


@pytest.fixture(scope="module")
def expected(config: Config) -> tuple[list[Tensor], State]:
    """`advance`, a token at a time: logits (n, V) of each of TEXTS, and the state after them."""
    model = hybrid(make_ops("ref"), config=config)
    state = State.zeros(model.spec, len(TEXTS))
    return [one_by_one(model, text, state.slice(b, b + 1)) for b, text in enumerate(TEXTS)], state


@pytest.fixture(scope="module")
def usual() -> HybridUnroll:
    """Of the first shape, where one will do."""
    return HybridUnroll.load(HYBRID, hybrid_tensors(HYBRID))


def one_by_one(model: Hybrid, text: list[int], state: State) -> Tensor:
    return torch.cat([torch.zeros(0, model.vocab_size), *(model.advance(*as_rows([[t]]), state)[0] for t in text)])


def assert_states(a: State, b: State) -> None:
    assert list(a) == list(b)
    for name, leaf in a.items():
        assert leaf.dtype == b[name].dtype, name
        torch.testing.assert_close(
            leaf.detach(), b[name].detach(), rtol=TOLERANCE, atol=TOLERANCE, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_equals_the_naive_reference(config: Config) -> None:
    """Float64 against float64; 70 tokens, more than a block of Mamba-2's."""
    model = HybridUnroll.load(config, hybrid_tensors(config)).double()
    logits, _ = model.unroll(*as_rows([TEXTS[3]]), State.zeros(model.spec, 1))
    torch.testing.assert_close(logits[0], logits_ref(config, hybrid_tensors(config), TEXTS[3]), rtol=0, atol=1e-9)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, LONGEST), max_size=4).map(sorted))
def test_equals_advance_at_any_split(
    trained: HybridUnroll, expected: tuple[list[Tensor], State], cuts: list[int]
) -> None:
    """The rows then stand at different places of their rings."""
    state, logits = State.zeros(trained.spec, len(TEXTS)), [[] for _ in TEXTS]
    for a, b in zip([0, *cuts], [*cuts, LONGEST], strict=True):
        tokens, lengths = as_rows([text[a:b] for text in TEXTS])
        out, state = trained.unroll(tokens, lengths, state)
        for row, one, n in zip(logits, out, lengths.tolist(), strict=True):
            row.append(one[:n])
            assert not one[n:].any()  # padding's logits are 0
    for got, wanted in zip(logits, expected[0], strict=True):
        torch.testing.assert_close(torch.cat(got), wanted, rtol=0, atol=TOLERANCE)
    assert_states(state, expected[1])


def test_a_state_of_one_goes_on_in_the_other_and_stays_as_it_was(
    config: Config, trained: HybridUnroll, expected: tuple[list[Tensor], State]
) -> None:
    model, wanted = hybrid(make_ops("ref"), config=config), expected[0][0]
    state = State.zeros(model.spec, 1)
    model.advance(*as_rows([TEXTS[0][:13]]), state)
    before = state.clone()
    logits, after = trained.unroll(*as_rows([TEXTS[0][13:137]]), state)
    torch.testing.assert_close(logits[0], wanted[13:137], rtol=0, atol=TOLERANCE)
    assert state.equal(before)
    after = detach(after).clone()
    torch.testing.assert_close(one_by_one(model, TEXTS[0][137:], after), wanted[137:], rtol=0, atol=TOLERANCE)
    assert_states(after, expected[1].slice(0, 1))


@pytest.mark.parametrize("scope", list(Scope))
def test_after_a_reset_as_advance_has_it(usual: HybridUnroll, scope: Scope) -> None:
    """A window that was emptied is filled from its beginning, with sinks of its own, wherever the text stands."""
    model = hybrid(make_ops("ref"))
    states = State.zeros(model.spec, 1), State.zeros(usual.spec, 1)
    for part in (TEXTS[0][:27], TEXTS[0][27:38], TEXTS[0][38:70]):
        wanted = one_by_one(model, part, states[0])
        logits, after = usual.unroll(*as_rows([part]), states[1])
        torch.testing.assert_close(logits[0], wanted, rtol=0, atol=TOLERANCE)
        states = states[0], detach(after).clone()
        assert_states(states[1], states[0])
        for state in states:
            model.memory.reset(state, scope)


def test_a_row_that_reads_nothing_keeps_its_bits(trained: HybridUnroll) -> None:
    _, state = trained.unroll(*as_rows(TEXTS), State.zeros(trained.spec, len(TEXTS)))
    state["pending"].fill_(5)
    _, after = trained.unroll(*as_rows([[5], [], [6, 7], []]), state)
    for b in (1, 3):
        assert after.slice(b, b + 1).equal(state.slice(b, b + 1))
    assert after["pending"].tolist() == [0, 5, 0, 5]
    assert trained.unroll(*as_rows([[], [], [], []]), state)[1].equal(state)


def test_what_padding_holds_is_never_seen(trained: HybridUnroll) -> None:
    """Bit for bit, of logits and state."""
    tokens, lengths = as_rows(TEXTS)
    empty = State.zeros(trained.spec, len(TEXTS))
    logits, state = trained.unroll(tokens, lengths, empty)
    padding = torch.arange(LONGEST) >= lengths.unsqueeze(1)
    other, after = trained.unroll(torch.where(padding, 11, tokens), lengths, empty)
    assert torch.equal(other, logits)
    assert after.equal(state)


def watched(model: HybridUnroll) -> tuple[list[Tensor], Any]:
    """Embeddings, as they are looked up from here on; and the hook to remove."""
    inputs: list[Tensor] = []
    table = model.model.embed_tokens
    return inputs, table.register_forward_hook(lambda _, __, out: inputs.append(out.requires_grad_()) or out)


def test_no_gradient_comes_from_a_token_to_come(trained: HybridUnroll) -> None:
    """On both sides of a window's end and a block's, in every kind of layer."""
    for t in (3, 15, 16, 20, 63, 64):
        inputs, hook = watched(trained)
        logits, _ = trained.unroll(*as_rows([TEXTS[0][:70]]), State.zeros(trained.spec, 1))
        hook.remove()
        gradients = torch.autograd.grad(logits[0, t].square().sum(), inputs, allow_unused=True)
        reach = torch.cat([g[0].abs().amax(dim=-1) for g in gradients if g is not None and g.numel()])
        assert bool((reach[max(0, t - 15) : t + 1] > 0).all())
        assert not reach[t + 1 :].any()


def test_gradients_flow_from_call_to_call_and_beyond_the_window() -> None:
    """To tokens that have left the only window, which comes before the states; none where the state is cut off."""
    config = replace(HYBRID, layer_types=("window", "mamba2"), num_hidden_layers=2, num_sink_tokens=0)
    model = HybridUnroll.load(config, hybrid_tensors(config))
    inputs, hook = watched(model)
    _, state = model.unroll(*as_rows([TEXTS[0][:20]]), State.zeros(model.spec, 1))
    _, state = model.unroll(*as_rows([TEXTS[0][20:40]]), state)
    first = next(x for x in inputs if x.numel())
    logits, _ = model.unroll(*as_rows([TEXTS[0][40:44]]), state)
    cut, _ = model.unroll(*as_rows([TEXTS[0][40:44]]), detach(state))
    hook.remove()
    torch.testing.assert_close(cut, logits)
    (gradient,) = torch.autograd.grad(logits[0, -1].square().sum(), [first])
    assert gradient.abs().amax(dim=-1).min() > 0
    (gradient,) = torch.autograd.grad(cut[0, -1].square().sum(), [first], allow_unused=True)
    assert gradient is None


def test_computing_again_gives_the_same(trained: HybridUnroll) -> None:
    def gradients(checkpoint: bool) -> list[Tensor]:
        trained.zero_grad()
        logits, _ = trained.unroll(*as_rows(TEXTS), State.zeros(trained.spec, 4), checkpoint=checkpoint)
        logits.square().mean().backward()
        return [p.grad.clone() for p in trained.parameters() if p.grad is not None]

    for kept, again in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(again, kept, rtol=1e-5, atol=1e-6)


def test_under_autocast_states_stay_exact(usual: HybridUnroll) -> None:
    """Products in bfloat16: logits near, leaves in their dtypes, and what reads nothing keeps its bits."""
    expected, state = usual.unroll(*as_rows(TEXTS[:2]), State.zeros(usual.spec, 2))
    with torch.autocast("cpu", torch.bfloat16):
        got, after = usual.unroll(*as_rows(TEXTS[:2]), State.zeros(usual.spec, 2))
        _, later = usual.unroll(*as_rows([[], [5]]), state)
    assert got.dtype == torch.float32
    assert 0 < (got - expected).std() < 0.1 * expected.std()
    assert {n: leaf.dtype for n, leaf in after.items()} == {n: leaf.dtype for n, leaf in usual.spec.items()}
    assert later.slice(0, 1).equal(state.slice(0, 1))


def test_every_parameter_learns_from_the_beginning(config: Config) -> None:
    """Of a new model."""
    torch.manual_seed(0)
    model = HybridUnroll(config)
    logits, _ = model.unroll(*as_rows([TEXTS[0]]), State.zeros(model.spec, 1))
    loss = torch.nn.functional.cross_entropy(logits[0, :-1], torch.tensor(TEXTS[0][1:]))
    assert abs(float(loss.detach()) - torch.tensor(97.0).log()) < 0.5
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_parameters_are_named_as_a_checkpoints_tensors(config: Config, trained: HybridUnroll) -> None:
    assert set(trained.state_dict()) == set(hybrid_tensors(config).names())
    tensors = hybrid_tensors(config)
    del tensors.tensors["model.norm.weight"]
    with pytest.raises(WeightsError, match=r"model\.norm\.weight"):
        HybridUnroll.load(config, tensors)


SMALL = replace(
    HYBRID, vocab_size=7, hidden_size=8, num_hidden_layers=2, layer_types=("mamba2", "window"), intermediate_size=6,
    num_attention_heads=2, num_key_value_heads=1, head_dim=4, mamba_num_heads=2, mamba_head_dim=3, mamba_state_size=2,
    sliding_window_size=3, num_sink_tokens=1,
)  # fmt: skip


def loss_of(names: list[str]) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """A loss over two calls as a function of some parameters and of what the first state holds; float64 throughout."""
    model = HybridUnroll.load(SMALL, hybrid_tensors(SMALL)).double()
    g = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 7, (2, 12), generator=g)
    start = State.zeros(model.spec, 2)
    start["position"].fill_(4)  # so that all that the window and the sinks hold is seen
    held = {n: torch.randn(t.shape, generator=g).double() for n, t in start.items() if t.is_floating_point()}
    weights = torch.randn(2, 7, 7, generator=g).double()

    def loss(*given: Tensor) -> Tensor:
        state = State(start.spec, dict(start) | dict(zip(held, given[len(names) :], strict=True)))
        total = torch.zeros((), dtype=torch.float64)
        for part, lengths in ((tokens[:, :5], [5, 1]), (tokens[:, 5:], [7, 3])):
            replaced = {f"model.{n}": p for n, p in zip(names, given, strict=False)}
            call = (part, torch.tensor(lengths), state)
            logits, state = torch.func.functional_call(Caller(model), replaced, call)
            total = total + (logits.log_softmax(-1) * weights[:, : logits.shape[1]]).mean()
        return total

    own = dict(model.named_parameters())
    return loss, [t.detach().clone().requires_grad_() for t in (*(own[n] for n in names), *held.values())]


class Caller(torch.nn.Module):
    """`functional_call` calls forward."""

    def __init__(self, model: HybridUnroll) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        return self.model.unroll(tokens, lengths, state)


def test_gradients_equal_finite_differences_along_a_random_direction() -> None:
    names = [n for n, _ in HybridUnroll(SMALL).named_parameters()]
    loss, given_ = loss_of(names)
    assert torch.autograd.gradcheck(loss, given_, atol=1e-6, rtol=1e-4, fast_mode=True)
    for n, gradient in enumerate(torch.autograd.grad(loss(*given_), given_)):
        assert gradient.abs().max() > 1e-7, names[n] if n < len(names) else n
