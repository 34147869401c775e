"""An SMT made of a pretrained GPT-2 and a pretrained Mamba, by their weights' names.

    transformer.*                       ←  GPT-2's, with or without "transformer." in front; its matrices are stored
                                           (in, out), ours (out, in); of wpe the first n + m positions
    memory.layers.*, memory.norm_f      ←  Mamba's backbone.layers.*, backbone.norm_f
    pool.*                              ←  nothing: it is SMT's own, and begins at random

What has no source begins as in a new model, drawn from `seed`. Mamba's embedding has no place: a window's tokens are
GPT-2's. Nothing is guessed: what was and what was not loaded is in the `Report`, and what does not fit is refused.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.mamba_config import Config as MambaConfig
from model.smt_config import Config
from model.smt_unroll import SmtUnroll
from model.weights import Checkpoint, WeightsError, open_checkpoint, vector

_CONV1D = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")  # stored (in, out)
_MASKS = (".attn.bias", ".attn.masked_bias")  # of older files: the causal mask, no weights
_TOKENISER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
# What would make another GPT-2 of it, and what it must be.
_ONLY = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


@dataclass(frozen=True, slots=True)
class Report:
    """What `assemble` made. loaded: our name → its source's; missing: ours that nothing was loaded into; unused:
    tensors of the sources that have no place, with whose they are in front."""

    loaded: Mapping[str, str]
    missing: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        """A line for each kind of tensor, layers together as *."""
        pairs = Counter((_kind(ours), _kind(theirs)) for ours, theirs in self.loaded.items())
        parts = [f"loaded {len(self.loaded)} tensors:"]
        parts += [f"  {ours} ← {theirs}" + (f" ({n})" if n > 1 else "") for (ours, theirs), n in pairs.items()]
        for title, names in (
            ("begun at random, nothing was loaded into them", self.missing),
            ("not used", self.unused),
        ):
            parts.append(f"{title}: {len(names)} tensors" + (":" if names else ""))
            parts += [f"  {kind}" + (f" ({n})" if n > 1 else "") for kind, n in Counter(map(_kind, names)).items()]
        return "\n".join(parts)


def assemble(
    gpt2_dir: str | Path, mamba_dir: str | Path | None, out_dir: str | Path, *, seed: int = 0, **config: Any
) -> Report:
    """Write an SMT checkpoint to `out_dir`, with GPT-2's tokeniser.

    mamba_dir: None for a new Mamba stack. Directories or hub names, Mamba's in `transformers`' or the authors' format.
    config: fields of `model.smt_config.Config`, which win over what the two say; n_ssm_outputs, m_input_tokens and
    stride are SMT's own. Raises `WeightsError` naming what does not fit.
    """
    gpt2 = open_checkpoint(gpt2_dir)
    mamba = None if mamba_dir is None else open_checkpoint(mamba_dir)
    folder = Path(out_dir)
    for given in (gpt2, mamba):
        if given is not None and folder.resolve() == given.path.resolve():
            raise WeightsError(f"{folder}: is one of the models it would be made of, and would be written over")
    made = Config.from_hf(_gpt2_fields(gpt2) | ({} if mamba is None else _mamba_fields(mamba)), **config)
    if mamba is not None and mamba.config.get("hidden_size") != made.n_embd:
        raise WeightsError(
            f"{mamba.path}: hidden_size is {mamba.config.get('hidden_size')}, GPT-2's n_embd {made.n_embd}: what is "
            "pooled from GPT-2's embeddings must be as wide as what Mamba reads"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SmtUnroll(made)
    loaded: dict[str, str] = {}
    missing: list[str] = []
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if (source := _source(gpt2, mamba, name)) is None:
                missing.append(name)
                continue
            checkpoint, theirs = source
            parameter.copy_(_read(checkpoint, theirs, name, tuple(parameter.shape)))
            loaded[name] = theirs
    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: p.detach().contiguous() for n, p in model.named_parameters()}, folder / "model.safetensors")
    ends = {n: gpt2.config[n] for n in ("bos_token_id", "eos_token_id") if gpt2.config.get(n) is not None}
    body = {"model_type": "smt", "architectures": ["SmtForCausalLM"], **asdict(made), **ends}
    (folder / "config.json").write_text(json.dumps(body, indent=2) + "\n")
    for file in _TOKENISER:
        if (gpt2.path / file).is_file():
            shutil.copyfile(gpt2.path / file, folder / file)
    taken = set(loaded.values())
    unused = [f"GPT-2: {n}" for n in gpt2.names() if n not in taken and not n.endswith(_MASKS)]
    unused += [f"Mamba: {n}" for n in (mamba.names() if mamba else ()) if n not in taken]
    return Report(loaded, tuple(missing), tuple(unused))


def _gpt2_fields(gpt2: Checkpoint) -> dict[str, Any]:
    """What a GPT-2's configuration says of an SMT's."""
    gpt2.expect_type("gpt2")
    for field, allowed in _ONLY.items():
        if (found := gpt2.config.get(field, allowed[0])) not in allowed:
            raise WeightsError(
                f"{gpt2.path}: {field} is {found!r}; only {' or '.join(map(repr, allowed))} is supported"
            )
    names = ("vocab_size", "n_embd", "n_layer", "n_head", "n_inner", "layer_norm_epsilon")
    return {name: gpt2.config[name] for name in names if gpt2.config.get(name) is not None}


def _mamba_fields(mamba: Checkpoint) -> dict[str, Any]:
    """What a Mamba's configuration says of an SMT's."""
    mamba.expect_type("mamba")
    sizes = MambaConfig.from_hf(mamba.config)
    if sizes.use_bias or not sizes.use_conv_bias:
        raise WeightsError(f"{mamba.path}: only a Mamba with use_bias false and use_conv_bias true is supported")
    return {
        "ssm_num_layers": sizes.num_hidden_layers,
        "ssm_intermediate_size": sizes.intermediate_size,
        "ssm_state_size": sizes.state_size,
        "ssm_conv_kernel": sizes.conv_kernel,
        "ssm_time_step_rank": sizes.time_step_rank,
        "ssm_norm_epsilon": sizes.layer_norm_epsilon,
    }


def _source(gpt2: Checkpoint, mamba: Checkpoint | None, name: str) -> tuple[Checkpoint, str] | None:
    """Where our tensor `name` comes from: nowhere where it is SMT's own, or Mamba's and there is none.

    Raises `WeightsError` where it should be in a checkpoint and is not.
    """
    part, _, rest = name.partition(".")
    names: tuple[str, ...]
    if part == "transformer":
        checkpoint, names = gpt2, (name, rest)
    elif part == "memory" and mamba is not None:
        checkpoint, names = mamba, (f"backbone.{rest}",)
    else:
        return None
    known = set(checkpoint.names())
    if found := next((candidate for candidate in names if candidate in known), None):
        return checkpoint, found
    raise WeightsError(f"{checkpoint.path}: tensor {names[0]!r} is missing")


def _read(checkpoint: Checkpoint, theirs: str, ours: str, shape: tuple[int, ...]) -> Tensor:
    """The tensor as we have it. Raises `WeightsError` where its shape does not fit."""
    weight = vector(checkpoint.tensor(theirs))
    if ours.startswith("transformer.") and ours.endswith(_CONV1D):
        weight = weight.T
    if ours == "transformer.wpe.weight":
        if len(weight) < shape[0]:
            raise WeightsError(
                f"{checkpoint.path}: {theirs!r} has {len(weight)} positions, and the window {shape[0]}: lower "
                "n_ssm_outputs or m_input_tokens"
            )
        weight = weight[: shape[0]]
    if tuple(weight.shape) != shape:
        raise WeightsError(f"{checkpoint.path}: tensor {theirs!r} is {tuple(weight.shape)}, and {ours!r} {shape}")
    return weight


def _kind(name: str) -> str:
    return re.sub(r"\.\d+\.", ".*.", name)
