"""Mamba-2 against `transformers`' on whole texts, and what its configuration refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Mamba2Config, Mamba2ForCausalLM

from model.mamba2 import Config
from model.mamba_layout import hf_config
from model.ssd import gated_norm_ref
from model.state import State, as_rows
from model.weights import WeightsError
from support.tiny import make_ops, one_thread
from support.tiny_ssm import MAMBA2, mamba2, mamba2_tensors

__all__ = ["one_thread"]

TEXT = torch.randint(0, MAMBA2.vocab_size, (50,), generator=torch.Generator().manual_seed(3)).tolist()
SHAPES: dict[str, dict[str, Any]] = {
    "two-groups": {},
    "one-group": {"n_groups": 1},
    "biases": {"use_bias": True, "n_groups": 4, "tie_word_embeddings": False},
    "no-conv-bias": {"use_conv_bias": False, "conv_kernel": 3},
    "limits": {"time_step_limit": (0.05, 0.4)},
    "odd": {"hidden_size": 26, "num_heads": 4, "head_dim": 13, "state_size": 5},
}


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Products this small only wait for each other's threads."""


def expected(shape: dict[str, Any]) -> Tensor:
    """`transformers`' logits (T, V) of TEXT, read at once and without a cache."""
    ours = mamba2(make_ops("ref"), **shape).config
    fields = {name: getattr(ours, name) for name in ours.__dataclass_fields__ if name != "norm_first"}
    theirs = Mamba2ForCausalLM(Mamba2Config(chunk_size=16, **fields)).eval()
    weights = mamba2_tensors(ours).tensors
    if ours.tie_word_embeddings:
        weights = weights | {"lm_head.weight": weights["backbone.embeddings.weight"]}
    theirs.load_state_dict(weights)
    with torch.no_grad():
        return theirs(torch.tensor([TEXT]), use_cache=False).logits[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ops", ["ref", "cpu-f32"])
def test_equals_transformers(shape: str, ops: str) -> None:
    """Every token's logits, of standard deviation about 6: read at once up to it, and a token at a time."""
    model = mamba2(make_ops(ops), **SHAPES[shape])
    logits = expected(SHAPES[shape])
    assert 3 < logits.std() < 12
    state = State.zeros(model.spec, 1)
    for t, token in enumerate(TEXT):
        got, _ = model.advance(*as_rows([[token]]), state)
        torch.testing.assert_close(got[0], logits[t], rtol=0, atol=1e-3)
    for length in (1, 3, 17, len(TEXT)):
        got, _ = model.advance(*as_rows([TEXT[:length]]), State.zeros(model.spec, 1))
        torch.testing.assert_close(got[0], logits[length - 1], rtol=0, atol=1e-3)


def test_the_norm_may_come_before_the_gate() -> None:
    """Which no published model has: told from the other order by the op alone, so only that it arrives there."""
    before, after = (mamba2(make_ops("cpu-f32"), norm_first=first) for first in (True, False))
    logits = [m.advance(*as_rows([TEXT]), State.zeros(m.spec, 1))[0] for m in (before, after)]
    assert (logits[0] - logits[1]).abs().max() > 0.1
    y, z = torch.randn(2, 64), torch.randn(2, 64)
    got = before.ops.gated_norm(y, z, torch.ones(64), 1e-5, 2, True)
    torch.testing.assert_close(got, gated_norm_ref(y, z, torch.ones(64), 1e-5, 2, True), rtol=1e-5, atol=1e-5)


PUBLISHED = {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 3, "head_dim": 16, "n_groups": 2}


def test_silent_fields_are_what_transformers_assumes() -> None:
    config = Config.from_hf({"vocab_size": 97, "hidden_size": 4096, "num_hidden_layers": 3})
    theirs = Mamba2Config()
    for field in ("num_heads", "head_dim", "state_size", "n_groups", "conv_kernel", "tie_word_embeddings"):
        assert getattr(config, field) == getattr(theirs, field), field
    assert config.time_step_limit == tuple(theirs.time_step_limit)


def test_an_order_of_the_norm_that_transformers_does_not_heed() -> None:
    """Configurations it wrote, Codestral Mamba's among them, say norm_before_gate true; it gates first all the same."""
    assert Config.from_hf(PUBLISHED | {"norm_before_gate": True}) == Config.from_hf(PUBLISHED)
    authors = {"d_model": 64, "n_layer": 3, "vocab_size": 97, "ssm_cfg": {"layer": "Mamba2", "norm_before_gate": True}}
    assert Config.from_hf(hf_config(authors, Path("config.json"))).norm_first


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_act": "gelu"}, "only silu"),
        ({"n_groups": 3}, r"num_heads \(8\) must be a multiple of n_groups \(3\)"),
        ({"num_heads": 7}, r"num_heads · head_dim \(112\) must be expand · hidden_size \(128\)"),
        ({"num_heads": {}}, "num_heads is {}; it must be a whole number"),
        ({"head_dim": 24}, "must be a multiple of head_dim"),
        ({"time_step_limit": [1.0, 0.5]}, "0 <= least <= greatest"),
        ({"time_step_limit": 0.5}, "two numbers"),
        ({"time_step_limit": [0.0, {"__float__": "much"}]}, "two numbers"),
        ({"state_size": 0}, "state_size is 0; it must be at least 1"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"conv_kernel": 1}, "conv_kernel is 1; it must be at least 2"),
        ({"vocab_size": None}, "lacks vocab_size"),
        ({"hidden_size": "64"}, "hidden_size is '64'; it must be a whole number"),
        ({"vocab_size": 9.5}, "vocab_size is 9.5; it must be a whole number"),
        ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon is 'small'; it must be a number above 0"),
        ({"hidden_size": None}, "lacks hidden_size"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    assert Config.from_hf(PUBLISHED).num_heads == 8
    with pytest.raises(WeightsError, match=words):
        Config.from_hf(PUBLISHED | change)
