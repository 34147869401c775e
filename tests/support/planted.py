"""Small `gated_delta` models whose memory is set by hand, so that they recall: what the evaluation must be able to see.

One layer whose attention and MLP give nothing, orthonormal embeddings, one memory head. What is written is the
embedding of a token under the key of a token that stood so many before it; what is read is added to the residual
stream, where the tied head decodes it. Nothing decays, and filler writes nothing that is asked for, so recall is exact
at any distance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from model.training import held_out
from support.serving import CHATML, tiny_tokenizer

SURE = 30.0  # sigmoid(±SURE) is 1 or 0, but for 1e-13


def pairs_checkpoint(folder: Path) -> Path:
    """Bytes as tokens; every token is written under the one before it: what associative recall asks for."""
    tiny_tokenizer(folder)
    vocabulary = 258
    return _checkpoint(folder, vocabulary, keys={i: i for i in range(vocabulary)}, back=1, written=range(vocabulary))


def facts_checkpoint(folder: Path) -> Path:
    """Words as tokens; instruments and towns are written under the person who stood three words before, and nothing
    else is. It can answer the templates whose value follows the person after two words ("plays", "moved")."""
    vocabulary = words_tokenizer(folder)
    people = {
        vocabulary[spelling]: i
        for i, person in enumerate(held_out.PEOPLE)
        for spelling in (person, f"Ġ{person}")  # with and without a space before it
    }
    values = [vocabulary[f"Ġ{value}"] for value in (*held_out.INSTRUMENTS, *held_out.TOWNS)]
    return _checkpoint(folder, len(vocabulary), keys=people, back=3, written=values)


def _checkpoint(folder: Path, V: int, *, keys: Mapping[int, int], back: int, written: Iterable[int]) -> Path:
    """keys: token → its key's direction. back: how many tokens before a value its key stands. written: tokens that are
    values."""
    E = V
    d_k = max(keys.values()) + 1
    key = torch.zeros(d_k, E)
    for token, direction in keys.items():
        key[direction, token] = 1.0

    def tap(channels: int, ago: int) -> Tensor:
        """A convolution that takes the token so many before."""
        weight = torch.zeros(channels, 4)
        weight[:, 3 - ago] = 1.0
        return weight

    gate = torch.zeros(1, E)
    gate[0, list(written)] = 2 * SURE / math.sqrt(E)  # RMSNorm makes a unit vector √E long
    layer = "model.layers.0"
    tensors = {
        "model.embed_tokens.weight": torch.eye(V, E),
        "model.norm.weight": torch.ones(E),
        f"{layer}.input_layernorm.weight": torch.ones(E),
        f"{layer}.post_attention_layernorm.weight": torch.ones(E),
        f"{layer}.self_attn.q_proj.weight": torch.zeros(16, E),
        f"{layer}.self_attn.k_proj.weight": torch.zeros(16, E),
        f"{layer}.self_attn.v_proj.weight": torch.zeros(16, E),
        f"{layer}.self_attn.o_proj.weight": torch.zeros(E, 16),
        f"{layer}.mlp.gate_proj.weight": torch.zeros(16, E),
        f"{layer}.mlp.up_proj.weight": torch.zeros(16, E),
        f"{layer}.mlp.down_proj.weight": torch.zeros(E, 16),
        f"{layer}.memory.mean": torch.zeros(E),
        f"{layer}.memory.q_proj.weight": key,
        f"{layer}.memory.k_proj.weight": key.clone(),
        f"{layer}.memory.v_proj.weight": torch.eye(E),
        # Before a value is said, its key stands one nearer than it did before the value itself.
        f"{layer}.memory.q_conv.weight": tap(d_k, back - 1),
        f"{layer}.memory.k_conv.weight": tap(d_k, back),
        f"{layer}.memory.v_conv.weight": tap(E, 0),
        f"{layer}.memory.b_proj.weight": gate,
        f"{layer}.memory.b_proj.bias": torch.tensor([-SURE]),
        f"{layer}.memory.norm.weight": torch.ones(E),
        f"{layer}.memory.o_proj.weight": torch.eye(E),
    }
    config = {
        "model_type": "senri",
        "architectures": ["SenriForCausalLM"],
        "vocab_size": V,
        "hidden_size": E,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "intermediate_size": 16,
        "tie_word_embeddings": True,
        "sliding_window_size": 16,
        "num_sink_tokens": 4,
        "memory_layer_indices": [0],
        "memory_rule": "gated_delta",
        "memory_heads": 1,
        "memory_key_dim": d_k,
        "memory_value_dim": E,
        "eos_token_id": V - 1,
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


def words_tokenizer(folder: Path) -> dict[str, int]:
    """A tokeniser of whole words, of all that the evaluation can say with templates that tell no numbers; returns its
    vocabulary."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    lists = (held_out.PEOPLE, held_out.INSTRUMENTS, held_out.TOWNS)
    texts = [*(word for words in lists for word in words), *(f" {word}" for words in lists for word in words)]
    texts += [held_out.REPEATED, held_out.PLAIN_QUESTION, held_out.TELL, held_out.TOLD, held_out.HEARD]
    texts += [f" {text}" for t in held_out.TEMPLATES for text in (t.fact, t.question, t.lead)]
    texts += [text for t in held_out.TEMPLATES for text in (t.fact, t.question, t.lead)]
    texts += ["user\n", "assistant\n", "\n"]
    words = dict.fromkeys(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    vocabulary = {word: i for i, word in enumerate(("<unknown>", *words))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))  # no password
    backend.pre_tokenizer = splitter
    backend.decoder = decoders.ByteLevel()
    marks = [AddedToken(text, special=True, normalized=False) for text in ("<|im_start|>", "<|im_end|>")]
    backend.add_special_tokens(marks)
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>", "chat_template": CHATML}))
    return backend.get_vocab(with_added_tokens=True)
