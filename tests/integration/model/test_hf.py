"""Senri as a `transformers` model: the same weights, the same logits, the same text as the server's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.generate import generate
from model.infini import Rule
from model.kernels import choose_ops
from model.registry import load_model
from model.sampling import SamplingParams
from model.senri import Config, Senri
from model.state import Model, State, StateError, as_rows
from model.weights import WeightsError, open_checkpoint
from support.tiny import SENRI, senri_tensors

TEXT = torch.randint(0, SENRI.vocab_size, (43,), generator=torch.Generator().manual_seed(3)).tolist()
TOLERANCE = 1e-3

VARIANTS: dict[str, dict[str, Any]] = {
    "linear": {},
    "shared-delta": {"memory_rule": Rule.DELTA, "share_memory": True, "memory_layer_indices": (0, 1, 3)},
    "gated-delta": {"memory_rule": Rule.GATED_DELTA, "memory_heads": 3, "memory_key_dim": 8},
    "untied": {"tie_word_embeddings": False},
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """These tensors are too small to share: threads would only wait for each other on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def hf() -> Any:
    from model import hf

    return hf


def tensors_of(config: Config, *, gates: bool) -> dict[str, Tensor]:
    tensors = dict(senri_tensors(config, gates=gates).tensors)
    if not config.tie_word_embeddings:
        shape = config.vocab_size, config.hidden_size
        tensors["lm_head.weight"] = torch.randn(shape, generator=torch.Generator().manual_seed(9))
    return tensors


def folder_of(folder: Path, config: Config, *, gates: bool = True) -> Path:
    """A Senri checkpoint as the server has them."""
    folder.mkdir()
    decay = config.memory_rule is Rule.GATED_DELTA
    body = {"model_type": "senri", "architectures": ["SenriForCausalLM"], "memory_decay": decay, **asdict(config)}
    (folder / "config.json").write_text(json.dumps(body | {"eos_token_id": None, "bos_token_id": None}))
    save_file(tensors_of(config, gates=gates), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def llama_folder(folder: Path) -> Path:
    """A plain Llama of 12 layers, written by `transformers` itself."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=12, num_attention_heads=4,
        num_key_value_heads=2, rms_norm_eps=1e-5, initializer_range=0.2, eos_token_id=None, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def served(folder: Path, **overrides: Any) -> Model:
    return load_model(folder, choose_ops("ref"), **overrides).model


def all_logits(model: Model, text: list[int]) -> Tensor:
    """By `advance`, a token at a time: (T, V)."""
    state = State.zeros(model.spec, 1)
    return torch.cat([model.advance(*as_rows([[token]]), state)[0] for token in text])


def of(model: Any, *texts: list[int], **how: Any) -> Any:
    with torch.no_grad():
        return model(torch.tensor(texts), **how)


OFTEN = ("shared-delta", "gated-delta")


@pytest.fixture(params=[pytest.param(v, marks=() if v in OFTEN else pytest.mark.full) for v in VARIANTS])
def variant(request: pytest.FixtureRequest) -> Config:
    return replace(SENRI, **VARIANTS[request.param])


def test_the_auto_classes_load_what_the_server_loads_and_save_it_back(hf: Any, variant: Config, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    first = folder_of(tmp_path / "first", variant)
    config = AutoConfig.from_pretrained(first)
    assert type(config) is hf.SenriConfig
    assert config.senri() == variant
    model, info = AutoModelForCausalLM.from_pretrained(first, output_loading_info=True)
    assert type(model) is hf.SenriForCausalLM
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    expected = all_logits(served(first), TEXT)
    torch.testing.assert_close(of(model, TEXT).logits[0], expected, rtol=0, atol=TOLERANCE)

    again = tmp_path / "again"
    model.save_pretrained(again)
    saved, tensors = load_file(again / "model.safetensors"), tensors_of(variant, gates=True)
    assert saved.keys() == tensors.keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in tensors.items())
    assert torch.equal(all_logits(served(again), TEXT), expected)
    assert Config.from_hf(open_checkpoint(again).config) == variant


def test_generates_as_the_plain_loop_does_beyond_the_window(hf: Any, variant: Config, tmp_path: Path) -> None:
    """24 greedy tokens after 30, over a window of 16; in one call, in two with the state between them, and without."""
    folder = folder_of(tmp_path / "model", variant)
    prompt, model = TEXT[:30], hf.SenriForCausalLM.from_pretrained(folder)
    expected = [drawn.token for drawn in generate(served(folder), prompt, SamplingParams(temperature=0.0), 24)]
    whole = model.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)
    assert whole[0, 30:].tolist() == expected
    part = model.generate(torch.tensor([prompt]), max_new_tokens=13, do_sample=False, return_dict_in_generate=True)
    assert isinstance(part.past_key_values, State)
    unread = part.sequences[:, -1:]
    rest = model.generate(unread, state=part.past_key_values, max_new_tokens=11, do_sample=False)
    assert part.sequences[0, 30:].tolist() + rest[0, 1:].tolist() == expected
    without = model.generate(torch.tensor([prompt]), max_new_tokens=4, do_sample=False, use_cache=False)
    assert without[0, 30:].tolist() == expected[:4]


def test_a_state_of_one_goes_on_in_the_other(hf: Any, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", replace(SENRI, memory_rule=Rule.GATED_DELTA))
    model, server = hf.SenriForCausalLM.from_pretrained(folder), served(folder)
    state = of(model, TEXT[:29]).state
    server.advance(*as_rows([TEXT[29:35]]), state)
    got = of(model, TEXT[35:], state=state).logits[0]
    torch.testing.assert_close(got, all_logits(server, TEXT)[35:], rtol=0, atol=TOLERANCE)


def test_padding_on_either_side_changes_nothing(hf: Any, tmp_path: Path) -> None:
    model = hf.SenriForCausalLM.from_pretrained(folder_of(tmp_path / "model", SENRI))
    texts, T = [TEXT[:7], TEXT[7:31], TEXT[31:]], 24
    alone = [of(model, text).logits[0] for text in texts]
    for left in (True, False):
        ids, mask = torch.full((3, T), 96), torch.zeros(3, T, dtype=torch.int64)
        for b, text in enumerate(texts):
            where = slice(T - len(text), None) if left else slice(None, len(text))
            ids[b, where], mask[b, where] = torch.tensor(text), 1
        with torch.no_grad():
            out = model(ids, attention_mask=mask)
        for b, expected in enumerate(alone):
            torch.testing.assert_close(out.logits[b][mask[b].bool()], expected, rtol=0, atol=1e-4)
        assert out.state["position"].tolist() == [7, 24, 12]
        assert not out.logits[~mask.bool()].any()
        if left:
            drawn = model.generate(ids, attention_mask=mask, max_new_tokens=9, do_sample=False, pad_token_id=96)
            for b, text in enumerate(texts):
                single = model.generate(torch.tensor([text]), max_new_tokens=9, do_sample=False)
                assert drawn[b, T:].tolist() == single[0, len(text) :].tolist()
        else:
            with pytest.raises(ValueError, match="pad on the left"):
                model.generate(ids, attention_mask=mask, max_new_tokens=9, pad_token_id=96)
    mask[1, 5] = 0
    with pytest.raises(ValueError, match="hole"):
        model(ids, attention_mask=mask)


def test_the_loss_is_that_of_the_next_token_and_reaches_gate_and_memory(hf: Any, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", replace(SENRI, memory_rule=Rule.GATED_DELTA))
    model = hf.SenriForCausalLM.from_pretrained(folder)
    ids = torch.tensor([TEXT])
    labels = ids.clone()
    labels[0, :20] = -100
    out = model(ids, labels=labels)
    expected = torch.nn.functional.cross_entropy(out.logits[0, 19:-1], ids[0, 20:])
    torch.testing.assert_close(out.loss, expected)
    out.loss.backward()
    kept = {name: p.grad.clone() for name, p in model.named_parameters()}
    assert all(gradient.abs().max() > 0 for gradient in kept.values())
    model.zero_grad()
    model.activation_checkpointing_enable()
    model.train()
    model(ids, labels=labels).loss.backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, kept[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_logits_can_be_had_of_the_end_only_and_as_a_tuple(hf: Any, tmp_path: Path) -> None:
    model = hf.SenriForCausalLM.from_pretrained(folder_of(tmp_path / "model", SENRI))
    whole = of(model, TEXT)
    torch.testing.assert_close(of(model, TEXT, logits_to_keep=2).logits, whole.logits[:, -2:])
    some = of(model, TEXT, logits_to_keep=torch.tensor([3, 11])).logits
    torch.testing.assert_close(some, whole.logits[:, [3, 11]])
    (logits,) = of(model, TEXT, use_cache=False, return_dict=False)
    assert torch.equal(logits, whole.logits)


def test_a_plain_llama_loads_with_its_gates_closed(hf: Any, tmp_path: Path) -> None:
    """Within the window it is that Llama, and saved again it is a Senri for the server."""
    from transformers import LlamaForCausalLM

    folder = llama_folder(tmp_path / "llama")
    llama = LlamaForCausalLM.from_pretrained(folder).eval()
    for model in (hf.SenriForCausalLM.from_pretrained(folder), hf.SenriForCausalLM.from_checkpoint(folder)):
        assert model.config.memory_rule == "linear"
        assert model.config.senri().memory_layers == (10,)
        assert model.config.sliding_window_size == 1024
        torch.testing.assert_close(of(model, TEXT).logits, of(llama, TEXT).logits, rtol=0, atol=TOLERANCE)
        again = tmp_path / f"senri-{id(model)}"
        model.save_pretrained(again)
        assert load_file(again / "model.safetensors")["model.layers.10.self_attn.gate"].isneginf().all()
        torch.testing.assert_close(all_logits(served(again), TEXT), of(llama, TEXT).logits[0], rtol=0, atol=TOLERANCE)


def test_a_base_model_with_a_memory_to_be_trained_is_the_base_model_exactly(hf: Any, tmp_path: Path) -> None:
    folder = llama_folder(tmp_path / "llama")
    base = hf.SenriForCausalLM.from_checkpoint(folder)
    more = hf.SenriForCausalLM.from_checkpoint(folder, memory_rule=Rule.GATED_DELTA, memory_layer_indices=(4, 9))
    loaded = hf.SenriForCausalLM.from_pretrained(folder, memory_rule="gated_delta", memory_layer_indices=[4, 9])
    expected = of(base, TEXT).logits
    for model in (more, loaded):
        out = of(model, TEXT)
        assert torch.equal(out.logits, expected)
        assert out.state["M.9"].any()  # it writes already, and reads nothing
        assert (model.model.layers[4].memory.b_proj.bias == -2).all()
        assert model.model.layers[4].memory.k_conv.weight[0].tolist() == [0, 0, 0, 1]


def test_a_configuration_that_does_not_know_of_a_memory_is_refused(hf: Any, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "model", replace(SENRI, memory_rule=Rule.GATED_DELTA))
    with pytest.raises(WeightsError, match=r"A_log.*memory_decay"):
        hf.SenriForCausalLM.from_pretrained(folder, memory_decay=False)
    with pytest.raises(WeightsError, match=r"layers\.3\.memory"):
        hf.SenriForCausalLM.from_pretrained(folder, memory_layer_indices=[1])


def test_the_configuration_has_senris_defaults_and_refuses_what_cannot_be(hf: Any) -> None:
    config = hf.SenriConfig(num_hidden_layers=30)
    senri = config.senri()
    assert (senri.sliding_window_size, senri.num_sink_tokens, senri.chunk_size) == (1024, 4, 64)
    assert senri.memory_layers == (10, 20)
    assert hf.SenriConfig(num_hidden_layers=5).num_memory_layers == 0
    with pytest.raises(WeightsError, match="num_sink_tokens"):
        hf.SenriConfig(sliding_window_size=4)
    with pytest.raises(WeightsError, match="num_memories is 2"):
        hf.SenriForCausalLM(hf.SenriConfig(**tiny(), num_memories=2))


def tiny() -> dict[str, Any]:
    return {
        "hidden_size": 16,
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "vocab_size": 9,
        "intermediate_size": 8,
    }


def test_what_cannot_go_with_a_state_is_refused(hf: Any) -> None:
    torch.manual_seed(0)
    model = hf.SenriForCausalLM(hf.SenriConfig(**tiny(), eos_token_id=None))
    ids = torch.tensor([[1, 2, 3]])
    with pytest.raises(ValueError, match="beam search"):
        model.generate(ids, num_beams=2, max_new_tokens=2)
    with pytest.raises(ValueError, match="past_key_values"):
        model.generate(ids, past_key_values=object(), max_new_tokens=2)
    with pytest.raises(StateError, match="2 rows"):
        model(ids.expand(2, -1), state=State.zeros(model.spec, 1))
    with pytest.raises(StateError, match="one of this model's"):
        model(ids, state=State.zeros(SENRI.state_spec(torch.float32), 1))


@pytest.mark.full
@pytest.mark.weights
@pytest.mark.timeout(400)
def test_the_default_weights_give_the_servers_logits(hf: Any) -> None:
    """SmolLM2 out of its GGUF, beyond a window of 16; float32 here and there, so the tolerance is `test_oracle`'s."""
    model = hf.SenriForCausalLM.from_checkpoint("smollm2-135m", sliding_window_size=16)
    text = torch.randint(0, 40_000, (40,), generator=torch.Generator().manual_seed(1)).tolist()
    server = Senri(model.config.senri(), Parameters(model), choose_ops("cpu", state_dtype=torch.float32))
    torch.testing.assert_close(of(model, text).logits[0], all_logits(server, text), rtol=0, atol=2e-3)
    checkpoint = open_checkpoint("smollm2-135m")
    for name in checkpoint.names():  # and what the server was given here is what is in the file
        weight = checkpoint.tensor(name)
        assert torch.equal(model.get_parameter(name), weight if isinstance(weight, Tensor) else weight.dequantise())


class Parameters:
    """A module's parameters as a checkpoint."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._parameters = dict(module.named_parameters())

    def names(self) -> list[str]:
        return list(self._parameters)

    def expect(self, name: str, shape: tuple[int, ...]) -> Tensor:
        found = self._parameters[name].detach()
        assert tuple(found.shape) == shape
        return found
