"""Mamba and Mamba-2 from files: as `transformers` writes them, and as the authors do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

from model.kernels import Ops, choose_ops
from model.registry import Loaded, load_model
from model.state import State, as_rows
from model.weights import Q4_1, Q8_0, WeightsError
from support.tiny import make_ops, one_thread

__all__ = ["one_thread"]

VOCAB = 96
TEXT = torch.randint(0, VOCAB, (40,), generator=torch.Generator().manual_seed(3)).tolist()


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Products this small only wait for each other's threads."""


def theirs(family: str, **change: Any) -> Any:
    """A random model of `transformers`; its logits of standard deviation about 2."""
    torch.manual_seed(5)
    sizes: dict[str, Any] = {"vocab_size": VOCAB, "hidden_size": 64, "num_hidden_layers": 2, "initializer_range": 0.3}
    if family == "mamba":
        return MambaForCausalLM(MambaConfig(**sizes | change)).eval()
    sizes |= {"num_heads": 4, "head_dim": 32, "state_size": 16, "n_groups": 2, "tie_word_embeddings": True}
    return Mamba2ForCausalLM(Mamba2Config(**sizes | change)).eval()


def expected(model: Any) -> Tensor:
    """Logits (V,) after TEXT, read at once, without a cache."""
    with torch.no_grad():
        return model(torch.tensor([TEXT]), use_cache=False).logits[0, -1]


def logits(loaded: Loaded) -> Tensor:
    state = State.zeros(loaded.model.spec, 1)
    return loaded.model.advance(*as_rows([TEXT]), state)[0][0]


def edit_config(folder: Path, **changes: Any) -> None:
    """... takes a key away."""
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
@pytest.mark.parametrize("tied", [True, False])
def test_what_transformers_saved_gives_its_logits(tmp_path: Path, family: str, tied: bool) -> None:
    model = theirs(family, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, make_ops("cpu-f32"), sliding_window_size=512)  # which the server always says
    assert expected(model).std() > 0.5
    torch.testing.assert_close(logits(loaded), expected(model), rtol=0, atol=1e-3)


RAW: dict[str, dict[str, Any]] = {
    "mamba": {"ssm_cfg": {}, "vocab_size": 91, "pad_vocab_size_multiple": 8},
    "mamba-named": {"ssm_cfg": {"layer": "Mamba1", "d_state": 16, "dt_rank": 4, "use_fast_path": True}},
    "mamba2": {
        "ssm_cfg": {"layer": "Mamba2", "headdim": 32, "d_state": 16, "ngroups": 2, "rmsnorm": True},
        "attn_layer_idx": [],
        "attn_cfg": {},
        "d_intermediate": 0,
        "tie_embeddings": True,
    },
}


def raw(folder: Path, family: str, **config: Any) -> Any:
    """A checkpoint in the authors' format; the model it was made of."""
    model = theirs(family)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights["backbone.embedding.weight"] = weights.pop("backbone.embeddings.weight")
    weights["lm_head.weight"] = weights["backbone.embedding.weight"].clone()  # tied, and both there
    save_file(weights, folder / "model.safetensors")
    whole = {
        "d_model": 64,
        "n_layer": 2,
        "vocab_size": VOCAB,
        "rms_norm": True,
        "residual_in_fp32": True,
        "fused_add_norm": True,
        "pad_vocab_size_multiple": 16,
    }
    (folder / "config.json").write_text(json.dumps(whole | config))
    return model


@pytest.mark.parametrize("case", RAW)
def test_what_the_authors_saved_gives_the_same(tmp_path: Path, case: str) -> None:
    model = raw(tmp_path, case.partition("-")[0], **RAW[case])
    loaded = load_model(tmp_path, make_ops("cpu-f32"))
    torch.testing.assert_close(logits(loaded), expected(model), rtol=0, atol=1e-3)


def test_silent_fields_are_what_the_authors_code_has(tmp_path: Path) -> None:
    """The published Mamba-2's configuration names nothing but the kind of layer."""
    from model.mamba2_config import Config
    from model.mamba_layout import hf_config

    published = {"d_model": 768, "n_layer": 24, "vocab_size": 50277, "ssm_cfg": {"layer": "Mamba2"}}
    published |= {"rms_norm": True, "pad_vocab_size_multiple": 16, "attn_layer_idx": []}
    config = Config.from_hf(hf_config(published, tmp_path))
    assert (config.vocab_size, config.num_heads, config.head_dim) == (50288, 24, 64)
    assert (config.state_size, config.n_groups, config.conv_width) == (128, 1, 1792)
    assert config.tie_word_embeddings


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ssm_cfg": {"layer": "Mamba3"}}, "ssm_cfg.layer is 'Mamba3'; served are Mamba1 and Mamba2"),
        ({"ssm_cfg": {"layer": ["Mamba2"]}}, r"ssm_cfg\.layer is \['Mamba2'\]; served are"),
        ({"ssm_cfg": []}, "ssm_cfg is not a table"),
        ({"ssm_cfg": {"layer": "Mamba2", "D_has_hdim": True}}, "served are models with one D per head"),
        ({"ssm_cfg": {"layer": "Mamba2", "rmsnorm": False}}, "ssm_cfg.rmsnorm is False"),
        ({"ssm_cfg": {"headdim": 32}}, "ssm_cfg.headdim is not known"),
        ({"rms_norm": False}, "only models with RMSNorm are served"),
        ({"attn_layer_idx": [1]}, r"attn_layer_idx is \[1\]; .* perennial_hybrid"),
        ({"d_intermediate": 128}, "d_intermediate is 128"),
        ({"d_model": "64"}, "d_model: a positive whole number is needed, not '64'"),
        ({"pad_vocab_size_multiple": 0}, "pad_vocab_size_multiple"),
        ({"ssm_cfg": ...}, "model_type is missing"),
    ],
)
def test_what_the_authors_format_cannot_say_here_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    raw(tmp_path, "mamba", **RAW["mamba"])
    edit_config(tmp_path, **change)
    with pytest.raises(WeightsError, match=words):
        load_model(tmp_path, choose_ops("ref"))


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    raw(tmp_path, "mamba", **RAW["mamba"])
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin: pickled weights are never read"):
        load_model(tmp_path, choose_ops("ref"))


def test_a_missing_or_misshapen_tensor_is_named(tmp_path: Path) -> None:
    theirs("mamba2").save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({n: w for n, w in weights.items() if "1.mixer.A_log" not in n}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"'backbone\.layers\.1\.mixer\.A_log' is missing"):
        load_model(tmp_path, choose_ops("ref"))
    save_file(weights, tmp_path / "model.safetensors")
    edit_config(tmp_path, n_groups=4)
    with pytest.raises(WeightsError, match=r"in_proj\.weight' has shape"):
        load_model(tmp_path, choose_ops("ref"))


# --- quantised weights ---


def quantised(weight: Tensor, kind: str) -> Q8_0 | Q4_1 | Tensor:
    """As ggml would store a matrix; what it can't (rows that are no blocks of 32) as it is."""
    if weight.dim() != 2 or weight.shape[1] % 32 or weight.shape[0] < 32:
        return weight
    blocks = weight.view(len(weight), -1, 32)
    if kind == "q8":
        d = (blocks.abs().amax(-1) / 127).half()
        q = (blocks / d.float()[..., None].clamp(min=1e-12)).round().clamp(-127, 127)
        return Q8_0(q.to(torch.int8).view(weight.shape), d)
    low, high = blocks.amin(-1), blocks.amax(-1)
    d, m = ((high - low) / 15).half(), low.half()
    q = ((blocks - m.float()[..., None]) / d.float()[..., None].clamp(min=1e-12)).round().clamp(0, 15)
    return Q4_1(q.to(torch.uint8).view(weight.shape), d, m)


class Quantised:
    """A model's weights, its matrices quantised. dense: the same numbers as floats."""

    def __init__(self, weights: dict[str, Tensor], kind: str, *, dense: bool) -> None:
        self._weights = {name: quantised(w, kind) if "_proj" in name else w for name, w in weights.items()}
        self._dense = dense

    def names(self) -> list[str]:
        return list(self._weights)

    def expect(self, name: str, shape: tuple[int, ...]) -> Any:
        weight = self._weights[name]
        assert tuple(weight.shape) == tuple(shape)
        return weight.dequantise() if self._dense and not isinstance(weight, Tensor) else weight


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
@pytest.mark.parametrize("kind", ["q8", "q4"])
def test_quantised_layers_serve_these_too(family: str, kind: str) -> None:
    """The compiled products on the stored bits against the same numbers as floats: what is left is the activations'
    int8, root of the mean square some hundredths of the logits' standard deviation."""
    from model.mamba import Config, Mamba
    from model.mamba2 import Config as Config2
    from model.mamba2 import Mamba2

    model = theirs(family)

    def run(ops: Ops, *, dense: bool) -> Tensor:
        weights = Quantised(model.state_dict(), kind, dense=dense)
        config = model.config.to_dict()
        built = (
            Mamba(Config.from_hf(config), weights, ops)
            if family == "mamba"
            else Mamba2(Config2.from_hf(config), weights, ops)
        )
        return built.advance(*as_rows([TEXT]), State.zeros(built.spec, 1))[0][0]

    dense = run(make_ops("ref"), dense=True)
    close = run(make_ops("cpu-f32"), dense=False)
    assert (close - dense).square().mean().sqrt() < 0.1 * dense.std()
    assert not torch.equal(close, dense)
    torch.testing.assert_close(run(make_ops("ref"), dense=False), dense, rtol=0, atol=1e-4)


# --- their tokeniser ---


def test_a_tokeniser_made_as_theirs_is_read(tmp_path: Path) -> None:
    """gpt-neox's: one token begins and ends a text, none is put in front; runs of spaces are tokens that are no special
    ones; no chat template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    from model.tokenizer import load_tokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = ["<|endoftext|>", "<|padding|>", *letters]
    backend = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names[:2]])
    backend.add_tokens([AddedToken(" " * n, special=False, normalized=True) for n in (4, 3, 2)])
    backend.save(str(tmp_path / "tokenizer.json"))
    named = dict.fromkeys(("bos_token", "eos_token", "unk_token"), names[0])
    settings = {"tokenizer_class": "GPTNeoXTokenizer", "add_prefix_space": False, **named}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(tmp_path, None)
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.add_bos) == (0, frozenset({0}), False)
    assert tokenizer.chat is None
    text = "def f(x):\n    return  x   # é\n"
    ids = tokenizer.encode(text, specials=False)
    assert tokenizer.decode(ids) == text
    assert backend.token_to_id("    ") in ids
    assert tokenizer.encode("a<|endoftext|>", specials=True)[-1] == 0
    assert 0 not in tokenizer.encode("a<|endoftext|>", specials=False)
