"""Mamba against `transformers`' on whole texts, and the stack on its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MambaConfig, MambaForCausalLM

from model.mamba import Config, MambaLayers
from model.state import State, as_rows
from model.weights import WeightsError
from support.tiny import make_ops, one_thread
from support.tiny_ssm import MAMBA, mamba, mamba_tensors

__all__ = ["one_thread"]

TEXT = torch.randint(0, MAMBA.vocab_size, (50,), generator=torch.Generator().manual_seed(3)).tolist()
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "biases": {"use_bias": True, "use_conv_bias": True, "tie_word_embeddings": False},
    "no-conv-bias": {"use_conv_bias": False, "conv_kernel": 3},
    "odd": {"hidden_size": 26, "intermediate_size": 52, "state_size": 5, "time_step_rank": 1},
}


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Products this small only wait for each other's threads."""


def expected(shape: dict[str, Any], seed: int = 0) -> Tensor:
    """`transformers`' logits (T, V) of TEXT, read at once and without a cache."""
    ours = mamba(make_ops("ref"), seed=seed, **shape).config
    fields = {name: getattr(ours, name) for name in ours.__dataclass_fields__ if name != "intermediate_size"}
    theirs = MambaForCausalLM(MambaConfig(expand=ours.intermediate_size // ours.hidden_size, **fields)).eval()
    weights = mamba_tensors(ours, seed).tensors
    if ours.tie_word_embeddings:
        weights = weights | {"lm_head.weight": weights["backbone.embeddings.weight"]}
    theirs.load_state_dict(weights)
    with torch.no_grad():
        return theirs(torch.tensor([TEXT]), use_cache=False).logits[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ops", ["ref", "cpu-f32"])
def test_equals_transformers(shape: str, ops: str) -> None:
    """Every token's logits, of standard deviation about 6: read at once up to it, and a token at a time."""
    model = mamba(make_ops(ops), **SHAPES[shape])
    logits = expected(SHAPES[shape])
    state = State.zeros(model.spec, 1)
    for t, token in enumerate(TEXT):
        got, _ = model.advance(*as_rows([[token]]), state)
        torch.testing.assert_close(got[0], logits[t], rtol=0, atol=1e-3)
    for length in (1, 3, 17, len(TEXT)):
        got, _ = model.advance(*as_rows([TEXT[:length]]), State.zeros(model.spec, 1))
        torch.testing.assert_close(got[0], logits[length - 1], rtol=0, atol=1e-3)


def test_the_stack_reads_embeddings_step_by_step() -> None:
    """As another architecture uses it: leaves of any mapping, rows of different lengths, x left as it is."""
    layers = MambaLayers(MAMBA, mamba_tensors(MAMBA), "backbone", make_ops("cpu-f32"))
    x = torch.randn(2, 9, MAMBA.hidden_size, generator=torch.Generator().manual_seed(1))
    kept, lengths = x.clone(), torch.tensor([9, 4])
    whole = {n: torch.zeros(2, *leaf.shape) for n, leaf in MAMBA.leaf_specs().items()}
    out = layers.advance(x, lengths, whole)
    assert torch.equal(x, kept)
    single = {n: torch.zeros(2, *leaf.shape) for n, leaf in MAMBA.leaf_specs().items()}
    for t in range(9):
        step = layers.advance(x[:, t : t + 1], (lengths > t).long(), single)
        for row in range(2):
            if t < lengths[row]:
                assert torch.equal(step[row, 0], out[row, t])
    assert all(torch.equal(single[n], whole[n]) for n in whole)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_act": "gelu"}, "only silu"),
        ({"time_step_scale": 2.0}, "only 1.0"),
        ({"state_size": 0}, "state_size is 0; it must be at least 1"),
        ({"conv_kernel": 1}, "conv_kernel is 1; it must be at least 2"),
        ({"vocab_size": None}, "lacks vocab_size"),
        ({"hidden_size": "64"}, "hidden_size is '64'; it must be a whole number"),
        ({"vocab_size": 9.5}, "vocab_size is 9.5; it must be a whole number"),
        ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon is 'small'; it must be a number above 0"),
        ({"hidden_size": None}, "lacks hidden_size"),
        ({"expand": "twice"}, "expand is 'twice'; it must be a number above 0"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    config = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 3}
    assert Config.from_hf(config).time_step_rank == 2
    with pytest.raises(WeightsError, match=words):
        Config.from_hf(config | change)


def test_an_override_that_is_no_field_is_refused() -> None:
    config = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 3}
    with pytest.raises(WeightsError, match="sliding_window_size is no field"):
        Config.from_hf(config, sliding_window_size=512)
