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
from support.tiny import SENRI, Tensors, senri_tensors

TEXT = torch.randint(0, SENRI.vocab_size, (43,), generator=torch.Generator().manual_seed(3)).tolist()


def stepwise(model: Senri, start: int = 0) -> torch.Tensor:
    """Logits (T, V) of TEXT, a token at a time."""
    state = State.zeros(model.spec, 1)
    state["position"].fill_(start)
    return torch.cat([model.advance(*as_rows([[token]]), state)[0] for token in TEXT])


@pytest.mark.parametrize("start", [0, 10**9])
@pytest.mark.parametrize(("rule", "gates"), [(Rule.LINEAR, False), (Rule.LINEAR, True), (Rule.DELTA, True)])
def test_equals_the_naive_reference(rule: Rule, gates: bool, start: int) -> None:
    """Window, sinks, memory, 43 tokens over a window of 16 and segments of 8; float32 against float64."""
    config = replace(SENRI, memory_rule=rule)
    tensors = senri_tensors(config, gates=gates)
    got = stepwise(Senri(config, tensors, choose_ops("cpu", state_dtype=torch.float32)), start)
    expected = logits_ref(config, tensors, TEXT, start)
    torch.testing.assert_close(got.double(), expected, rtol=0, atol=2e-3)


def test_sinks_matter_and_are_met_once_they_left_the_window() -> None:
    """Guards the test above: without sinks the logits are others, from the first token that lost them."""
    tensors = senri_tensors(SENRI, gates=False)
    ops = choose_ops("cpu", state_dtype=torch.float32)
    with_sinks = stepwise(Senri(SENRI, tensors, ops))
    without = stepwise(Senri(replace(SENRI, num_sink_tokens=0), tensors, ops))
    W = SENRI.sliding_window_size
    torch.testing.assert_close(with_sinks[:W], without[:W], rtol=0, atol=1e-4)
    assert ((with_sinks[W:] - without[W:]).abs().amax(dim=1) > 1e-2).all()


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


def test_frozen_reads_without_writing() -> None:
    model = Senri(SENRI, senri_tensors(SENRI, gates=True), choose_ops("cpu", state_dtype=torch.float32))
    state = State.zeros(model.spec, 1)
    model.advance(*as_rows([TEXT[:12]]), state)  # one whole segment and half of another
    written = {n: t.clone() for n, t in state.items() if n[0] in "Mz"}
    state["frozen"].fill_(1)
    frozen, _ = model.advance(*as_rows([TEXT[12:30]]), state)
    assert all(torch.equal(state[n], t) for n, t in written.items() if n[0] == "M")
    assert (state["seg_mask.1"][0, (12 + 18) % 8 :] == 0).all()
    state["frozen"].fill_(0)
    model.advance(*as_rows([TEXT[30:]]), state)
    assert not torch.equal(state["M.1"], written["M.1"])
    assert frozen.isfinite().all()


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
    with pytest.raises(WeightsError, match="intermediate_size"):
        Config.from_hf({k: v for k, v in llama.items() if k != "intermediate_size"})
