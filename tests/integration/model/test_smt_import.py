"""An SMT of checkpoints that `transformers` wrote, against `transformers` itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from model.kernels import choose_ops
from model.registry import load_model
from model.smt_import import Report, assemble
from model.state import Model, State, as_rows
from model.weights import WeightsError
from support.serving import tiny_tokenizer
from support.tiny import one_thread

__all__ = ["one_thread"]
pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = {"n_ssm_outputs": 3, "m_input_tokens": 9, "stride": 4}
TEXT = torch.randint(0, 60, (22,), generator=torch.Generator().manual_seed(3)).tolist()


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=60, n_positions=40, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3, bos_token_id=None,
        eos_token_id=None,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    with torch.no_grad():  # biases begin at zero, which would hide where they go
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    tiny_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def mamba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import MambaConfig, MambaForCausalLM

    folder = tmp_path_factory.mktemp("mamba")
    torch.manual_seed(1)
    config = MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=3, state_size=8, initializer_range=0.3)
    MambaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def made(gpt2: Path, mamba: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    folder = tmp_path_factory.mktemp("smt")
    return folder, assemble(gpt2, mamba, folder, **SHAPE)


@pytest.fixture(scope="module")
def served(made: tuple[Path, Report]) -> Any:
    return load_model(made[0], choose_ops("ref")).model


def transformers_logits(gpt2: Path, embeddings: Tensor, places: Tensor) -> Tensor:
    """(V,): `transformers`' GPT-2 over (N, E) at positions (N,)."""
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(gpt2).eval()
    with torch.no_grad():
        logits: Tensor = model(inputs_embeds=embeddings[None], position_ids=places[None]).logits[0, -1]
    return logits


def read(model: Model, text: list[int], state: State) -> Tensor:
    return model.advance(*as_rows([text]), state)[0][0]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_before_any_write_is_transformers_gpt2(gpt2: Path, served: Model, count: int) -> None:
    wte = load_file(gpt2 / "model.safetensors")["transformer.wte.weight"]
    expected = transformers_logits(gpt2, wte[TEXT[:count]], torch.arange(12 - count, 12))
    got = read(served, TEXT[:count], State.zeros(served.spec, 1))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("count", [6, 14, 22])
def test_after_writes_too_with_the_outputs_as_embeddings(gpt2: Path, served: Model, count: int) -> None:
    wte = load_file(gpt2 / "model.safetensors")["transformer.wte.weight"]
    state = State.zeros(served.spec, 1)
    got = read(served, TEXT[:count], state)
    outputs = min(count // 4, 3)
    recent = wte[TEXT[max(0, count - 9) : count]]
    places = torch.cat((torch.arange(3 - outputs, 3), torch.arange(12 - len(recent), 12)))
    window = torch.cat((state["slots"][0, 3 - outputs :], recent))
    torch.testing.assert_close(got, transformers_logits(gpt2, window, places), rtol=0, atol=1e-4)


def test_what_is_written_is_transformers_mamba(mamba: Path, made: tuple[Path, Report], served: Any) -> None:
    """Over the pooled windows, which it is given all at once."""
    from transformers import MambaForCausalLM

    pooled: list[Tensor] = []
    own = served._pool
    served._pool = lambda *given: pooled.append(own(*given)) or pooled[-1]
    state = State.zeros(served.spec, 1)
    read(served, TEXT[:13], state)
    served._pool = own
    model = MambaForCausalLM.from_pretrained(mamba).eval()
    with torch.no_grad():
        wanted = model.backbone(inputs_embeds=torch.cat(pooled)[None]).last_hidden_state[0]
    torch.testing.assert_close(state["slots"][0], wanted, rtol=0, atol=1e-4)


def test_the_report_says_what_was_and_was_not_loaded(made: tuple[Path, Report]) -> None:
    folder, report = made
    tensors = load_file(folder / "model.safetensors")
    assert set(tensors) == set(report.loaded) | set(report.missing)
    assert report.missing == ("pool.q_proj.weight", "pool.k_proj.weight")
    assert set(report.unused) == {"Mamba: backbone.embeddings.weight"}
    told = str(report)
    assert "transformer.h.*.attn.c_attn.weight ← transformer.h.*.attn.c_attn.weight (2)" in told
    assert "memory.layers.*.mixer.A_log ← backbone.layers.*.mixer.A_log (3)" in told
    assert "begun at random, nothing was loaded into them: 2 tensors:" in told


def test_without_a_mamba_the_stack_is_new(gpt2: Path, tmp_path: Path) -> None:
    sizes = {"ssm_num_layers": 1, "ssm_state_size": 4}
    report = assemble(gpt2, None, tmp_path / "one", seed=1, **SHAPE, **sizes)
    assert {name.partition(".")[0] for name in report.missing} == {"memory", "pool"}
    assert report.unused == ()
    assemble(gpt2, None, tmp_path / "two", seed=1, **SHAPE, **sizes)
    assemble(gpt2, None, tmp_path / "three", seed=2, **SHAPE, **sizes)
    one, two, three = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two", "three"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["pool.q_proj.weight"], three["pool.q_proj.weight"])
    model = load_model(tmp_path / "one", choose_ops("ref")).model
    assert read(model, TEXT, State.zeros(model.spec, 1)).isfinite().all()


def test_names_without_a_prefix_and_stored_masks_load_too(gpt2: Path, mamba: Path, made: Any, tmp_path: Path) -> None:
    """As the first published files have them."""
    source = tmp_path / "bare"
    source.mkdir()
    tensors = load_file(gpt2 / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(bare | {"h.0.attn.bias": torch.ones(1, 1, 40, 40)}, source / "model.safetensors")
    (source / "config.json").write_text((gpt2 / "config.json").read_text())
    report = assemble(source, mamba, tmp_path / "smt", **SHAPE)
    assert report.unused == ("Mamba: backbone.embeddings.weight",)
    again, first = (load_file(folder / "model.safetensors") for folder in (tmp_path / "smt", made[0]))
    assert all(torch.equal(again[name], first[name]) for name in first)


def test_brings_the_tokeniser(made: tuple[Path, Report]) -> None:
    assert (made[0] / "tokenizer.json").is_file()
    assert json.loads((made[0] / "config.json").read_text())["model_type"] == "smt"


def test_says_what_does_not_fit(gpt2: Path, mamba: Path, tmp_path: Path) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    with pytest.raises(WeightsError, match="has 40 positions, and the window 53"):
        assemble(gpt2, mamba, tmp_path / "out", n_ssm_outputs=3, m_input_tokens=50)
    with pytest.raises(WeightsError, match="model_type is 'mamba', not 'gpt2'"):
        assemble(mamba, mamba, tmp_path / "out")
    MambaForCausalLM(MambaConfig(vocab_size=9, hidden_size=16, num_hidden_layers=1)).save_pretrained(tmp_path / "thin")
    with pytest.raises(WeightsError, match="hidden_size is 16, GPT-2's n_embd 32"):
        assemble(gpt2, tmp_path / "thin", tmp_path / "out", **SHAPE)
    other = tmp_path / "relu"
    other.mkdir()
    config = json.loads((gpt2 / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"activation_function": "relu"}))
    (other / "model.safetensors").write_bytes((gpt2 / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="activation_function is 'relu'"):
        assemble(other, mamba, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    before = (other / "model.safetensors").read_bytes()
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="would be written over"):
        assemble(other, mamba, other / ".." / other.name, **SHAPE)
    with pytest.raises(WeightsError, match="would be written over"):
        assemble(gpt2, tmp_path / "thin", tmp_path / "thin", **SHAPE)
    assert (other / "model.safetensors").read_bytes() == before


def test_the_command(gpt2: Path, mamba: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`perennial assemble` says what was loaded, and what it wrote is served."""
    from server.cli import main

    out = tmp_path / "smt"
    flags = ["--n", "3", "--m", "9", "--stride", "4", "--out", str(out)]
    assert main(["assemble", str(gpt2), "--mamba", str(mamba), *flags]) == 0
    told = capsys.readouterr().out
    assert "transformer.h.*.attn.c_attn.weight ← " in told
    assert "begun at random, nothing was loaded into them: 2 tensors" in told
    assert load_model(out, choose_ops("ref"), sliding_window_size=512).architecture == "smt"
    assert main(["assemble", str(gpt2), "--stride", "99", "--out", str(tmp_path / "no")]) == 1
    assert "stride (99) must be at most m_input_tokens (50)" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
