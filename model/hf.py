"""Senri as a `transformers` model: `SenriConfig`, `SenriForCausalLM`, known to AutoConfig and AutoModelForCausalLM.

Importing this module registers both. What `save_pretrained` writes the server loads as it is, and the other way round;
a plain Llama checkpoint loads with every gate closed, and is then, within the window, exactly that Llama. Its cache is
a `State` of fixed size (`model.hf_stateful`).

    model = AutoModelForCausalLM.from_pretrained(folder)

Nothing of the serving path imports this module: `transformers`' torch parts take seconds to import.
"""

# mypy: allow-untyped-calls, disable-error-code="misc,override"
# (transformers annotates a part of itself, and its own subclasses change signatures as ours do)

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig
from transformers import initialization as init

from model.hf_stateful import StatefulForCausalLM
from model.remembering import CLOSED
from model.senri_config import Config
from model.state import State
from model.unroll import Body, fill, memories_in
from model.unroll.layers import Attention, DeltaMemory, accurate
from model.weights import WeightsError, open_checkpoint

MEMORY_LAYERS = 2  # where a configuration does not say, and as many fit


class SenriConfig(LlamaConfig):
    """A Llama's configuration and what Senri adds; the fields are those of `model.senri_config.Config`.

    num_memory_layers: None for two, or as many as fit. memory_heads, memory_key_dim, memory_value_dim: None for
    num_attention_heads, head_dim and head_dim. memory_decay: the memories of a gated_delta model decay (they have an
    A_log). Raises `WeightsError` for a shape that can't be.
    """

    model_type = "senri"
    keys_to_ignore_at_inference = ["state"]  # noqa: RUF012  # the base class's own shape

    sliding_window_size: int = 1024
    num_sink_tokens: int = 4
    chunk_size: int = 64
    num_memory_layers: int | None = None
    first_memory_layer: int = 10
    memory_layer_interval: int = 10
    memory_layer_indices: list[int] | tuple[int, ...] | None = None
    memory_rule: str = "linear"
    share_memory: bool = False
    num_memories: int = 1
    memory_heads: int | None = None
    memory_key_dim: int | None = None
    memory_value_dim: int | None = None
    memory_conv_width: int = 4
    memory_value_source: str = "embedding"
    memory_reads: str = "layer"
    memory_writes: str = "now"
    memory_read_gate: bool = False
    memory_read_norm: bool = True
    memory_decay: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.num_memory_layers is None:
            fitting = range(self.first_memory_layer, self.num_hidden_layers, max(self.memory_layer_interval, 1))
            self.num_memory_layers = min(MEMORY_LAYERS, len(fitting))
        super().__post_init__(**kwargs)
        self.senri()

    def senri(self) -> Config:
        """The same, as the rest of this package has it."""
        return Config.from_hf(self.to_dict())


class SenriForCausalLM(StatefulForCausalLM):
    """Senri with its head. Parameters as in the checkpoints; the arithmetic is `model.unroll`'s, differentiable
    through the state. num_memories > 1 is refused."""

    config_class = SenriConfig
    base_model_prefix = "model"
    _no_split_modules = ["Layer"]  # noqa: RUF012  # the base class's own shape
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}  # noqa: RUF012  # the base class's own shape

    def __init__(self, config: SenriConfig) -> None:
        super().__init__(config)
        senri = config.senri()
        layers = frozenset(senri.memory_layers)
        self.spec = senri.state_spec(torch.float32)
        self.model = Body(senri, layers, layers if config.memory_decay else frozenset())
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.gradient_checkpointing = False
        self.post_init()

    @classmethod
    def from_checkpoint(cls, model: str | Path, **overrides: Any) -> SenriForCausalLM:
        """From anything the server loads: a directory, a GGUF file, a name; as float32. `overrides` are fields of the
        configuration. Raises `WeightsError`."""
        checkpoint = open_checkpoint(model)
        senri = Config.from_hf(checkpoint.config, **overrides)
        decay = bool(memories_in(senri, checkpoint)[1])
        config = SenriConfig.from_dict(
            checkpoint.config | asdict(senri) | {"model_type": "senri", "memory_decay": decay}
        )
        with torch.device("meta"):  # nothing is drawn at random that is overwritten next
            made = cls(config)
        made.to_empty(device="cpu")
        made.tie_weights()
        for layer in made.model.layers:
            if layer.memory is not None:  # which the checkpoint may lack
                layer.memory.apply(made._init_weights)
        fill(made, checkpoint)
        made.eval()
        return made

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As every model's. Raises `WeightsError` where the checkpoint has a memory or gate that the configuration does
        not know of: that would be another model, silently."""
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, info = loaded
        odd = sorted(name for name in info["unexpected_keys"] if ".memory." in name or name.endswith(".gate"))
        if odd:
            raise WeightsError(
                f"tensor {odd[0]!r} has no place in the configuration: look at memory_rule, memory_layer_indices and "
                "memory_decay"
            )
        return (model, info) if output_loading_info else model

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, DeltaMemory):
            for parameter, value in module.beginning():
                init.copy_(parameter, value)
        elif isinstance(module, Attention) and module.gate is not None:
            init.constant_(module.gate, CLOSED)

    def hidden(self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool) -> tuple[Tensor, State]:
        """See `StatefulForCausalLM.hidden`."""
        out = self.model(tokens, lengths, state, checkpoint=checkpoint)
        return out.hidden, out.state

    def head(self, hidden: Tensor) -> Tensor:
        """See `StatefulForCausalLM.head`."""
        return accurate(self.lm_head(hidden))


def register() -> None:
    """Make both known to AutoConfig and AutoModelForCausalLM. Importing this module does it."""
    AutoConfig.register(SenriConfig.model_type, SenriConfig, exist_ok=True)
    AutoModelForCausalLM.register(SenriConfig, SenriForCausalLM, exist_ok=True)


register()
