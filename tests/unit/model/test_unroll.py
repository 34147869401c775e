"""`unroll` against `advance` and the naive reference, its gradients against finite differences, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.infini import Rule
from model.memory import Scope
from model.senri import Config, Senri
from model.senri_ref import logits_ref
from model.state import State, as_rows
from model.unroll import Unroll, detach
from model.weights import WeightsError
from support.tiny import SENRI, make_ops, senri_tensors

TEXTS = [
    torch.randint(0, SENRI.vocab_size, (n,), generator=torch.Generator().manual_seed(n)).tolist()
    for n in (50, 3, 0, 41)
]
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Variant:
    """A tiny model."""

    change: dict[str, Any]
    gates: bool = True

    @property
    def config(self) -> Config:
        return replace(SENRI, **self.change)


VARIANTS = {
    "closed": Variant({}, gates=False),
    "linear": Variant({}),
    "delta": Variant({"memory_rule": Rule.DELTA}),
    "shared-linear": Variant({"share_memory": True}),
    "shared-delta": Variant({"memory_rule": Rule.DELTA, "share_memory": True}),
    "gated-delta": Variant({"memory_rule": Rule.GATED_DELTA}),
    "gated-delta-hidden": Variant(
        {"memory_rule": Rule.GATED_DELTA, "memory_value_source": "hidden", "memory_heads": 3, "memory_key_dim": 8}
    ),
    "gated-delta-late": Variant(
        {
            "memory_rule": Rule.GATED_DELTA,
            "memory_reads": "end",
            "memory_read_gate": True,
            "memory_read_norm": False,
            "memory_key_degree": 2,
            "memory_layer_indices": (1, 3),
        }
    ),
    "gated-delta-leaving": Variant({"memory_rule": Rule.GATED_DELTA, "memory_writes": "leaving"}),
    "gated-delta-without-weights": Variant({"memory_rule": Rule.GATED_DELTA}, gates=False),
    "memoryless": Variant({"num_memory_layers": 0}),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """These tensors are too small to share: threads would only wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


OFTEN = ("closed", "linear", "shared-delta", "gated-delta", "gated-delta-leaving")


@pytest.fixture(
    params=[pytest.param(v, marks=() if v in OFTEN else pytest.mark.full) for v in VARIANTS], scope="module"
)
def variant(request: pytest.FixtureRequest) -> Variant:
    return VARIANTS[request.param]


@pytest.fixture(scope="module")
def served(variant: Variant) -> Senri:
    return Senri(variant.config, senri_tensors(variant.config, gates=variant.gates), make_ops("ref"))


@pytest.fixture(scope="module")
def trained(variant: Variant) -> Unroll:
    return Unroll.load(variant.config, senri_tensors(variant.config, gates=variant.gates))


@pytest.fixture(scope="module")
def expected(served: Senri) -> tuple[list[Tensor], State]:
    """`advance`, a token at a time: logits (n, V) of each of TEXTS, and the state after them."""
    state = State.zeros(served.spec, len(TEXTS))
    return [one_by_one(served, text, state.slice(b, b + 1)) for b, text in enumerate(TEXTS)], state


def one_by_one(model: Senri, text: list[int], state: State) -> Tensor:
    """Logits (n, V)."""
    return torch.cat([torch.zeros(0, model.vocab_size), *(model.advance(*as_rows([[t]]), state)[0] for t in text)])


def assert_states(a: State, b: State) -> None:
    assert list(a) == list(b)
    for name, leaf in a.items():
        assert leaf.dtype == b[name].dtype, name
        torch.testing.assert_close(
            leaf, b[name].detach(), rtol=TOLERANCE, atol=TOLERANCE, msg=lambda m, n=name: f"{n}: {m}"
        )


def unrolled(model: Unroll, cuts: list[int], **how: Any) -> tuple[list[Tensor], State]:
    """TEXTS in parts: logits (n, V) of each, and the state."""
    state, logits = State.zeros(model.spec, len(TEXTS)), [[] for _ in TEXTS]
    for a, b in zip([0, *cuts], [*cuts, 50], strict=True):
        tokens, lengths = as_rows([text[a:b] for text in TEXTS])
        out, state = model.unroll(tokens, lengths, state, **how)
        for row, one, n in zip(logits, out, lengths.tolist(), strict=True):
            row.append(one[:n])
            assert not one[n:].any()  # padding's logits are 0
    return [torch.cat(row) for row in logits], state


@pytest.mark.parametrize("piece", [1, 128])
def test_equals_advance_at_every_position(
    trained: Unroll, expected: tuple[list[Tensor], State], piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces of one segment, or all at once; rows of different lengths, one of none."""
    monkeypatch.setattr("model.unroll.body.PIECE", piece)
    logits, state = unrolled(trained, [])
    for got, wanted in zip(logits, expected[0], strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=TOLERANCE)
    assert_states(state, expected[1])


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 50), max_size=4).map(sorted))
def test_equals_advance_at_any_split(trained: Unroll, expected: tuple[list[Tensor], State], cuts: list[int]) -> None:
    """The rows then stand at different places of their segments and windows."""
    logits, state = unrolled(trained, cuts)
    for got, wanted in zip(logits, expected[0], strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=TOLERANCE)
    assert_states(state, expected[1])


def test_a_state_of_one_goes_on_in_the_other(served: Senri, trained: Unroll, expected: Any) -> None:
    text, wanted = TEXTS[0], expected[0][0]
    state = State.zeros(served.spec, 1)
    served.advance(*as_rows([text[:13]]), state)
    before = state.clone()
    logits, after = trained.unroll(*as_rows([text[13:37]]), state)
    torch.testing.assert_close(logits[0], wanted[13:37], rtol=0, atol=TOLERANCE)
    assert state.equal(before)  # out of place
    assert after.spec.hash() == served.spec.hash()
    after = detach(after).clone()
    torch.testing.assert_close(one_by_one(served, text[37:], after), wanted[37:], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["linear", "delta", "gated-delta"])
def test_equals_the_naive_reference(name: str) -> None:
    """Out of a window of 16, over three segments of 8."""
    config, text = VARIANTS[name].config, TEXTS[0][:26]
    tensors = senri_tensors(config, gates=VARIANTS[name].gates)
    model = Unroll.load(config, tensors)
    logits, _ = model.unroll(*as_rows([text]), State.zeros(model.spec, 1))
    torch.testing.assert_close(logits[0].double(), logits_ref(config, tensors, text), rtol=0, atol=2e-3)


def test_frozen_and_emptied_as_advance_has_it(served: Senri, trained: Unroll) -> None:
    """Frozen in the middle of a segment, the window emptied in the middle of a text, unfrozen again."""
    states = State.zeros(served.spec, 1), State.zeros(trained.spec, 1)
    for part, frozen in ((TEXTS[0][:13], 1), (TEXTS[0][13:30], 0), (TEXTS[0][30:], 0)):
        wanted = one_by_one(served, part, states[0])
        logits, after = trained.unroll(*as_rows([part]), states[1])
        torch.testing.assert_close(logits[0], wanted, rtol=0, atol=TOLERANCE)
        states = states[0], detach(after).clone()
        assert_states(*states)
        for state in states:
            state["frozen"].fill_(frozen)
            if frozen:
                served.memory.reset(state, Scope.WINDOW)


def test_a_row_that_reads_nothing_keeps_its_bits_in_any_dtype(trained: Unroll) -> None:
    _, state = unrolled(trained, [])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        _, after = trained.unroll(*as_rows([[5], [], [6, 7], []]), state)
    for b in (1, 3):
        assert after.slice(b, b + 1).equal(state.slice(b, b + 1))
    _, empty = trained.unroll(*as_rows([[], [], [], []]), state)
    assert empty.equal(state)


def test_autocast_stays_close(trained: Unroll, expected: tuple[list[Tensor], State]) -> None:
    """bfloat16 products of logits whose standard deviation is about 8; the state stays float32."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, state = unrolled(trained, [20])
    assert (logits[0] - expected[0][0]).abs().mean() < 0.5
    assert {n: t.dtype for n, t in state.items()} == {n: s.dtype for n, s in trained.spec.items()}


def test_parameters_are_named_as_a_checkpoints_tensors(variant: Variant, trained: Unroll) -> None:
    names = set(trained.state_dict())
    closed = {f"model.layers.{i}.self_attn.gate" for i in variant.config.memory_layers}
    assert names - closed == set(senri_tensors(variant.config, gates=variant.gates).names()) - closed


def test_a_missing_tensor_is_named() -> None:
    config = VARIANTS["gated-delta"].config
    for name in ("model.layers.1.memory.o_proj.weight", "model.norm.weight"):
        tensors = senri_tensors(config, gates=True)
        del tensors.tensors[name]
        with pytest.raises(WeightsError, match=name):
            Unroll.load(config, tensors)


def test_several_memories_are_for_inference_only() -> None:
    with pytest.raises(WeightsError, match="num_memories is 2"):
        Unroll(replace(SENRI, num_memories=2))


# Gradients


SMALL = Config(
    vocab_size=7, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=4,
    intermediate_size=8, tie_word_embeddings=True, sliding_window_size=4, num_sink_tokens=1, chunk_size=3,
    memory_layer_indices=(0, 1), memory_heads=1, memory_key_dim=3, memory_value_dim=2, memory_conv_width=3,
)  # fmt: skip


def loss_of(config: Config, parameters: list[str]) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """A loss over two calls, as a function of some parameters and the M of both layers; float64 throughout."""
    model = Unroll.load(config, senri_tensors(config, gates=True)).double()
    g = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, config.vocab_size, (2, 12), generator=g)
    start = State.zeros(model.spec, 2)
    M = {name: torch.randn(leaf.shape, generator=g).double() for name, leaf in start.items() if name[:2] == "M."}
    z = {name: torch.rand(leaf.shape, generator=g).double() + 1.0 for name, leaf in start.items() if name[:2] == "z."}
    leaves = {n: t.double() if t.is_floating_point() else t for n, t in start.items()} | z
    weights = torch.randn(2, 7, config.vocab_size, generator=g).double()

    def loss(*given: Tensor) -> Tensor:
        replaced = dict(zip(parameters, given, strict=False))
        state = State(start.spec, leaves | dict(zip(M, given[len(parameters) :], strict=True)))
        total = torch.zeros((), dtype=torch.float64)
        # 5 and 4 tokens, then 7 and 3: segments of 3 end inside the calls and between them, windows of 4 are left.
        for part, lengths in ((tokens[:, :5], [5, 4]), (tokens[:, 5:], [7, 3])):
            logits, state = torch.func.functional_call(
                Caller(model), {f"model.{n}": p for n, p in replaced.items()}, (part, torch.tensor(lengths), state)
            )
            total = total + (logits.log_softmax(-1) * weights[:, : logits.shape[1]]).mean()
        return total

    own = dict(model.named_parameters())
    return loss, [
        *(own[n].detach().clone().requires_grad_() for n in parameters),
        *(m.requires_grad_() for m in M.values()),
    ]


class Caller(torch.nn.Module):
    """`functional_call` calls forward."""

    def __init__(self, model: Unroll) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, lengths: Tensor, state: State) -> tuple[Tensor, State]:
        return self.model.unroll(tokens, lengths, state)


INFINI = ["model.layers.0.self_attn.gate", "model.layers.1.self_attn.gate", "model.layers.0.self_attn.k_proj.weight"]
OWN = [
    f"model.layers.0.memory.{name}"
    for name in (
        "mean", "q_proj.weight", "k_proj.weight", "v_proj.weight", "q_conv.weight", "k_conv.weight", "v_conv.weight",
        "b_proj.weight", "b_proj.bias", "a_proj.weight", "dt_bias", "A_log", "norm.weight", "o_proj.weight",
    )
]  # fmt: skip


CASES = {
    "linear": ({}, INFINI),
    "delta": ({"memory_rule": Rule.DELTA}, INFINI),
    "shared": ({"memory_rule": Rule.DELTA, "share_memory": True}, INFINI),
    "gated-delta": ({"memory_rule": Rule.GATED_DELTA}, OWN),
    "gated-delta-hidden": ({"memory_rule": Rule.GATED_DELTA, "memory_value_source": "hidden"}, OWN),
}


@pytest.mark.parametrize("case", ["shared", "gated-delta"])
def test_gradients_equal_finite_differences_along_a_random_direction(case: str) -> None:
    change, parameters = CASES[case]
    loss, given_ = loss_of(replace(SMALL, **change), parameters)
    assert torch.autograd.gradcheck(loss, given_, atol=1e-6, rtol=1e-4, fast_mode=True)
    for name, gradient in zip(parameters, torch.autograd.grad(loss(*given_), given_), strict=False):
        assert gradient.abs().max() > 1e-6, name


@pytest.mark.full
@pytest.mark.parametrize("case", CASES)
def test_gradients_equal_finite_differences(case: str) -> None:
    """With respect to every number by itself, and none that has no effect."""
    change, parameters = CASES[case]
    loss, given_ = loss_of(replace(SMALL, **change), parameters)
    assert torch.autograd.gradcheck(loss, given_, atol=1e-7, rtol=1e-4)
    for name, gradient in zip(parameters, torch.autograd.grad(loss(*given_), given_), strict=False):
        assert gradient.abs().max() > 1e-6, name


def gradients(model: Unroll, tokens: Tensor, lengths: Tensor, **how: Any) -> dict[str, Tensor]:
    """Of every parameter that has one, after two calls with the state between them."""
    model.zero_grad()
    state, total = State.zeros(model.spec, len(lengths)), torch.zeros(())
    for part, n in ((tokens[:, :21], lengths.clamp(max=21)), (tokens[:, 21:], (lengths - 21).clamp(min=0))):
        logits, state = model.unroll(part, n, state, **how)
        total = total + logits.square().mean()
    total.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_gradients_computed_again_are_the_same(trained: Unroll, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.unroll.body.PIECE", 8)
    tokens, lengths = as_rows(TEXTS)
    kept, again = gradients(trained, tokens, lengths), gradients(trained, tokens, lengths, checkpoint=True)
    assert kept.keys() == again.keys()
    assert len(kept) > 30
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def saved_bytes(model: Unroll, count: int, *, checkpoint: bool) -> int:
    """What autograd holds on to after `count` tokens, each storage once."""
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    text = (TEXTS[0] * (count // 50 + 1))[:count]
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model.hidden(*as_rows([text]), State.zeros(model.spec, 1), checkpoint=checkpoint)
    assert out.hidden.requires_grad
    return sum(held.values())


def test_a_checkpointed_text_holds_on_to_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.unroll.body.PIECE", 8)
    model = Unroll.load(SENRI, senri_tensors(SENRI, gates=True))
    assert saved_bytes(model, 128, checkpoint=True) < saved_bytes(model, 128, checkpoint=False) / 10


def test_padding_has_no_part_in_any_gradient(trained: Unroll) -> None:
    """Whatever the padding is, and with a loss on every logit."""
    tokens, lengths = as_rows([TEXTS[0][:30], TEXTS[3][:11], []])
    clean = gradients(trained, tokens, lengths)
    padding = torch.arange(30) >= lengths[:, None]
    other = gradients(trained, tokens.masked_fill(padding, 96), lengths)
    assert all(torch.equal(gradient, other[name]) for name, gradient in clean.items())


def test_detach_cuts_the_history(trained: Unroll) -> None:
    _, state = trained.unroll(*as_rows([TEXTS[0]]), State.zeros(trained.spec, 1))
    assert state["k.3"].requires_grad
    assert not any(leaf.requires_grad for leaf in detach(state).values())
    assert detach(state).equal(state)


# The trace


def test_the_trace_is_what_the_memories_did() -> None:
    """A gated_delta memory whose W_o is doubled adds twice as much, where nothing before it has changed."""
    config = VARIANTS["gated-delta"].config
    model = Unroll.load(config, senri_tensors(config, gates=True))
    tokens, lengths = as_rows(TEXTS)
    state = State.zeros(model.spec, 4)
    state["frozen"][3] = 1
    once = model.hidden(tokens, lengths, state, trace=True).trace
    first = config.memory_layers[0]
    with torch.no_grad():
        model.get_parameter(f"model.layers.{first}.memory.o_proj.weight").mul_(2)
    twice = model.hidden(tokens, lengths, state, trace=True).trace
    assert once is not None
    assert twice is not None
    assert list(once.reads) == list(once.beta) == list(config.memory_layers)
    torch.testing.assert_close(twice.reads[first], 2 * once.reads[first])
    assert once.beta[first].shape == (4, 50, config.memory_heads)
    real = torch.arange(50) < lengths[:, None]
    real[3] = False  # frozen: not written
    assert (once.beta[first][real] > 0).all()
    assert not once.beta[first][~real].any()


def test_the_trace_of_infini_attention_is_its_read_through_the_output_projection() -> None:
    """With every gate wide open, what the attention adds is the read, once a segment was written."""
    tensors = senri_tensors(SENRI, gates=True)
    model = Unroll.load(SENRI, tensors)
    first = SENRI.memory_layers[0]
    with torch.no_grad():
        model.get_parameter(f"model.layers.{first}.self_attn.gate").fill_(40.0)
    added = []
    attention = model.get_submodule(f"model.layers.{first}.self_attn")
    attention.register_forward_hook(lambda _module, _given, out: added.append(out[0]))
    out = model.hidden(*as_rows([TEXTS[0]]), State.zeros(model.spec, 1), trace=True)
    assert out.trace is not None
    C = SENRI.chunk_size
    torch.testing.assert_close(out.trace.reads[first][:, C:], torch.cat(added, dim=1)[:, C:])
    assert not out.trace.reads[first][:, :C].any()
    assert out.trace.beta == {}
