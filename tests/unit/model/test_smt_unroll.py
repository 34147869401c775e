"""SMT's `unroll` against `advance`, its gradients against finite differences, and what it can't see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.smt import Config, Smt
from model.smt_unroll import SmtUnroll
from model.state import State, as_rows
from model.weights import WeightsError
from support.tiny import make_ops, one_thread
from support.tiny_smt import SMT, smt, smt_tensors

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    torch.randint(0, SMT.vocab_size, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (30, 3, 0, 24)
]
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def trained() -> SmtUnroll:
    return SmtUnroll.load(SMT, smt_tensors(SMT))


@pytest.fixture(scope="module")
def expected() -> tuple[list[Tensor], State]:
    """`advance`, a token at a time: logits (n, V) of each of TEXTS, and the state after them."""
    model = smt(make_ops("ref"))
    state = State.zeros(model.spec, len(TEXTS))
    return [one_by_one(model, text, state.slice(b, b + 1)) for b, text in enumerate(TEXTS)], state


def one_by_one(model: Smt, text: list[int], state: State) -> Tensor:
    return torch.cat([torch.zeros(0, model.vocab_size), *(model.advance(*as_rows([[t]]), state)[0] for t in text)])


def assert_states(a: State, b: State) -> None:
    assert list(a) == list(b)
    for name, leaf in a.items():
        assert leaf.dtype == b[name].dtype, name
        torch.testing.assert_close(
            leaf.detach(), b[name].detach(), rtol=TOLERANCE, atol=TOLERANCE, msg=lambda m, n=name: f"{n}: {m}"
        )


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 30), max_size=4).map(sorted))
def test_equals_advance_at_any_split(trained: SmtUnroll, expected: tuple[list[Tensor], State], cuts: list[int]) -> None:
    """The rows then stand at different places of their strides."""
    state, logits = State.zeros(trained.spec, len(TEXTS)), [[] for _ in TEXTS]
    for a, b in zip([0, *cuts], [*cuts, 30], strict=True):
        tokens, lengths = as_rows([text[a:b] for text in TEXTS])
        out, state = trained.unroll(tokens, lengths, state)
        for row, one, n in zip(logits, out, lengths.tolist(), strict=True):
            row.append(one[:n])
            assert not one[n:].any()  # padding's logits are 0
    for got, wanted in zip(logits, expected[0], strict=True):
        torch.testing.assert_close(torch.cat(got), wanted, rtol=0, atol=TOLERANCE)
    assert_states(state, expected[1])


def test_windows_are_encoded_a_few_at_a_time(
    trained: SmtUnroll, expected: tuple[list[Tensor], State], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.smt_unroll.WINDOWS", 5)
    logits, _ = trained.unroll(*as_rows(TEXTS), State.zeros(trained.spec, 4))
    torch.testing.assert_close(logits[3, :24], expected[0][3], rtol=0, atol=TOLERANCE)


def test_a_state_of_one_goes_on_in_the_other_and_stays_as_it_was(
    trained: SmtUnroll, expected: tuple[list[Tensor], State]
) -> None:
    model, wanted = smt(make_ops("ref")), expected[0][0]
    state = State.zeros(model.spec, 1)
    model.advance(*as_rows([TEXTS[0][:13]]), state)
    before = state.clone()
    logits, after = trained.unroll(*as_rows([TEXTS[0][13:27]]), state)
    torch.testing.assert_close(logits[0], wanted[13:27], rtol=0, atol=TOLERANCE)
    assert state.equal(before)
    after = State(after.spec, {n: t.detach().clone() for n, t in after.items()})
    torch.testing.assert_close(one_by_one(model, TEXTS[0][27:], after), wanted[27:], rtol=0, atol=TOLERANCE)


def test_frozen_as_advance_has_it(trained: SmtUnroll) -> None:
    """Frozen within a stride, for longer than a window, and unfrozen within another."""
    model = smt(make_ops("ref"))
    states = State.zeros(model.spec, 1), State.zeros(trained.spec, 1)
    for part, frozen in ((TEXTS[0][:6], 1), (TEXTS[0][6:19], 0), (TEXTS[0][19:], 0)):
        wanted = one_by_one(model, part, states[0])
        logits, after = trained.unroll(*as_rows([part]), states[1])
        torch.testing.assert_close(logits[0], wanted, rtol=0, atol=TOLERANCE)
        states = states[0], State(after.spec, {n: t.detach().clone() for n, t in after.items()})
        assert_states(states[1], states[0])
        for state in states:
            state["frozen"].fill_(frozen)
    assert 0 < int(states[0]["writes"][0, 0]) < 30 // SMT.stride


def test_a_row_that_reads_nothing_keeps_its_bits(trained: SmtUnroll) -> None:
    _, state = trained.unroll(*as_rows(TEXTS), State.zeros(trained.spec, len(TEXTS)))
    _, after = trained.unroll(*as_rows([[5], [], [6, 7], []]), state)
    for b in (1, 3):
        assert after.slice(b, b + 1).equal(state.slice(b, b + 1))
    assert trained.unroll(*as_rows([[], [], [], []]), state)[1].equal(state)


def test_no_logit_depends_on_a_token_to_come(trained: SmtUnroll) -> None:
    """Bit for bit: of every token of a text, the logits before it are the same whatever it is."""
    tokens, lengths = as_rows([TEXTS[0][:14]])
    empty = State.zeros(trained.spec, 1)
    logits, _ = trained.unroll(tokens, lengths, empty)
    for t in range(14):
        other = tokens.clone()
        other[0, t] = (other[0, t] + 1) % SMT.vocab_size
        changed, _ = trained.unroll(other, lengths, empty)
        assert torch.equal(changed[0, :t], logits[0, :t])
        assert (changed[0, t:] - logits[0, t:]).abs().amax(dim=-1).min() > 0


def test_computing_again_gives_the_same(trained: SmtUnroll) -> None:
    def gradients(checkpoint: bool) -> list[Tensor]:
        trained.zero_grad()
        logits, _ = trained.unroll(*as_rows(TEXTS), State.zeros(trained.spec, 4), checkpoint=checkpoint)
        logits.square().mean().backward()
        return [p.grad.clone() for p in trained.parameters() if p.grad is not None]

    for kept, again in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(again, kept, rtol=1e-5, atol=1e-6)


def test_every_parameter_learns_from_the_beginning() -> None:
    """Of a new model: what is written, too, must have a gradient then."""
    torch.manual_seed(0)
    model = SmtUnroll(SMT)
    logits, _ = model.unroll(*as_rows([TEXTS[0]]), State.zeros(model.spec, 1))
    loss = torch.nn.functional.cross_entropy(logits[0, :-1], torch.tensor(TEXTS[0][1:]))
    assert abs(float(loss.detach()) - torch.tensor(97.0).log()) < 0.5
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_parameters_are_named_as_a_checkpoints_tensors(trained: SmtUnroll) -> None:
    assert set(trained.state_dict()) == set(smt_tensors(SMT).names())
    tensors = smt_tensors(SMT)
    del tensors.tensors["transformer.ln_f.bias"]
    with pytest.raises(WeightsError, match=r"transformer\.ln_f\.bias"):
        SmtUnroll.load(SMT, tensors)


SMALL = replace(
    SMT, vocab_size=7, n_ssm_outputs=2, m_input_tokens=3, stride=2, n_embd=8, n_head=2, n_inner=6, ssm_num_layers=1,
    ssm_intermediate_size=6, ssm_state_size=3, ssm_time_step_rank=2,
)  # fmt: skip


def loss_of(config: Config, names: list[str]) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """A loss over two calls as a function of some parameters and of the memory; float64 throughout."""
    model = SmtUnroll.load(config, smt_tensors(config)).double()
    g = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 7, (2, 9), generator=g)
    start = State.zeros(model.spec, 2)
    start["filled"].fill_(1)
    memory = {n: torch.randn(start[n].shape, generator=g).double() for n in ("slots", "ssm.0", "conv.0")}
    leaves = {n: t.double() if t.is_floating_point() else t for n, t in start.items()}
    weights = torch.randn(2, 9, 7, generator=g).double()

    def loss(*given: Tensor) -> Tensor:
        state = State(start.spec, leaves | dict(zip(memory, given[len(names) :], strict=True)))
        total = torch.zeros((), dtype=torch.float64)
        for part, lengths in ((tokens[:, :5], [5, 4]), (tokens[:, 5:], [4, 3])):
            replaced = {f"model.{n}": p for n, p in zip(names, given, strict=False)}
            call = (part, torch.tensor(lengths), state)
            logits, state = torch.func.functional_call(Caller(model), replaced, call)
            total = total + (logits.log_softmax(-1) * weights[:, : logits.shape[1]]).mean()
        return total

    own = dict(model.named_parameters())
    return loss, [t.detach().clone().requires_grad_() for t in (*(own[n] for n in names), *memory.values())]


class Caller(torch.nn.Module):
    """`functional_call` calls forward."""

    def __init__(self, model: SmtUnroll) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        return self.model.unroll(tokens, lengths, state)


def test_gradients_equal_finite_differences_along_a_random_direction() -> None:
    own = ("in_proj.weight", "conv1d.weight", "x_proj.weight", "dt_proj.bias", "A_log", "D", "out_proj.weight")
    names = [f"memory.layers.0.mixer.{n}" for n in own]
    names += ["memory.norm_f.weight", "pool.q_proj.weight", "pool.k_proj.weight", "transformer.wte.weight"]
    names += ["transformer.wpe.weight", "transformer.h.0.attn.c_attn.weight"]
    loss, given_ = loss_of(SMALL, names)
    assert torch.autograd.gradcheck(loss, given_, atol=1e-6, rtol=1e-4, fast_mode=True)
    for name, gradient in zip(names, torch.autograd.grad(loss(*given_), given_), strict=False):
        assert gradient.abs().max() > 1e-7, name
