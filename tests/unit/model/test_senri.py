"""Senri against its naive reference, and what its configuration refuses."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from model.infini import Rule
from model.kernels import choose_ops
from model.senri import CLOSED, Config, Senri
from model.senri_ref import logits_ref
from model.state import State, as_rows
from model.weights import WeightsError
from support.tiny import SENRI, Tensors, one_thread, senri_tensors

__all__ = ["one_thread"]

TEXT = torch.randint(0, SENRI.vocab_size, (43,), generator=torch.Generator().manual_seed(3)).tolist()


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Products this small only wait for each other's threads."""


def stepwise(model: Senri, start: int = 0) -> torch.Tensor:
    """Logits (T, V) of TEXT, a token at a time."""
    state = State.zeros(model.spec, 1)
    state["position"].fill_(start)
    return torch.cat([model.advance(*as_rows([[token]]), state)[0] for token in TEXT])


SHAPES: dict[str, dict[str, Any]] = {
    "linear": {},
    "delta": {"memory_rule": Rule.DELTA},
    "gated-delta": {"memory_rule": Rule.GATED_DELTA},
    "gated-delta-hidden": {
        "memory_rule": Rule.GATED_DELTA,
        "memory_value_source": "hidden",
        "memory_heads": 3,
        "memory_key_dim": 8,
        "memory_value_dim": 24,
        "memory_conv_width": 2,
        "memory_layer_indices": (0, 3),
    },
    "gated-delta-late": {
        "memory_rule": Rule.GATED_DELTA,
        "memory_reads": "end",
        "memory_read_gate": True,
        "memory_read_norm": False,
        "memory_key_degree": 2,
        "memory_layer_indices": (0, 2, 3),
    },
    "gated-delta-leaving": {"memory_rule": Rule.GATED_DELTA, "memory_writes": "leaving"},
    "gated-delta-leaving-hidden": {
        "memory_rule": Rule.GATED_DELTA,
        "memory_writes": "leaving",
        "memory_value_source": "hidden",
        "memory_reads": "end",
        "memory_heads": 3,
        "memory_key_degree": 3,
        "memory_conv_width": 6,
        "memory_layer_indices": (0, 3),
    },
    "shared-linear": {"share_memory": True, "memory_layer_indices": (0, 1, 3)},
    "shared-delta": {"share_memory": True, "memory_rule": Rule.DELTA},
    "routed-linear": {"num_memories": 3},
    "routed-shared-delta": {"num_memories": 2, "share_memory": True, "memory_rule": Rule.DELTA},
}


def shaped(name: str) -> tuple[Config, Tensors]:
    config = replace(SENRI, memory_heads=0, memory_key_dim=0, memory_value_dim=0)
    config = replace(config, **SHAPES[name])
    return config, senri_tensors(config, gates=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_naive_reference(shape: str) -> None:
    """Window, sinks, memory, 43 tokens over a window of 16 and segments of 8; float32 against float64."""
    config, tensors = shaped(shape)
    got = stepwise(Senri(config, tensors, choose_ops("cpu", state_dtype=torch.float32)))
    torch.testing.assert_close(got.double(), logits_ref(config, tensors, TEXT), rtol=0, atol=2e-3)


@pytest.mark.parametrize("gates", [False, True])
@pytest.mark.parametrize("start", [0, 10**9])
def test_equals_the_naive_reference_wherever_it_begins(gates: bool, start: int) -> None:
    tensors = senri_tensors(SENRI, gates=gates)
    got = stepwise(Senri(SENRI, tensors, choose_ops("cpu", state_dtype=torch.float32)), start)
    torch.testing.assert_close(got.double(), logits_ref(SENRI, tensors, TEXT, start), rtol=0, atol=2e-3)


@pytest.mark.parametrize("shape", ["gated-delta", "gated-delta-leaving", "shared-delta"])
def test_a_chunk_on_the_plain_backend_is_its_tokens_one_by_one(shape: str) -> None:
    """Two rows of different lengths in one chunk: the chunkwise form where the other backend goes token by token."""
    config, tensors = shaped(shape)
    model = Senri(config, tensors, choose_ops("ref"))
    texts = [TEXT[:21], TEXT[20:33]]
    together = State.zeros(model.spec, 2)
    got, _ = model.advance(*as_rows(texts), together)
    for b, text in enumerate(texts):
        alone = State.zeros(model.spec, 1)
        expected = [model.advance(*as_rows([[token]]), alone)[0] for token in text][-1]
        torch.testing.assert_close(got[b], expected[0], rtol=0, atol=1e-3)
        for name, leaf in alone.items():
            torch.testing.assert_close(together[name][b : b + 1], leaf, rtol=1e-3, atol=1e-3)


def test_sinks_matter_and_are_met_once_they_left_the_window() -> None:
    """Guards the test above: without sinks the logits are others, from the first token that lost them."""
    tensors = senri_tensors(SENRI, gates=False)
    ops = choose_ops("cpu", state_dtype=torch.float32)
    with_sinks = stepwise(Senri(SENRI, tensors, ops))
    without = stepwise(Senri(replace(SENRI, num_sink_tokens=0), tensors, ops))
    W = SENRI.sliding_window_size
    torch.testing.assert_close(with_sinks[:W], without[:W], rtol=0, atol=1e-4)
    assert ((with_sinks[W:] - without[W:]).abs().amax(dim=1) > 1e-2).all()


def test_a_text_that_fits_in_the_window_is_the_base_models_where_tokens_are_written_as_they_leave_it() -> None:
    """Bit for bit; and no longer, once something has left the window."""
    config, tensors = shaped("gated-delta-leaving-hidden")
    ops = choose_ops("cpu", state_dtype=torch.float32)
    remembering = stepwise(Senri(config, tensors, ops))
    plain = stepwise(Senri(replace(config, memory_layer_indices=()), tensors, ops))
    W = config.sliding_window_size
    assert torch.equal(remembering[:W], plain[:W])
    assert not torch.equal(remembering[W], plain[W])


def test_a_closed_gate_is_the_base_model_exactly_and_writing_goes_on() -> None:
    closed = senri_tensors(SENRI, gates=False)
    gates = {f"model.layers.{i}.self_attn.gate": torch.full((4,), CLOSED) for i in SENRI.memory_layers}
    ops = choose_ops("cpu", state_dtype=torch.float32)
    plain, gated = Senri(SENRI, closed, ops), Senri(SENRI, Tensors(closed.tensors | gates), ops)
    memoryless = Senri(replace(SENRI, num_memory_layers=0), closed, ops)
    assert torch.equal(stepwise(plain), stepwise(gated))
    assert torch.equal(stepwise(plain), stepwise(memoryless))
    state = State.zeros(gated.spec, 1)
    gated.advance(*as_rows([TEXT]), state)
    assert all(state[f"z.{i}"].gt(0).all() for i in SENRI.memory_layers)


def test_an_open_gate_changes_nothing_before_the_first_segment_is_written() -> None:
    open_, closed = (
        stepwise(Senri(SENRI, senri_tensors(SENRI, gates=g), choose_ops("cpu", state_dtype=torch.float32)))
        for g in (True, False)
    )
    C = SENRI.chunk_size
    assert torch.equal(open_[:C], closed[:C])
    assert ((open_[C:] - closed[C:]).abs().amax(dim=1) > 1e-2).all()


@pytest.mark.parametrize("shape", ["linear", "gated-delta", "shared-delta", "routed-linear"])
def test_frozen_reads_without_writing(shape: str) -> None:
    """Frozen for tokens 12 to 29, within a segment and over two ends: M and z stay to the bit; then later tokens only.

    The reference is told which tokens were read frozen; row 1 of the batch is never frozen and knows nothing of it.
    """
    config, tensors = shaped(shape)
    model = Senri(config, tensors, choose_ops("cpu", state_dtype=torch.float32))
    state, frozen = State.zeros(model.spec, 2), range(12, 30)
    got, held = [], {}
    for t, token in enumerate(TEXT):
        state["frozen"][0] = t in frozen
        got.append(model.advance(*as_rows([[token], [token]]), state)[0])
        memory = {n: leaf[0].clone() for n, leaf in state.items() if n.split(".")[0] in ("M", "z", "writes")}
        if t == 11:
            held = memory
        if t in frozen:
            assert all(torch.equal(leaf, held[n]) for n, leaf in memory.items())
    assert any(not torch.equal(memory[n], held[n]) for n in held if n.startswith("M"))
    logits = torch.stack(got).double()  # (T, 2, V)
    for b, which in enumerate((frozen, ())):
        expected = logits_ref(config, tensors, TEXT, frozen=which)
        torch.testing.assert_close(logits[:, b], expected, rtol=0, atol=2e-3)
    assert (logits[-1, 0] - logits[-1, 1]).abs().max() > 1e-2


def test_writes_count_segments_or_tokens() -> None:
    """43 tokens are five segments of 8; a shared memory counts each layer's."""
    for shape, expected in {"linear": [5, 5], "shared-delta": [10], "gated-delta": [43, 43]}.items():
        config, tensors = shaped(shape)
        model = Senri(config, tensors, choose_ops("cpu", state_dtype=torch.float32))
        state = State.zeros(model.spec, 1)
        model.advance(*as_rows([TEXT]), state)
        assert [int(leaf) for n, leaf in state.items() if n.startswith("writes")] == expected


def test_a_gated_delta_model_without_its_weights_is_the_base_model_exactly() -> None:
    config = replace(SENRI, memory_rule=Rule.GATED_DELTA)
    ops = choose_ops("cpu", state_dtype=torch.float32)
    bare = senri_tensors(config, gates=False)
    model = Senri(config, bare, ops)
    assert torch.equal(stepwise(model), stepwise(Senri(replace(SENRI, num_memory_layers=0), bare, ops)))
    state = State.zeros(model.spec, 1)
    model.advance(*as_rows([TEXT]), state)
    assert not any(leaf.any() for n, leaf in state.items() if n.split(".")[0] in ("M", "conv_k", "writes"))
    assert model.memory.layers == ()


def test_a_gated_delta_memory_that_is_half_there_is_refused_by_name() -> None:
    config, tensors = shaped("gated-delta")
    del tensors.tensors["model.layers.3.memory.k_conv.weight"]
    with pytest.raises(WeightsError, match=r"layers\.3\.memory\.k_conv\.weight"):
        Senri(config, tensors, choose_ops("ref"))


def test_a_checkpoints_router_is_used_and_one_that_is_not_orthonormal_is_refused() -> None:
    config, tensors = shaped("routed-linear")
    other = torch.eye(SENRI.head_dim)[[5, 9, 2]]
    for i in config.memory_layers:
        tensors.tensors[f"model.layers.{i}.memory.router"] = other
    ops = choose_ops("cpu", state_dtype=torch.float32)
    got = stepwise(Senri(config, tensors, ops))
    torch.testing.assert_close(got.double(), logits_ref(config, tensors, TEXT), rtol=0, atol=2e-3)
    assert (got - stepwise(Senri(config, shaped("routed-linear")[1], ops))).abs().max() > 1e-2
    tensors.tensors["model.layers.1.memory.router"] = other * 2
    with pytest.raises(WeightsError, match="orthonormal"):
        Senri(config, tensors, ops)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"head_dim": 15}, "head_dim"),
        ({"num_sink_tokens": 16}, "num_sink_tokens"),
        ({"num_sink_tokens": -1}, "num_sink_tokens"),
        ({"first_memory_layer": 3}, "memory layers"),
        ({"sliding_window_size": 0}, "sliding_window_size"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"num_memory_layers": -1}, "num_memory_layers"),
        ({"memory_layer_interval": 0}, "memory_layer_interval"),
        ({"memory_layer_indices": (1, 4)}, "memory_layer_indices"),
        ({"memory_layer_indices": (2, 1)}, "memory_layer_indices"),
        ({"memory_layer_indices": (1, 1)}, "memory_layer_indices"),
        ({"memory_layer_indices": ("1",)}, "memory_layer_indices"),
        ({"memory_heads": -1}, "memory_heads"),
        ({"memory_conv_width": 0}, "memory_conv_width"),
        ({"memory_key_degree": 0}, "memory_key_degree"),
        ({"memory_value_source": "logits"}, "memory_value_source"),
        ({"memory_reads": "first"}, "memory_reads is 'first'; it must be layer or end"),
        ({"memory_writes": "late"}, "memory_writes is 'late'; it must be now or leaving"),
        ({"memory_read_gate": 1}, "memory_read_gate is 1; it must be true or false"),
        ({"num_memories": 0}, "num_memories"),
        ({"num_memories": 16}, "num_memories"),
        ({"num_memories": 2, "memory_rule": Rule.GATED_DELTA}, "num_memories"),
        ({"share_memory": True, "memory_rule": Rule.GATED_DELTA}, "share_memory"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(WeightsError, match=named):
        replace(SENRI, **change)


def test_config_from_a_llama_and_what_it_refuses() -> None:
    llama = {k: v for k, v in asdict(SENRI).items() if "memory" not in k and "sink" not in k and k != "head_dim"}
    config = Config.from_hf(llama | {"model_type": "llama", "num_hidden_layers": 15}, sliding_window_size=32)
    assert config.memory_layers == (10,)
    assert config.sliding_window_size == 32
    assert config.head_dim == 16
    assert Config.from_hf(llama | {"num_hidden_layers": 30}).memory_layers == (10, 20)
    for key, value in {"rope_scaling": {"rope_type": "yarn"}, "hidden_act": "gelu", "attention_bias": True}.items():
        with pytest.raises(WeightsError, match=key):
            Config.from_hf(llama | {key: value})
    with pytest.raises(WeightsError, match="memory_rule"):
        Config.from_hf(llama | {"memory_rule": "additive"})
    with pytest.raises(WeightsError, match="intermediate_size"):
        Config.from_hf({k: v for k, v in llama.items() if k != "intermediate_size"})


def test_memory_layers_may_be_named_and_sizes_left_out() -> None:
    named = {"memory_layer_indices": [0, 2], "memory_rule": "gated_delta", "memory_heads": None, "memory_value_dim": 8}
    config = Config.from_hf(asdict(SENRI) | {"memory_key_dim": 0} | named | {"model_type": "senri"})
    assert config.memory_layers == (0, 2)
    assert (config.memory_heads, config.memory_key_dim, config.memory_value_dim) == (4, 16, 8)
    leaves = config.state_spec(torch.float32)
    assert leaves["M.2"].shape == (4, 16, 8)
    assert leaves["conv_k.0"].shape == (3, 64)
    assert "M.1" not in leaves


def test_a_shared_memory_is_the_first_layers_and_several_have_an_axis_of_their_own() -> None:
    leaves = replace(SENRI, share_memory=True, num_memories=3).state_spec(torch.float32)
    assert leaves["M.1"].shape == (3, 2, 16, 16)
    assert leaves["z.1"].shape == (3, 2, 16)
    assert "M.3" not in leaves
    assert leaves["seg_k.3"].shape == (2, 8, 16)
