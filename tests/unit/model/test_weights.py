"""Checkpoints against what `transformers` and the `gguf` package wrote, and against files that do not fit."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from model.gguf import GGUF
from model.weights import Q4_1, Q8_0, Checkpoint, WeightsError, open_checkpoint

HEADS, KV_HEADS, HEAD_DIM, HIDDEN, LAYERS, VOCAB = 4, 2, 16, 64, 2, 96


def tiny(**changes: Any) -> LlamaForCausalLM:
    """A random Llama of two layers."""
    torch.manual_seed(3)
    sizes: dict[str, Any] = {
        "hidden_size": HIDDEN,
        "intermediate_size": 96,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "vocab_size": VOCAB,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
    }
    return LlamaForCausalLM(LlamaConfig(**sizes | changes))


def weights_of(model: LlamaForCausalLM) -> dict[str, Tensor]:
    tied = model.config.tie_word_embeddings
    return {n: t for n, t in model.state_dict().items() if not (tied and n == "lm_head.weight")}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    tiny().save_pretrained(path)
    return path


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


def edit_tensors(folder: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


# --- quantised weights ---


def test_q4_1_is_scale_times_weight_plus_minimum() -> None:
    q = torch.randint(0, 16, (3, 64), dtype=torch.uint8)
    d, m = torch.rand(3, 2).half(), torch.randn(3, 2).half()
    weight = Q4_1(q, d, m)
    assert weight.shape == (3, 64)
    found = weight.dequantise()
    assert found.dtype == torch.float32
    for o in range(3):
        for i in (0, 31, 32, 63):
            assert found[o, i] == d[o, i // 32].float() * q[o, i] + m[o, i // 32].float()
    order = torch.tensor([2, 0, 0, 1])
    assert torch.equal(weight.rows(order).dequantise(), found[order])


def test_q8_0_is_scale_times_weight() -> None:
    q = torch.randint(-128, 128, (3, 64), dtype=torch.int8)
    d = torch.rand(3, 2).half()
    weight = Q8_0(q, d)
    assert weight.shape == (3, 64)
    found = weight.dequantise()
    assert found.dtype == torch.float32
    for o in range(3):
        for i in (0, 31, 32, 63):
            assert found[o, i] == d[o, i // 32].float() * q[o, i]
    order = torch.tensor([2, 0, 0, 1])
    assert torch.equal(weight.rows(order).dequantise(), found[order])


# --- safetensors ---


@pytest.mark.parametrize("shard", ["1GB", "60KB"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_directory_holds_what_was_saved(tmp_path: Path, shard: str, tied: bool) -> None:
    model = tiny(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path, max_shard_size=shard)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard == "60KB")
    checkpoint = open_checkpoint(tmp_path)
    expected = weights_of(model)
    assert checkpoint.names() == sorted(expected)
    for name, tensor in expected.items():
        found = checkpoint.expect(name, tensor.shape)
        assert isinstance(found, Tensor)
        assert torch.equal(found, tensor), name
    assert checkpoint.path == tmp_path
    assert checkpoint.config["tie_word_embeddings"] is tied


def test_the_configuration_has_every_key_of_a_llama(saved: Path) -> None:
    config = open_checkpoint(str(saved)).config
    wanted = {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "intermediate_size": 96,
        "rope_theta": 5000.0,
        "vocab_size": VOCAB,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6,
    }
    assert {key: config[key] for key in wanted} == wanted


def test_an_older_configuration_means_the_same(folder: Path) -> None:
    edit_config(folder, rope_parameters=..., rope_theta=5000.0, head_dim=..., rms_norm_eps=..., hidden_act=...)
    config = open_checkpoint(folder).config
    assert (config["rope_theta"], config["head_dim"], config["rms_norm_eps"]) == (5000.0, HEAD_DIM, 1e-6)


def test_other_types_open_too_and_are_refused_by_whoever_expects_one(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "n_layer": 1}')
    save_file({"wte.weight": torch.zeros(4, 2)}, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    checkpoint.expect_type("mamba", "gpt2")
    with pytest.raises(WeightsError, match=r"model_type is 'gpt2', not 'llama' or 'senri'"):
        checkpoint.expect_type("llama", "senri")


def test_the_fingerprint_follows_the_content(saved: Path, folder: Path) -> None:
    before = open_checkpoint(saved).fingerprint
    assert len(before) == 32
    assert open_checkpoint(folder).fingerprint == before

    def nudge(tensors: dict[str, Tensor]) -> None:
        tensors["model.layers.1.mlp.up_proj.weight"] *= 1.001

    edit_tensors(folder, nudge)
    other_weights = open_checkpoint(folder).fingerprint
    edit_config(folder, rms_norm_eps=1e-4)
    other_config = open_checkpoint(folder).fingerprint
    assert len({before, other_weights, other_config}) == 3


# --- GGUF ---

GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    for ours, theirs in GGUF_NAMES.items():
        name = name.replace(ours, theirs)
    return name.replace("model.layers.", "blk.")


def permuted(name: str, array: np.ndarray) -> np.ndarray:
    """As llama.cpp's converter stores queries and keys: the two halves of a head interleaved."""
    heads = HEADS if ".q_proj." in name else KV_HEADS if ".k_proj." in name else 0
    if not heads:
        return array
    return array.reshape(heads, 2, HEAD_DIM // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def write_gguf(path: Path, model: LlamaForCausalLM, kind: str = "F32", **changes: Any) -> Path:
    """The model as a GGUF file, matrices as `kind`. `changes` replace metadata; None leaves a key out."""
    values: dict[str, Any] = {
        "llama.block_count": LAYERS,
        "llama.context_length": 128,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": 96,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.freq_base": 5000.0,
        "llama.rope.dimension_count": HEAD_DIM,
        "llama.vocab_size": VOCAB,
        "tokenizer.ggml.eos_token_id": 2,
    } | changes
    writer = gguf.GGUFWriter(path, values.pop("architecture", "llama"))
    extra = values.pop("tensors", {})
    for key, value in values.items():
        if isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif value is not None:
            writer.add_uint32(key, value)
    for name, tensor in weights_of(model).items():
        array = permuted(name, tensor.numpy())
        if array.ndim == 2 and kind != "F32":
            quantisation = gguf.GGMLQuantizationType[kind]
            packed = gguf.quants.quantize(array, quantisation)
            writer.add_tensor(gguf_name(name), packed, raw_dtype=quantisation)
        else:
            writer.add_tensor(gguf_name(name), np.ascontiguousarray(array))
    for name, array in extra.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_1", "Q4_0"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_file_holds_what_was_written_in_hugging_faces_order(tmp_path: Path, kind: str, tied: bool) -> None:
    model = tiny(tie_word_embeddings=tied, attention_bias=True)
    with torch.no_grad():  # biases start as zeros, which any order would pass
        for name, bias in model.named_parameters():
            if name.endswith(".bias"):
                bias.normal_()
    checkpoint = open_checkpoint(write_gguf(tmp_path / "tiny.gguf", model, kind))
    assert checkpoint.names() == sorted(weights_of(model))
    quantisation = gguf.GGMLQuantizationType[kind]
    for name, tensor in weights_of(model).items():
        found = checkpoint.expect(name, tensor.shape)
        values = found.float() if isinstance(found, Tensor) else found.dequantise()
        if tensor.ndim == 1:
            assert torch.equal(values, tensor), name
            continue
        # Blocks run along a row, so quantising commutes with the order of rows.
        expected = gguf.quants.dequantize(gguf.quants.quantize(tensor.numpy(), quantisation), quantisation)
        np.testing.assert_array_equal(values.numpy(), expected, err_msg=name)
        types = {"Q8_0": Q8_0, "Q4_1": Q4_1, "Q4_0": Q4_1}
        assert isinstance(found, types.get(kind, Tensor))


def test_the_gguf_configuration_reads_as_config_json(tmp_path: Path) -> None:
    config = open_checkpoint(write_gguf(tmp_path / "tiny.gguf", tiny())).config
    assert config == config | {
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "intermediate_size": 96,
        "rope_theta": 5000.0,
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCAB,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 2,
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "gpt2"}, "'general.architecture': 'gpt2'"),
        ({"llama.block_count": 30}, "the configuration has 30 layers, the weights 2; layer 2 is missing"),
        ({"llama.block_count": 1}, "the configuration has 1 layers, the weights 2; layer 1 is there too"),
        ({"llama.embedding_length": None}, "'llama.embedding_length': a positive number is needed, not none at all"),
        ({"llama.embedding_length": "big"}, "'llama.embedding_length': a positive number is needed, not 'big'"),
        ({"llama.attention.head_count": 0}, "'llama.attention.head_count'"),
        ({"llama.attention.head_count_kv": 3}, "4 query heads cannot share 3"),
        ({"llama.rope.dimension_count": 8}, "'llama.rope.dimension_count'"),
        ({"llama.rope.freq_base": float("nan")}, "'llama.rope.freq_base'"),
        ({"llama.rope.scaling.type": "yarn"}, "'llama.rope.scaling.type': 'yarn' is not supported"),
        ({"tensors": {"rope_freqs.weight": np.ones(8, np.float32)}}, "tensor 'rope_freqs.weight' has no place"),
        ({"tensors": {"blk.0.extra.weight": np.ones(8, np.float32)}}, "tensor 'blk.0.extra.weight' has no place"),
    ],
)
def test_a_gguf_file_that_is_no_llama_is_named(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = write_gguf(tmp_path / "bad.gguf", tiny(), **changes)
    with pytest.raises(WeightsError) as raised:
        open_checkpoint(path)
    assert str(path) in str(raised.value)
    assert reason in str(raised.value)


def test_queries_of_another_number_of_heads_are_named(tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "bad.gguf", tiny(), **{"llama.attention.head_count": 2, "llama.rope.dimension_count": 32}
    )
    checkpoint = open_checkpoint(path)
    checkpoint.tensor("model.layers.0.self_attn.q_proj.weight")  # 2 heads of 32 are as many rows as 4 of 16
    with pytest.raises(WeightsError, match=r"bad\.gguf: tensor 'blk\.0\.attn_k\.weight' has 32 rows, not 64"):
        checkpoint.tensor("model.layers.0.self_attn.k_proj.weight")


def test_a_quantised_vector_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "bad.gguf", tiny())
    data = path.read_bytes()
    head = struct.pack("<Q", len("output_norm.weight")) + b"output_norm.weight" + struct.pack("<IQ", 1, HIDDEN)
    at = data.index(head) + len(head)
    q8_0 = gguf.GGMLQuantizationType.Q8_0.value
    path.write_bytes(data[:at] + struct.pack("<I", q8_0) + data[at + 4 :])
    with pytest.raises(WeightsError, match=r"bad\.gguf: tensor 'output_norm\.weight' is Q8_0 and has shape \(64,\)"):
        open_checkpoint(path).tensor("model.norm.weight")


def test_a_truncated_gguf_file_is_named(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "cut.gguf", tiny())
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(WeightsError, match=r"cut\.gguf: tensor '.+': its \d+ bytes at \d+ reach past the end"):
        open_checkpoint(path)


# --- what does not fit ---


def test_a_missing_tensor_and_a_wrong_shape_are_named(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    name = "model.layers.0.mlp.up_proj.weight"
    with pytest.raises(
        WeightsError, match=rf"model\.safetensors: tensor '{name}' has shape \(96, 64\), not \(64, 96\)"
    ):
        checkpoint.expect(name, (64, 96))
    edit_tensors(folder, lambda tensors: tensors.pop(name))
    with pytest.raises(WeightsError, match=rf"{folder}: tensor '{name}' is missing"):
        open_checkpoint(folder).expect(name, (96, 64))
    with pytest.raises(WeightsError, match=r"tensor 'lm_head\.weight' is missing"):
        open_checkpoint(folder).tensor("lm_head.weight")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"num_hidden_layers": 30}, "the configuration has 30 layers, the weights 2; layer 2 is missing"),
        ({"num_hidden_layers": 1}, "the configuration has 1 layers, the weights 2; layer 1 is there too"),
        ({"model_type": ...}, "config.json: model_type is missing"),
        ({"model_type": 3}, "config.json: model_type is missing"),
        ({"hidden_size": ...}, "config.json: hidden_size"),
        ({"hidden_size": "64"}, "config.json: hidden_size: a positive whole number is needed, not '64'"),
        ({"num_attention_heads": 0}, "config.json: num_attention_heads"),
        ({"num_key_value_heads": 3}, "config.json: 4 query heads cannot share 3"),
        ({"rms_norm_eps": -1}, "config.json: rms_norm_eps"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4}}, "scaling of kind 'yarn' is not supported"),
        ({"rope_parameters": 7}, "config.json: rope_parameters"),
        ({"rope_parameters": ..., "rope_scaling": {"type": "linear", "factor": 2}}, "scaling of kind 'linear'"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(folder: Path, changes: dict[str, Any], reason: str) -> None:
    edit_config(folder, **changes)
    with pytest.raises(WeightsError) as raised:
        open_checkpoint(folder)
    assert str(folder) in str(raised.value)
    assert reason in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_configuration_that_is_no_json_object_is_named(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(WeightsError, match=r"config\.json: is not"):
        open_checkpoint(folder)


def test_a_configuration_that_is_absent_is_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"config\.json: cannot be opened"):
        open_checkpoint(folder)


def test_safetensors_cut_anywhere_are_named(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = file.read_bytes()
    for length in (0, 4, 8, 500, len(data) // 2, len(data) - 1):
        file.write_bytes(data[:length])
        with pytest.raises(WeightsError, match=r"model\.safetensors: cannot be read as safetensors"):
            open_checkpoint(folder)


def test_pickled_weights_are_refused_by_name(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin: pickled weights are never read"):
        open_checkpoint(folder)
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin: neither a \.gguf file nor a directory"):
        open_checkpoint(folder / "pytorch_model.bin")
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(WeightsError, match=r"neither model\.safetensors nor"):
        open_checkpoint(folder)


def _sharded(folder: Path) -> dict[str, Any]:
    tiny().save_pretrained(folder, max_shard_size="60KB")
    index: dict[str, Any] = json.loads((folder / "model.safetensors.index.json").read_text())
    return index


def test_an_index_that_lies_is_named(tmp_path: Path) -> None:
    index = _sharded(tmp_path)
    path = tmp_path / "model.safetensors.index.json"
    name, file = next(iter(index["weight_map"].items()))

    def refused(weight_map: Any, reason: str) -> None:
        path.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(WeightsError, match=reason):
            open_checkpoint(tmp_path)

    refused(index["weight_map"] | {"ghost": file}, rf"{file}: tensor 'ghost' is missing, the index says it is here")
    refused(index["weight_map"] | {name: "../../secret.safetensors"}, "is not a safetensors file of this directory")
    refused(index["weight_map"] | {name: "pytorch_model.bin"}, "is not a safetensors file of this directory")
    refused(index["weight_map"] | {name: "lost.safetensors"}, r"lost\.safetensors: cannot be read")
    refused([1], "weight_map is not a table")


# --- the real file ---


@pytest.mark.weights
def test_the_real_file_dequantises_as_the_gguf_package_does(smol_path: Path) -> None:
    checkpoint = open_checkpoint("smollm2-135m")
    file = GGUF(smol_path)
    config = checkpoint.config
    hidden, heads, kv_heads = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
    assert (hidden, heads, kv_heads, config["num_hidden_layers"], config["vocab_size"]) == (576, 9, 3, 30, 49152)
    assert (config["rope_theta"], config["rms_norm_eps"], config["tie_word_embeddings"]) == (100000.0, 1e-5, True)

    def check(name: str, stored: str, shape: tuple[int, ...], n_heads: int = 0) -> None:
        kind = gguf.GGMLQuantizationType[file.tensors[stored].type]
        expected = gguf.quants.dequantize(file.raw(stored), kind).view(np.float32).reshape(shape)
        if n_heads:
            expected = expected.reshape(n_heads, 32, 2, -1).swapaxes(1, 2).reshape(shape)
        found = checkpoint.expect(name, shape)
        values = found if isinstance(found, Tensor) else found.dequantise()
        np.testing.assert_array_equal(values.numpy(), expected, err_msg=name)

    check("model.embed_tokens.weight", "token_embd.weight", (49152, 576))
    check("model.norm.weight", "output_norm.weight", (576,))
    check("model.layers.0.self_attn.q_proj.weight", "blk.0.attn_q.weight", (576, 576), heads)
    check("model.layers.29.self_attn.k_proj.weight", "blk.29.attn_k.weight", (192, 576), kv_heads)
    check("model.layers.7.self_attn.v_proj.weight", "blk.7.attn_v.weight", (192, 576))
    check("model.layers.7.mlp.down_proj.weight", "blk.7.ffn_down.weight", (576, 1536))
    assert len(checkpoint.names()) == len(file.tensors) == 272
    assert isinstance(checkpoint, Checkpoint)
    assert len(checkpoint.fingerprint) == 32
