"""RSM's `unroll` against `advance`, its gradients against finite differences, and what it can't see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model import rsm_layers
from model.rsm import Config, Rsm
from model.rsm_unroll import RsmUnroll
from model.state import State, as_rows
from model.weights import WeightsError
from support.tiny import make_ops, one_thread
from support.tiny_rsm import RSM, rsm, rsm_tensors

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    torch.randint(0, RSM.vocab_size, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (44, 3, 0, 32)
]
TOLERANCE = 1e-3


@pytest.fixture(scope="module", params=[2, 0], ids=["sync", "no-sync"])
def config(request: pytest.FixtureRequest) -> Config:
    return replace(RSM, sync_every=request.param)


@pytest.fixture(scope="module")
def trained(config: Config) -> RsmUnroll:
    return RsmUnroll.load(config, rsm_tensors(config))


@pytest.fixture(scope="module")
def expected(config: Config) -> tuple[list[Tensor], State]:
    """`advance`, a token at a time: logits (n, V) of each of TEXTS, and the state after them."""
    model = rsm(make_ops("ref"), config=config)
    state = State.zeros(model.spec, len(TEXTS))
    return [one_by_one(model, text, state.slice(b, b + 1)) for b, text in enumerate(TEXTS)], state


def one_by_one(model: Rsm, text: list[int], state: State) -> Tensor:
    return torch.cat([torch.zeros(0, model.vocab_size), *(model.advance(*as_rows([[t]]), state)[0] for t in text)])


def assert_states(a: State, b: State) -> None:
    assert list(a) == list(b)
    for name, leaf in a.items():
        assert leaf.dtype == b[name].dtype, name
        torch.testing.assert_close(
            leaf.detach(), b[name].detach(), rtol=TOLERANCE, atol=TOLERANCE, msg=lambda m, n=name: f"{n}: {m}"
        )


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 44), max_size=4).map(sorted))
def test_equals_advance_at_any_split(trained: RsmUnroll, expected: tuple[list[Tensor], State], cuts: list[int]) -> None:
    """The rows then stand at different places of their chunks."""
    state, logits = State.zeros(trained.spec, len(TEXTS)), [[] for _ in TEXTS]
    for a, b in zip([0, *cuts], [*cuts, 44], strict=True):
        tokens, lengths = as_rows([text[a:b] for text in TEXTS])
        out, state = trained.unroll(tokens, lengths, state)
        for row, one, n in zip(logits, out, lengths.tolist(), strict=True):
            row.append(one[:n])
            assert not one[n:].any()  # padding's logits are 0
    for got, wanted in zip(logits, expected[0], strict=True):
        torch.testing.assert_close(torch.cat(got), wanted, rtol=0, atol=TOLERANCE)
    assert_states(state, expected[1])


def test_whole_chunks_are_read_as_parts_of_them_are(
    trained: RsmUnroll, expected: tuple[list[Tensor], State], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks of 8 from their beginning to their end, and what is left; 32 tokens of two rows, then 12 of one."""
    whole: list[bool] = []
    made = rsm_layers.Piece.__init__

    def seen(self: rsm_layers.Piece, *given: Any) -> None:
        made(self, *given)
        whole.append(self.whole)

    monkeypatch.setattr(rsm_layers.Piece, "__init__", seen)
    logits, state = trained.unroll(*as_rows([TEXTS[0][:32], TEXTS[3]]), State.zeros(trained.spec, 2))
    more, _ = trained.unroll(*as_rows([TEXTS[0][32:], []]), state)
    assert whole == [True] * 4 + [False] * 2
    torch.testing.assert_close(torch.cat((logits[0], more[0])), expected[0][0], rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(logits[1], expected[0][3], rtol=0, atol=TOLERANCE)
    assert_states(state.slice(1, 2), expected[1].slice(3, 4))


def test_a_state_of_one_goes_on_in_the_other_and_stays_as_it_was(
    config: Config, trained: RsmUnroll, expected: tuple[list[Tensor], State]
) -> None:
    model, wanted = rsm(make_ops("ref"), config=config), expected[0][0]
    state = State.zeros(model.spec, 1)
    model.advance(*as_rows([TEXTS[0][:13]]), state)
    before = state.clone()
    logits, after = trained.unroll(*as_rows([TEXTS[0][13:37]]), state)
    torch.testing.assert_close(logits[0], wanted[13:37], rtol=0, atol=TOLERANCE)
    assert state.equal(before)
    after = State(after.spec, {n: t.detach().clone() for n, t in after.items()})
    torch.testing.assert_close(one_by_one(model, TEXTS[0][37:], after), wanted[37:], rtol=0, atol=TOLERANCE)


def test_frozen_as_advance_has_it(config: Config, trained: RsmUnroll) -> None:
    """Frozen in the middle of a chunk, unfrozen in the next but one."""
    model = rsm(make_ops("ref"), config=config)
    states = State.zeros(model.spec, 1), State.zeros(trained.spec, 1)
    for part, frozen in ((TEXTS[0][:13], 1), (TEXTS[0][13:26], 0), (TEXTS[0][26:], 0)):
        wanted = one_by_one(model, part, states[0])
        logits, after = trained.unroll(*as_rows([part]), states[1])
        torch.testing.assert_close(logits[0], wanted, rtol=0, atol=TOLERANCE)
        states = states[0], State(after.spec, {n: t.detach().clone() for n, t in after.items()})
        assert_states(states[1], states[0])
        for state in states:
            state["frozen"].fill_(frozen)


def test_a_row_that_reads_nothing_keeps_its_bits(trained: RsmUnroll) -> None:
    _, state = trained.unroll(*as_rows(TEXTS), State.zeros(trained.spec, len(TEXTS)))
    _, after = trained.unroll(*as_rows([[5], [], [6, 7], []]), state)
    for b in (1, 3):
        assert after.slice(b, b + 1).equal(state.slice(b, b + 1))
    assert trained.unroll(*as_rows([[], [], [], []]), state)[1].equal(state)


def test_no_gradient_comes_from_a_token_to_come(trained: RsmUnroll) -> None:
    """Of the last token of a chunk, of one in the middle, and of the first of the next, in every layer and memory."""
    table = trained.model.embed_tokens
    for t in (3, 7, 8, 20):
        inputs: list[Tensor] = []
        hook = table.register_forward_hook(lambda _, __, out, seen=inputs: seen.append(out.requires_grad_()) or out)
        logits, _ = trained.unroll(*as_rows([TEXTS[0][:24]]), State.zeros(trained.spec, 1))
        hook.remove()
        gradients = torch.autograd.grad(logits[0, t].square().sum(), inputs, allow_unused=True)
        by_token = [g for g in gradients if g is not None and g.numel()]
        reach = torch.cat([g[0].abs().amax(dim=-1) for g in by_token])
        assert bool((reach[: t + 1] > 0).all())
        assert not reach[t + 1 :].any()


def test_computing_again_gives_the_same(trained: RsmUnroll) -> None:
    def gradients(checkpoint: bool) -> list[Tensor]:
        trained.zero_grad()
        logits, _ = trained.unroll(*as_rows(TEXTS), State.zeros(trained.spec, 4), checkpoint=checkpoint)
        logits.square().mean().backward()
        return [p.grad.clone() for p in trained.parameters() if p.grad is not None]

    for kept, again in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(again, kept, rtol=1e-5, atol=1e-6)


def test_every_parameter_learns(trained: RsmUnroll) -> None:
    trained.zero_grad()
    logits, _ = trained.unroll(*as_rows([TEXTS[0]]), State.zeros(trained.spec, 1))
    torch.nn.functional.cross_entropy(logits[0, :-1], torch.tensor(TEXTS[0][1:])).backward()
    for name, parameter in trained.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_parameters_are_named_as_a_checkpoints_tensors(config: Config, trained: RsmUnroll) -> None:
    assert set(trained.state_dict()) == set(rsm_tensors(config).names())
    tensors = rsm_tensors(config)
    del tensors.tensors["model.norm.weight"]
    with pytest.raises(WeightsError, match=r"model\.norm\.weight"):
        RsmUnroll.load(config, tensors)


SMALL = Config(
    vocab_size=7, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=6, num_memory_slots=2,
    chunk_size=3, sync_every=2,
)  # fmt: skip


def loss_of(names: list[str]) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """A loss over two calls as a function of some parameters and of M; float64 throughout."""
    model = RsmUnroll.load(SMALL, rsm_tensors(SMALL)).double()
    g = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 7, (2, 12), generator=g)
    start = State.zeros(model.spec, 2)
    M = {n: torch.randn(leaf.shape, generator=g).double() for n, leaf in start.items() if n.startswith("M.")}
    leaves = {n: t.double() if t.is_floating_point() else t for n, t in start.items()}
    weights = torch.randn(2, 7, 7, generator=g).double()

    def loss(*given: Tensor) -> Tensor:
        state = State(start.spec, leaves | dict(zip(M, given[len(names) :], strict=True)))
        total = torch.zeros((), dtype=torch.float64)
        for part, lengths in ((tokens[:, :5], [5, 4]), (tokens[:, 5:], [7, 3])):
            replaced = {f"model.{n}": p for n, p in zip(names, given, strict=False)}
            call = (part, torch.tensor(lengths), state)
            logits, state = torch.func.functional_call(Caller(model), replaced, call)
            total = total + (logits.log_softmax(-1) * weights[:, : logits.shape[1]]).mean()
        return total

    own = dict(model.named_parameters())
    return loss, [t.detach().clone().requires_grad_() for t in (*(own[n] for n in names), *M.values())]


class Caller(torch.nn.Module):
    """`functional_call` calls forward."""

    def __init__(self, model: RsmUnroll) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        return self.model.unroll(tokens, lengths, state)


def test_gradients_equal_finite_differences_along_a_random_direction() -> None:
    own = ("write.slots", "write.queries", "write.a_proj.weight", "write.g_proj.bias", "read.k_proj.weight")
    names = [f"model.layers.0.{n}" for n in own] + ["model.sync.k_proj.weight", "model.sync.read.v_proj.weight"]
    loss, given_ = loss_of(names)
    assert torch.autograd.gradcheck(loss, given_, atol=1e-6, rtol=1e-4, fast_mode=True)
    for name, gradient in zip(names, torch.autograd.grad(loss(*given_), given_), strict=False):
        assert gradient.abs().max() > 1e-6, name
