"""SMT against its naive reference; what it computes and what it need not; its memory; its configuration."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.gpt2 import Gpt2
from model.kernels import choose_ops
from model.memory import Kind, MemoryOperationError, Operation, Scope, operate
from model.registry import load_model
from model.smt import Config, Smt
from model.smt_ref import logits_ref
from model.state import State, as_rows
from model.svd_clean import Cut
from model.weights import WeightsError
from support.tiny import make_ops, one_thread
from support.tiny_smt import SMT, smt, smt_tensors

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = torch.randint(0, SMT.vocab_size, (30,), generator=torch.Generator().manual_seed(7)).tolist()


def one_by_one(model: Smt, text: list[int], state: State, frozen: Collection[int] = ()) -> Tensor:
    """Logits (n, V)."""
    logits = []
    for t, token in enumerate(text):
        model.memory.freeze(state, t in frozen)
        logits.append(model.advance(*as_rows([[token]]), state)[0])
    return torch.cat(logits)


@pytest.mark.parametrize("ops", ["ref", "cpu-f32"])
@pytest.mark.parametrize(
    ("change", "length"), [({}, 30), ({"stride": 9, "n_ssm_outputs": 1}, 30), ({"stride": 1}, 12)], ids=str
)
def test_equals_the_naive_reference(ops: str, change: dict[str, int], length: int) -> None:
    """From the empty window to one whose first outputs have left it; every logit, and the outputs in the end.

    (What is written at every token is soon of what was written: rounding grows, so that text is a short one.)
    """
    text = TEXT[:length]
    config = replace(SMT, **change)
    model = smt(make_ops(ops), config=config)
    state = State.zeros(model.spec, 1)
    expected, outputs = logits_ref(config, smt_tensors(config), text)
    torch.testing.assert_close(one_by_one(model, text, state).double(), expected, rtol=0, atol=1e-3)
    wanted = torch.stack(outputs[-config.n_ssm_outputs :])
    torch.testing.assert_close(state["slots"][0].double(), wanted, rtol=0, atol=1e-3)
    assert len(outputs) == length // config.stride == int(state["writes"][0, 0])


def test_tokens_read_while_frozen_are_never_written() -> None:
    """Frozen within a stride, at a write, and for as long as a window."""
    frozen = [1, 2, *range(7, 9), *range(13, 25)]
    model = smt(make_ops("ref"))
    state = State.zeros(model.spec, 1)
    expected, outputs = logits_ref(SMT, smt_tensors(SMT), TEXT, frozen)
    torch.testing.assert_close(one_by_one(model, TEXT, state, frozen).double(), expected, rtol=0, atol=1e-3)
    assert int(state["writes"][0, 0]) == len(outputs) == 3  # after 4, 12 and 28 tokens
    torch.testing.assert_close(state["slots"][0].double(), torch.stack(outputs), rtol=0, atol=1e-3)


def test_a_write_is_seen_from_the_next_token_on() -> None:
    """The fourth token's own logits are as if there were no memory; the fifth's are not."""
    one, other = smt(make_ops("ref")), smt(make_ops("ref"), stride=9)
    mine, others = (one_by_one(m, TEXT[:5], State.zeros(m.spec, 1)) for m in (one, other))
    assert torch.equal(mine[:4], others[:4])
    assert (mine[4] - others[4]).abs().max() > 1e-2


def test_a_text_is_read_with_one_window_per_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it is: only the last token's logits are wanted, and the memory is of embeddings."""
    windows: list[int] = []
    last = Gpt2.last

    def counted(self: Gpt2, x: Tensor, valid: Tensor) -> Tensor:
        windows.append(len(x))
        return last(self, x, valid)

    monkeypatch.setattr(Gpt2, "last", counted)
    model = smt(make_ops("ref"))
    model.advance(*as_rows([TEXT, [], TEXT[:7]]), State.zeros(model.spec, 3))
    assert windows == [2]


def test_bits_do_not_depend_on_the_company_at_the_real_window() -> None:
    """15 outputs and 50 tokens: a long text beside others, in parts, and more rows than are encoded at a time."""
    config = Config(vocab_size=97, n_embd=192, n_layer=2, n_head=3, ssm_num_layers=2)
    model = Smt(config, smt_tensors(config), make_ops("cpu-f32"))
    g = torch.Generator().manual_seed(5)
    texts = [torch.randint(0, 97, (n,), generator=g).tolist() for n in (333, 16, 15, 17, 5, *range(40, 53))]
    together = State.zeros(model.spec, len(texts))
    logits, _ = model.advance(*as_rows(texts), together)
    for b in (0, 1, 3, 17):
        alone = State.zeros(model.spec, 1)
        for cut in (texts[b][:13], texts[b][13:14], texts[b][14:]):
            if cut:
                expected, _ = model.advance(*as_rows([cut]), alone)
        assert torch.equal(logits[b], expected[0])
        assert together.slice(b, b + 1).equal(alone)


class TestMemory:
    @pytest.fixture
    def model(self) -> Smt:
        return smt(make_ops("ref"))

    @pytest.fixture
    def state(self, model: Smt) -> State:
        """Four writes, and two tokens after the last."""
        state = State.zeros(model.spec, 1)
        model.advance(*as_rows([TEXT[:18]]), state)
        return state

    def test_is_mambas_states_and_the_outputs(self, model: Smt, state: State) -> None:
        _, told = operate(model.memory, state, Operation(Kind.INSPECT))
        assert [(m["layer"], m["writes"], len(m["singular_values"])) for m in told] == [(0, 4, 8), (1, 4, 8), (2, 4, 3)]
        assert told[2]["rank"] == 3
        assert SMT.write_frequency == 0.25
        assert Config(vocab_size=9).write_frequency == 0.0625

    def test_reset_of_all_is_before_the_first_token(self, model: Smt, state: State) -> None:
        model.memory.reset(state, Scope.ALL)
        fresh = State.zeros(model.spec, 1)
        fresh["position"].fill_(18)
        assert state.equal(fresh)

    def test_reset_of_the_memory_keeps_the_window(self, model: Smt, state: State) -> None:
        """And what is in it is not pooled by the next write, only what comes."""
        tokens = state["tokens"].clone()
        model.memory.reset(state, Scope.MEMORY)
        assert torch.equal(state["tokens"], tokens)
        fresh = State.zeros(model.spec, 1)
        fresh["phase"].copy_(state["phase"])
        for own in (state, fresh):
            model.advance(*as_rows([TEXT[18:20]]), own)
        assert torch.equal(state["slots"], fresh["slots"])
        assert int(state["writes"][0, 2]) == 1

    def test_reset_of_the_window_keeps_the_memory(self, model: Smt, state: State) -> None:
        kept = [m.M.clone() for m in model.memory.matrices(state)]
        model.memory.reset(state, Scope.WINDOW)
        assert not state["tokens"].any()
        assert all(torch.equal(m.M, k) for m, k in zip(model.memory.matrices(state), kept, strict=True))
        with pytest.raises(MemoryOperationError, match="one for all layers"):
            model.memory.reset(state, Scope.ALL, [0])

    def test_reset_of_the_outputs_alone(self, model: Smt, state: State) -> None:
        model.memory.reset(state, Scope.MEMORY, [2])
        assert int(state["filled"]) == 0
        assert not state["slots"].any()
        assert state["ssm.0"].any()
        assert [model.memory.writes(state, i) for i in range(3)] == [4, 4, 0]

    def test_cleaning_changes_what_is_read(self, model: Smt, state: State) -> None:
        def after(cut: Cut | None) -> Tensor:
            own = state.clone()
            if cut is not None:
                operate(model.memory, own, Operation(Kind.CLEAN, cut=cut))
                assert not own["writes"].any()
            return model.advance(*as_rows([TEXT[18:30]]), own)[0]

        before = after(None)
        torch.testing.assert_close(after(Cut(1.0)), before, rtol=0, atol=1e-2)
        assert (after(Cut(0.5)) - before).abs().max() > 0.1


class TestConfig:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"stride": 51}, "stride (51) must be at most m_input_tokens (50)"),
            ({"n_ssm_outputs": 0}, "n_ssm_outputs is 0; it must be a whole number, at least 1"),
            ({"n_head": 7}, "n_embd (768) must be a multiple of n_head (7)"),
            ({"ssm_conv_kernel": 1}, "conv_kernel is 1; it must be at least 2"),
            ({"n_embd": "768"}, "n_embd is '768'; it must be a whole number"),
            ({"n_inner": False}, "n_inner is False; it must be a whole number, at least 0"),
            ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon is 'small'; it must be a number above 0"),
            ({"strides": 3}, "strides is no field"),
        ],
    )
    def test_says_what_to_change(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(WeightsError) as error:
            Config.from_hf({"vocab_size": 65}, **change)
        assert message in str(error.value)

    def test_defaults_are_the_seeds(self) -> None:
        c = Config.from_hf({"vocab_size": 50_257, "model_type": "smt"})
        assert (c.n_ssm_outputs, c.m_input_tokens, c.stride, c.window) == (15, 50, 16, 65)
        assert (c.n_embd, c.n_layer, c.n_inner, c.ssm_num_layers) == (768, 12, 3072, 24)
        assert (c.sizes.intermediate_size, c.sizes.time_step_rank) == (1536, 48)
        with pytest.raises(WeightsError, match="lacks vocab_size"):
            Config.from_hf({})


def test_loads_from_a_directory_whatever_the_servers_window(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "smt", **asdict(SMT)}))
    save_file(smt_tensors(SMT).tensors, tmp_path / "model.safetensors")
    model = load_model(tmp_path, choose_ops("ref"), sliding_window_size=512).model
    got, _ = model.advance(*as_rows([TEXT]), State.zeros(model.spec, 1))
    want, _ = smt(choose_ops("ref")).advance(*as_rows([TEXT]), State.zeros(model.spec, 1))
    assert torch.equal(got, want)
