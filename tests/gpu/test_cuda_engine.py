"""A small Mamba-2 served on the GPU: turns, an eviction, a snapshot, a cleaned memory; as on the CPU, within rounding.

Not run yet, as `test_cuda_state_spaces.py`, whose docstring says what to install and how both are run.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.state import Model
from server.engine.request import Token
from server.loading import load, load_ops
from server.settings import load_settings
from support.device_play import TURNS, play
from support.families import family_checkpoint

pytestmark = pytest.mark.gpu

TOLERANCE = 0.1  # absolute, on log probabilities; logits have a standard deviation of about 6


def model_on(ops: str, checkpoint: Path) -> Model:
    """Loaded as a worker loads it."""
    settings = load_settings({"model": str(checkpoint), "cache_dir": checkpoint, "ops": ops}, env_file=None)
    try:
        chosen = load_ops(settings)
    except ValueError as reason:
        pytest.skip(str(reason))
    return load(settings, chosen)[0].model


def alike(said: list[Token], expected: list[Token]) -> int:
    """How many tokens are the same before the first that is not. There, both were likely."""
    for n, (got, wanted) in enumerate(zip(said, expected, strict=True)):
        if got.token != wanted.token:
            return n
        assert got.logprob == pytest.approx(wanted.logprob, abs=TOLERANCE)
    return len(said)


def test_a_model_is_served_as_on_the_cpu(tmp_path: Path) -> None:
    checkpoint = family_checkpoint(
        "mamba2", tmp_path / "model", hidden_size=64, num_heads=2, head_dim=64, state_size=128, n_groups=1
    )
    there, here = model_on("cuda", checkpoint), model_on("cpu", checkpoint)
    assert there.device.type == "cuda"
    got, expected = play(there), play(here)
    same = {turn: alike(got.said[turn], tokens) for turn, tokens in expected.said.items()}
    for turn, parent in TURNS.items():
        whole = len(expected.said[turn])
        if parent is not None and same[parent] < len(expected.said[parent]):
            continue  # it read another text
        assert same[turn] >= whole // 2, f"{turn}: {same}"
        if same[turn] == whole and turn in expected.states:
            for name, leaf in expected.states[turn].items():
                torch.testing.assert_close(got.states[turn][name], leaf, rtol=1e-2, atol=5e-2, msg=f"{turn}: {name}")
    if same["drawn"] == len(expected.said["drawn"]):
        torch.testing.assert_close(got.before, expected.before, rtol=0, atol=TOLERANCE)
        torch.testing.assert_close(got.after, expected.after, rtol=0, atol=TOLERANCE)
