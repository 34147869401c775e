"""The hybrid, RSM and SMT as `transformers` models: the same weights, logits and text as the server's."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.generate import generate
from model.kernels import choose_ops
from model.registry import load_model
from model.sampling import SamplingParams
from model.state import Model, State, StateError, as_rows
from model.weights import WeightsError
from support.tiny import Tensors, one_thread
from support.tiny_rsm import RSM, rsm_tensors
from support.tiny_smt import SMT, smt_tensors
from support.tiny_ssm import HYBRID, hybrid_tensors

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = torch.randint(0, 97, (27,), generator=torch.Generator().manual_seed(3)).tolist()
TOLERANCE = 1e-3
UNTIED = replace(HYBRID, tie_word_embeddings=False, num_sink_tokens=0)
FAMILIES: dict[str, tuple[str, Any, Callable[[Any], Tensors]]] = {
    "hybrid": ("perennial_hybrid", HYBRID, hybrid_tensors),
    "hybrid-untied": ("perennial_hybrid", UNTIED, hybrid_tensors),
    "rsm": ("rsm", RSM, rsm_tensors),
    "smt": ("smt", SMT, smt_tensors),
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(family: str, tmp_path: Path) -> Path:
    """A checkpoint as the server has them."""
    model_type, config, tensors = FAMILIES[family]
    body = {"model_type": model_type, **asdict(config), "eos_token_id": None, "bos_token_id": None}
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "config.json").write_text(json.dumps(body))
    save_file(tensors(config).tensors, tmp_path / "first" / "model.safetensors", metadata={"format": "pt"})
    return tmp_path / "first"


def classes(family: str) -> tuple[Any, Any]:
    """Of the configuration, of the model."""
    from model import hf_families as hf

    return {
        "perennial_hybrid": (hf.HybridConfig, hf.HybridForCausalLM),
        "rsm": (hf.RsmConfig, hf.RsmForCausalLM),
        "smt": (hf.SmtConfig, hf.SmtForCausalLM),
    }[FAMILIES[family][0]]


@pytest.fixture
def model(family: str, folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    expected = classes(family)
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert (type(loaded.config), type(loaded)) == expected
    return loaded


def served(folder: Path) -> Model:
    return load_model(folder, choose_ops("ref")).model


def all_logits(model: Model, text: list[int]) -> Tensor:
    """By `advance`, a token at a time: (T, V)."""
    state = State.zeros(model.spec, 1)
    return torch.cat([model.advance(*as_rows([[token]]), state)[0] for token in text])


def of(model: Any, *texts: list[int], **how: Any) -> Any:
    with torch.no_grad():
        return model(torch.tensor(texts), **how)


def test_loads_what_the_server_loads_and_saves_it_back(folder: Path, model: Any, tmp_path: Path) -> None:
    expected = all_logits(served(folder), TEXT)
    torch.testing.assert_close(of(model, TEXT).logits[0], expected, rtol=0, atol=TOLERANCE)
    model.save_pretrained(tmp_path / "again")
    again, first = (load_file(f / "model.safetensors") for f in (tmp_path / "again", folder))
    assert again.keys() == first.keys()
    assert all(torch.equal(again[name], first[name]) for name in first)
    torch.testing.assert_close(all_logits(served(tmp_path / "again"), TEXT), expected, rtol=0, atol=0)


def test_a_new_model_is_saved_and_served(family: str, tmp_path: Path) -> None:
    configuration, made = classes(family)
    new = made(configuration(**asdict(FAMILIES[family][1])))
    new.save_pretrained(tmp_path)
    expected = all_logits(served(tmp_path), TEXT)
    torch.testing.assert_close(of(new.eval(), TEXT).logits[0], expected, rtol=0, atol=TOLERANCE)
    again = type(new).from_pretrained(tmp_path)
    torch.testing.assert_close(of(again, TEXT).logits, of(new, TEXT).logits, rtol=0, atol=1e-5)


def test_a_hybrids_silent_fields_are_what_the_server_makes_of_them(tmp_path: Path) -> None:
    configuration, made = classes("hybrid")
    few = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48}
    new = made(configuration(**few, num_attention_heads=4, mamba_head_dim=16)).eval()
    new.save_pretrained(tmp_path)
    torch.testing.assert_close(of(new, TEXT).logits[0], all_logits(served(tmp_path), TEXT), rtol=0, atol=TOLERANCE)
    with pytest.raises(WeightsError, match="layer_types names 'swa'"):
        configuration(**few, num_attention_heads=4, layer_types=["swa", "window"])


def test_goes_on_from_a_state_and_reads_padded_rows(model: Any, folder: Path) -> None:
    expected = all_logits(served(folder), TEXT)
    first = of(model, TEXT[:11])
    second = of(model, TEXT[11:], state=first.state)
    torch.testing.assert_close(second.logits[0], expected[11:], rtol=0, atol=TOLERANCE)
    short = [0] * 20 + TEXT[:7]
    mask = torch.tensor([[1] * 27, [0] * 20 + [1] * 7])
    both = of(model, TEXT, short, attention_mask=mask)
    torch.testing.assert_close(both.logits[0], expected, rtol=0, atol=TOLERANCE)
    torch.testing.assert_close(both.logits[1, 20:], expected[:7], rtol=0, atol=TOLERANCE)
    assert not both.logits[1, :20].any()
    with pytest.raises(StateError, match="with 2 rows"):
        of(model, TEXT, TEXT, state=first.state)


def test_generates_what_the_server_generates(model: Any, folder: Path) -> None:
    out = model.generate(torch.tensor([TEXT]), max_new_tokens=12, do_sample=False)
    drawn = generate(served(folder), TEXT, SamplingParams(temperature=0.0), 12)
    assert out[0, len(TEXT) :].tolist() == [one.token for one in drawn]


def test_learns_and_a_copy_is_its_own(model: Any) -> None:
    other = copy.deepcopy(model)
    loss = model(torch.tensor([TEXT]), labels=torch.tensor([TEXT])).loss
    loss.backward()
    loss = loss.detach()
    torch.optim.SGD(model.parameters(), 0.01).step()
    # Not to the bit: sums are taken in an order that depends on where in memory weights lie.
    assert (of(model, TEXT, labels=torch.tensor([TEXT])).loss - loss).abs() > 1e-3 * loss
    torch.testing.assert_close(of(other, TEXT, labels=torch.tensor([TEXT])).loss, loss, rtol=1e-6, atol=0)


def test_refuses_a_checkpoint_of_another_model(family: str, folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    from model import hf_families  # noqa: F401  # registers them

    tensors = load_file(folder / "model.safetensors")
    gone = min(tensors)
    extra = {"odd.weight": torch.zeros(1)}
    save_file({n: t for n, t in tensors.items() if n != gone}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=f"{gone}' is missing"):
        AutoModelForCausalLM.from_pretrained(folder)
    save_file(tensors | extra, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"odd\.weight' has no place"):
        AutoModelForCausalLM.from_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    wrong = {"stride": 10} if family == "smt" else {"num_attention_heads": 5}
    (folder / "config.json").write_text(json.dumps(config | wrong))
    with pytest.raises(WeightsError, match=r"num_attention_heads|stride"):
        AutoModelForCausalLM.from_pretrained(folder)
