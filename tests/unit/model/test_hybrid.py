"""The hybrid against its naive reference, and what its configuration refuses."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from model.hybrid import Config
from model.hybrid_ref import logits_ref
from model.registry import load_model
from model.state import State, as_rows
from model.weights import WeightsError
from support.tiny import make_ops, one_thread
from support.tiny_ssm import HYBRID, hybrid, hybrid_tensors

__all__ = ["one_thread"]

TEXT = torch.randint(0, HYBRID.vocab_size, (43,), generator=torch.Generator().manual_seed(3)).tolist()
SHAPES: dict[str, dict[str, Any]] = {
    "sinks": {},
    "no-sinks": {"num_sink_tokens": 0},
    "untied": {"tie_word_embeddings": False, "num_key_value_heads": 1},
    "other-pattern": {"layer_types": ("window", "mamba2", "mamba2", "window"), "mamba_n_groups": 1},
    "no-window": {"layer_types": ("mamba2",) * 4},
    "no-mamba": {"layer_types": ("window",) * 4},
}


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Products this small only wait for each other's threads."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ops", ["ref", "cpu-f32"])
def test_equals_the_naive_reference(shape: str, ops: str) -> None:
    """43 tokens over a window of 16, a token at a time and at once; float32 against float64."""
    config = replace(HYBRID, **SHAPES[shape])
    model, expected = hybrid(make_ops(ops), config=config), logits_ref(config, hybrid_tensors(config), TEXT)
    state = State.zeros(model.spec, 1)
    for t, token in enumerate(TEXT):
        got, _ = model.advance(*as_rows([[token]]), state)
        torch.testing.assert_close(got[0].double(), expected[t], rtol=0, atol=1e-3)
    for length in (2, 17, len(TEXT)):
        got, _ = model.advance(*as_rows([TEXT[:length]]), State.zeros(model.spec, 1))
        torch.testing.assert_close(got[0].double(), expected[length - 1], rtol=0, atol=1e-3)


def test_what_left_the_window_is_remembered_by_the_states() -> None:
    """Guards the test above: another first token changes the last logits, which lie three windows on."""
    config = replace(HYBRID, num_sink_tokens=0)
    model = hybrid(make_ops("cpu-f32"), config=config)
    texts = [TEXT, [TEXT[0] + 1, *TEXT[1:]]]
    logits, _ = model.advance(*as_rows(texts), State.zeros(model.spec, 2))
    assert (logits[0] - logits[1]).abs().max() > 1e-2


def test_its_own_format_is_loaded_with_the_window_it_names(tmp_path: Path) -> None:
    config = {"model_type": "perennial_hybrid", **asdict(HYBRID)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(hybrid_tensors(HYBRID).tensors, tmp_path / "model.safetensors")
    loaded = load_model(tmp_path, make_ops("cpu-f32"), sliding_window_size=512)
    assert loaded.model.spec["k.1"].shape == (2, 16, 16)
    built = hybrid(make_ops("cpu-f32"))
    expected, _ = built.advance(*as_rows([TEXT]), State.zeros(built.spec, 1))
    got, _ = loaded.model.advance(*as_rows([TEXT]), State.zeros(loaded.model.spec, 1))
    assert torch.equal(got, expected)


SMALL = {
    "vocab_size": 97,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "intermediate_size": 96,
    "num_attention_heads": 4,
}


def test_silent_fields_are_sambas_pattern() -> None:
    config = Config.from_hf(SMALL)
    assert config.layer_types == ("mamba2", "window", "mamba2", "window")
    assert (config.num_key_value_heads, config.head_dim, config.mamba_num_heads) == (4, 16, 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer_types": ["mamba2"]}, "layer_types names 1 layers; num_hidden_layers is 4: they must agree"),
        ({"layer_types": ["mamba2", "attention"] * 2}, "layer_types names 'attention'; each must be"),
        ({"num_attention_heads": 3}, r"num_attention_heads \(3\) must divide hidden_size \(64\)"),
        ({"num_key_value_heads": 3}, "must be a multiple of num_key_value_heads"),
        ({"head_dim": 15}, "it must be even"),
        ({"sliding_window_size": 0}, "sliding_window_size is 0"),
        ({"sliding_window_size": 4, "num_sink_tokens": 4}, "less than sliding_window_size"),
        ({"num_sink_tokens": 1.5}, r"num_sink_tokens \(1.5\) must be a whole number"),
        ({"layer_types": 4}, "layer_types is 4; it must name each layer's mixer"),
        ({"layer_types": [["mamba2"]] * 4}, "layer_types is .*; it must name each layer's mixer"),
        ({"mamba_head_dim": 48}, r"mamba_head_dim \(48\) must divide 2 · hidden_size \(128\)"),
        ({"mamba_n_groups": 3}, r"fields mamba_…\): num_heads \(2\) must be a multiple of n_groups \(3\)"),
        ({"mamba_state_size": 0}, "state_size is 0"),
        ({"intermediate_size": None}, "lacks intermediate_size"),
        ({"hidden_size": "64"}, "hidden_size is '64'; it must be a whole number"),
        ({"vocab_size": 9.5}, "vocab_size is 9.5; it must be a whole number"),
        ({"rms_norm_eps": 0}, "rms_norm_eps is 0; it must be a number above 0"),
    ],
)
def test_a_shape_that_cannot_be_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        Config.from_hf(SMALL | change)


def test_an_override_that_is_no_field_is_refused() -> None:
    with pytest.raises(WeightsError, match="window is no field"):
        Config.from_hf(SMALL, window=5)
