"""RSM against its naive reference; what it can't see; its memory; its configuration."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.kernels import choose_ops
from model.memory import Kind, MemoryOperationError, Operation, Scope, operate
from model.registry import load_model
from model.rsm import Config, Rsm, sinusoids
from model.rsm_ref import logits_ref
from model.state import State, as_rows
from model.svd_clean import Cut
from model.weights import WeightsError
from support.tiny import make_ops, one_thread
from support.tiny_rsm import RSM, rsm, rsm_tensors

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = torch.randint(0, RSM.vocab_size, (44,), generator=torch.Generator().manual_seed(7)).tolist()


def one_by_one(model: Rsm, text: list[int], state: State) -> Tensor:
    """Logits (n, V)."""
    return torch.cat([model.advance(*as_rows([[t]]), state)[0] for t in text])


def slots(model: Rsm, state: State) -> list[Tensor]:
    return [model._layers[i].write.M0 + state[f"M.{i}"][0] for i in range(RSM.num_hidden_layers)]


@pytest.mark.parametrize("ops", ["ref", "cpu-f32"])
@pytest.mark.parametrize("sync_every", [0, 1, 2])
def test_equals_the_naive_reference(ops: str, sync_every: int) -> None:
    """Five chunks; every logit, and what the slots are in the end."""
    config = replace(RSM, sync_every=sync_every)
    model = rsm(make_ops(ops), config=config)
    state = State.zeros(model.spec, 1)
    expected, wanted = logits_ref(config, rsm_tensors(config), TEXT)
    torch.testing.assert_close(one_by_one(model, TEXT, state).double(), expected, rtol=0, atol=1e-3)
    for got, want in zip(slots(model, state), wanted, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5)


def test_tokens_read_while_frozen_are_never_written() -> None:
    """Frozen within a chunk, over the end of one, and in the last token of one."""
    frozen = [*range(3, 6), *range(12, 18), 31]
    model = rsm(make_ops("ref"))
    state, logits = State.zeros(model.spec, 1), []
    for t, token in enumerate(TEXT):
        model.memory.freeze(state, t in frozen)
        logits.append(model.advance(*as_rows([[token]]), state)[0])
    expected, wanted = logits_ref(RSM, rsm_tensors(RSM), TEXT, frozen)
    torch.testing.assert_close(torch.cat(logits).double(), expected, rtol=0, atol=1e-3)
    for got, want in zip(slots(model, state), wanted, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-5)
    assert int(state["writes.0"]) == 3  # of the five whole chunks: one ended frozen, and so did the fourth
    assert not torch.equal(expected, logits_ref(RSM, rsm_tensors(RSM), TEXT)[0])


def test_a_chunk_sees_its_past_and_no_more() -> None:
    """In the reference too, which `advance` equals: what a token is changes no earlier logit."""
    other = list(TEXT)
    other[20] = (other[20] + 1) % RSM.vocab_size
    one, two = (logits_ref(RSM, rsm_tensors(RSM), text)[0] for text in (TEXT, other))
    assert torch.equal(one[:20], two[:20])
    assert not torch.equal(one[21], two[21])  # the same chunk, by attention
    assert not torch.equal(one[24], two[24])  # the next, by the slots alone


def test_slots_stay_bounded_however_long_the_text() -> None:
    model = rsm(make_ops("cpu-f32"))
    state = State.zeros(model.spec, 1)
    text = torch.randint(0, RSM.vocab_size, (1, 4_000), generator=torch.Generator().manual_seed(1))
    model.advance(text, torch.tensor([4_000]), state)
    for i, found in enumerate(slots(model, state)):
        assert found.abs().max() <= model._layers[i].write.M0.abs().max().clamp(min=1.0)
        assert int(state[f"writes.{i}"]) == 500


def test_bits_do_not_depend_on_the_company_at_the_real_widths() -> None:
    """Hidden 256, chunks of 512: a long prompt beside others, in parts, and a token at a time at its end."""
    config = Config(vocab_size=300, num_hidden_layers=2, sync_every=1)
    model = Rsm(config, rsm_tensors(config), make_ops("invariant"))
    g = torch.Generator().manual_seed(5)
    text = torch.randint(0, 300, (560,), generator=g).tolist()
    alone, together = State.zeros(model.spec, 1), State.zeros(model.spec, 3)
    for cut in (text[:200], text[200:201], text[201:550], *([t] for t in text[550:])):
        expected, _ = model.advance(*as_rows([cut]), alone)
    logits, _ = model.advance(*as_rows([text[:77], text, text[:513]]), together)
    assert torch.equal(logits[1], expected[0])
    assert together.slice(1, 2).equal(alone)


def test_places_are_sines_and_cosines() -> None:
    table = sinusoids(3, 4)
    torch.testing.assert_close(table[0], torch.tensor([0.0, 1.0, 0.0, 1.0]))
    wanted = [math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)]
    torch.testing.assert_close(table[2], torch.tensor(wanted))


class TestMemory:
    @pytest.fixture
    def model(self) -> Rsm:
        return rsm(make_ops("ref"))

    @pytest.fixture
    def state(self, model: Rsm) -> State:
        """In the middle of the fourth chunk."""
        state = State.zeros(model.spec, 1)
        model.advance(*as_rows([TEXT[:27]]), state)
        return state

    def test_is_one_matrix_a_layer_of_what_was_written(self, model: Rsm, state: State) -> None:
        _, told = operate(model.memory, state, Operation(Kind.INSPECT))
        assert [(m["layer"], m["rank"], m["writes"]) for m in told] == [(0, 5, 3), (1, 5, 3), (2, 5, 3)]
        _, empty = operate(model.memory, State.zeros(model.spec, 1), Operation(Kind.INSPECT))
        assert all(m["norm"] == 0 and m["writes"] == 0 for m in empty)

    def test_reset_of_all_is_before_the_first_token(self, model: Rsm, state: State) -> None:
        model.memory.reset(state, Scope.ALL)
        fresh = State.zeros(model.spec, 1)
        fresh["position"].fill_(27)
        for name, leaf in state.items():
            assert torch.equal(leaf, fresh[name]), name
        expected = one_by_one(model, TEXT, State.zeros(model.spec, 1))
        torch.testing.assert_close(one_by_one(model, TEXT, state), expected, rtol=0, atol=1e-4)

    def test_reset_of_the_memory_keeps_the_chunk(self, model: Rsm, state: State) -> None:
        """Then only the chunk so far is known, and is not written when it ends."""
        chunk = {n: t.clone() for n, t in state.items() if n[0] in "kv" or n in ("top", "filled")}
        model.memory.reset(state, Scope.MEMORY)
        assert all(torch.equal(state[n], t) for n, t in chunk.items())
        assert int(state["filled"]) == 3
        gone = [
            n for n in state if n.partition(".")[0] in ("M", "mask", "slot_k", "slot_v", "writes", "sync_k", "sync_v")
        ]
        assert len(gone) == 3 * 5 + 2
        assert not any(state[n].any() for n in gone)

    def test_reset_of_the_window_keeps_the_memory(self, model: Rsm, state: State) -> None:
        kept = [m.M.clone() for m in model.memory.matrices(state)]
        model.memory.reset(state, Scope.WINDOW)
        assert int(state["filled"]) == 0
        assert all(torch.equal(m.M, k) for m, k in zip(model.memory.matrices(state), kept, strict=True))
        with pytest.raises(MemoryOperationError, match="one for all layers"):
            model.memory.reset(state, Scope.WINDOW, [0])

    def test_reset_of_one_layer_leaves_the_others(self, model: Rsm, state: State) -> None:
        model.memory.reset(state, Scope.MEMORY, [1])
        assert [bool(state[f"M.{i}"].any()) for i in range(3)] == [True, False, True]
        Z = torch.stack([state[f"M.{i}"][0] for i in range(3)]).mean(dim=0)
        assert model._sync is not None
        torch.testing.assert_close(state["sync_k"][0].transpose(0, 1).flatten(1), model._sync.read.key(Z))

    def test_cleaning_changes_what_is_read(self, model: Rsm, state: State) -> None:
        """All the energy kept changes nothing; half of it does, and what follows from the slots follows."""

        def after(cut: Cut | None) -> Tensor:
            own = state.clone()
            if cut is not None:
                operate(model.memory, own, Operation(Kind.CLEAN, cut=cut))
                assert int(own["writes.1"]) == 0
                key = model._layers[1].read.key(own["M.1"][0])
                torch.testing.assert_close(own["slot_k.1"][0].transpose(0, 1).flatten(1), key)
            return model.advance(*as_rows([TEXT[27:30]]), own)[0]

        before = after(None)
        torch.testing.assert_close(after(Cut(1.0)), before, rtol=0, atol=1e-3)
        assert (after(Cut(0.5)) - before).abs().max() > 1e-2

    def test_a_frozen_memory_stays_as_it_is(self, model: Rsm, state: State) -> None:
        before = [m.M.clone() for m in model.memory.matrices(state)]
        model.memory.freeze(state, True)
        assert model.memory.frozen(state)
        model.advance(*as_rows([TEXT]), state)
        assert all(torch.equal(m.M, b) for m, b in zip(model.memory.matrices(state), before, strict=True))
        assert model.memory.writes(state, 0) == 3


class TestConfig:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"num_attention_heads": 5}, "hidden_size (256) must be a multiple of num_attention_heads (5)"),
            ({"num_memory_slots": 0}, "num_memory_slots is 0; it must be a whole number, at least 1"),
            ({"sync_every": -1}, "sync_every is -1; it must be a whole number, at least 0"),
            ({"chunk_size": 2.5}, "chunk_size is 2.5"),
            ({"hidden_size": 12}, "hidden_size / num_attention_heads is 3"),
            ({"hidden_size": "256"}, "hidden_size is '256'; it must be a whole number"),
            ({"rms_norm_eps": "small"}, "rms_norm_eps is 'small'; it must be a number above 0"),
            ({"num_slots": 3}, "num_slots is no field"),
        ],
    )
    def test_says_what_to_change(self, change: dict[str, Any], message: str) -> None:
        with pytest.raises(WeightsError) as error:
            Config.from_hf({"vocab_size": 65}, **change)
        assert message in str(error.value)

    def test_defaults_are_the_seeds(self) -> None:
        c = Config.from_hf({"vocab_size": 65, "model_type": "rsm", "torch_dtype": "float32"})
        assert (c.hidden_size, c.num_hidden_layers, c.num_attention_heads) == (256, 8, 4)
        assert (c.num_memory_slots, c.chunk_size, c.intermediate_size) == (32, 512, 704)
        with pytest.raises(WeightsError, match="lacks vocab_size"):
            Config.from_hf({})


def test_loads_from_a_directory_whatever_the_servers_window(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "rsm", **asdict(RSM)}))
    save_file(rsm_tensors(RSM).tensors, tmp_path / "model.safetensors")
    model = load_model(tmp_path, choose_ops("ref"), sliding_window_size=512).model
    state, expected = State.zeros(model.spec, 1), State.zeros(model.spec, 1)
    got, _ = model.advance(*as_rows([TEXT]), state)
    want, _ = rsm(choose_ops("ref")).advance(*as_rows([TEXT]), expected)
    assert torch.equal(got, want)
