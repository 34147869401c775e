"""Costs by configuration, against what torch counts and what the weights hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.costs import Costs, costs, dense
from model.infini import Rule
from model.senri import Senri
from model.state import Model, State, as_rows
from support.tiny import SENRI, Tensors, make_ops, senri, senri_tensors
from support.tiny_rsm import RSM, rsm, rsm_tensors
from support.tiny_smt import SMT, smt, smt_tensors
from support.tiny_ssm import (
    HYBRID,
    MAMBA,
    MAMBA2,
    hybrid,
    hybrid_tensors,
    mamba,
    mamba2,
    mamba2_tensors,
    mamba_tensors,
)


@dataclass(frozen=True)
class Case:
    """period: tokens after which everything that happens once in a while has happened."""

    config: Any
    build: Callable[[], Model]
    weights: Callable[[], Any]
    period: int = 1
    attention: bool = True  # whether its attention is in matrix products, which alone are counted


DELTA = replace(SENRI, memory_rule=Rule.DELTA)
GATED = replace(SENRI, memory_rule=Rule.GATED_DELTA, memory_heads=3)


def undecaying() -> Tensors:
    """A gated_delta memory's weights without its decay, which is the weights' to have, not the configuration's."""
    tensors = senri_tensors(GATED, gates=True).tensors
    return Tensors({n: t for n, t in tensors.items() if n.rpartition("memory.")[2] not in DECAY})


DECAY = ("a_proj.weight", "A_log", "dt_bias")
CASES = {
    "senri": Case(
        SENRI,
        lambda: senri(make_ops("ref"), rule=Rule.LINEAR, gates=True),
        lambda: senri_tensors(SENRI, gates=False),
        8,
    ),
    "senri-gated-delta": Case(
        GATED,
        lambda: Senri(GATED, undecaying(), make_ops("ref")),
        undecaying,
        attention=False,
    ),
    "mamba": Case(MAMBA, lambda: mamba(make_ops("ref")), lambda: mamba_tensors(MAMBA)),
    "mamba2": Case(MAMBA2, lambda: mamba2(make_ops("ref")), lambda: mamba2_tensors(MAMBA2)),
    "hybrid": Case(HYBRID, lambda: hybrid(make_ops("ref")), lambda: hybrid_tensors(HYBRID)),
    "smt": Case(SMT, lambda: smt(make_ops("ref")), lambda: smt_tensors(SMT), SMT.stride),
    "rsm": Case(RSM, lambda: rsm(make_ops("ref")), lambda: rsm_tensors(RSM), 2 * RSM.chunk_size, attention=False),
}


def counted(model: Model, tokens: int) -> dict[str, int]:
    """FLOPs of so many generated tokens, by operation, long after the beginning."""
    state = State.zeros(model.spec, 1)
    model.advance(*as_rows([[1 + i % 90 for i in range(64)]]), state)
    found: dict[str, int] = {}
    for i in range(tokens):
        with FlopCounterMode(display=False) as counter:
            model.advance(*as_rows([[i + 1]]), state)
        for name, flops in counter.get_flop_counts()["Global"].items():
            found[str(name)] = found.get(str(name), 0) + flops
    return found


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_products_are_what_torch_counts(case: Case) -> None:
    expected = costs(case.config)
    found = counted(case.build(), case.period)
    assert found["aten.mm"] / case.period == pytest.approx(expected.products, rel=1e-9)
    if case.attention:
        # What is done to a recurrent state may be written as products too; it is among the updates here.
        least, most = expected.attention, expected.attention + expected.updates
        assert least <= found.get("aten.bmm", 0) / case.period <= most


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_parameters_are_what_the_weights_hold(case: Case) -> None:
    held = sum(t.numel() for t in case.weights().tensors.values() if isinstance(t, torch.Tensor))
    assert costs(case.config).parameters == held


def test_a_context_costs_what_a_window_does_not() -> None:
    window = costs(replace(SENRI, memory_layer_indices=()))
    flops, kv = dense(SENRI, SENRI.sliding_window_size + SENRI.num_sink_tokens)
    assert flops == window.flops
    far, far_kv = dense(SENRI, 100 * 20)
    assert far - flops == 4 * 4 * 99 * 20 * 64
    assert far_kv == 100 * kv
    assert isinstance(window, Costs)


def test_anything_else_is_refused() -> None:
    with pytest.raises(TypeError, match="int is no family's configuration"):
        costs(3)
