"""The hybrid, RSM and SMT as `transformers` models: `HybridForCausalLM` and so on, known to the Auto classes.

Importing this module registers them. What `save_pretrained` writes the server loads as it is, and the other way round;
the arithmetic is that of `model.hybrid_unroll`, `model.rsm_unroll` and `model.smt_unroll`, the cache a `State`
(`model.hf_stateful`).

    model = AutoModelForCausalLM.from_pretrained(folder)

A checkpoint that lacks a tensor, or has one that has no place, is refused: it would be another model, silently.
"""

# mypy: allow-untyped-calls, disable-error-code="misc,override"
# (transformers annotates a part of itself, and its own subclasses change signatures as ours do)

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig
from transformers import initialization as init

from model import hybrid_config, rsm_config, smt_config
from model.hf_stateful import StatefulForCausalLM
from model.hybrid_unroll import HybridUnroll
from model.rsm import sinusoids
from model.rsm_unroll import Body, RsmUnroll
from model.smt_unroll import SmtUnroll
from model.state import State
from model.weights import WeightsError


@strict  # without which the base class's `validate_layer_type` would be called
class HybridConfig(PreTrainedConfig):
    """The fields of `model.hybrid_config.Config`; None is what that makes of a silent one. Raises `WeightsError` for a
    shape that can't be."""

    model_type = "perennial_hybrid"
    keys_to_ignore_at_inference = ["state"]  # noqa: RUF012  # the base class's own shape

    vocab_size: int = 50_257
    hidden_size: int = 768
    num_hidden_layers: int = 12
    intermediate_size: int = 2048
    num_attention_heads: int = 12
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    layer_types: list[str] | tuple[str, ...] | None = None
    mamba_num_heads: int | None = None
    mamba_head_dim: int = 64
    mamba_state_size: int = 128
    mamba_n_groups: int = 1
    mamba_conv_kernel: int = 4
    sliding_window_size: int = 2048
    num_sink_tokens: int = 0
    rope_theta: float = 10_000.0
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True  # then the head is no parameter of its own

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.shape()

    def validate_layer_type(self) -> None:
        """`transformers` knows other words for mixers; `shape` looks at ours."""

    def shape(self) -> hybrid_config.Config:
        """The same, as the rest of this package has it."""
        return hybrid_config.Config.from_hf(self.to_dict())


class RsmConfig(PreTrainedConfig):
    """The fields of `model.rsm_config.Config`. Raises `WeightsError` for a shape that can't be."""

    model_type = "rsm"
    keys_to_ignore_at_inference = ["state"]  # noqa: RUF012  # the base class's own shape

    vocab_size: int = 256
    hidden_size: int = 256
    num_hidden_layers: int = 8
    num_attention_heads: int = 4
    intermediate_size: int = 0
    num_memory_slots: int = 32
    chunk_size: int = 512
    sync_every: int = 4
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.shape()

    def shape(self) -> rsm_config.Config:
        """The same, as the rest of this package has it."""
        return rsm_config.Config.from_hf(self.to_dict())


class SmtConfig(PreTrainedConfig):
    """The fields of `model.smt_config.Config`. Raises `WeightsError` for a shape that can't be."""

    model_type = "smt"
    keys_to_ignore_at_inference = ["state"]  # noqa: RUF012  # the base class's own shape

    vocab_size: int = 50_257
    n_ssm_outputs: int = 15
    m_input_tokens: int = 50
    stride: int = 16
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int = 0
    layer_norm_epsilon: float = 1e-5
    ssm_num_layers: int = 24
    ssm_intermediate_size: int = 0
    ssm_state_size: int = 16
    ssm_conv_kernel: int = 4
    ssm_time_step_rank: int = 0
    ssm_norm_epsilon: float = 1e-5
    tie_word_embeddings: bool = False  # in `transformers`' sense: the head is no parameter of its own

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.shape()

    def shape(self) -> smt_config.Config:
        """The same, as the rest of this package has it."""
        return smt_config.Config.from_hf(self.to_dict())


class _Unrolled(StatefulForCausalLM):
    """A family whose `unroll` is a module of its own: its parts are parts of this one, under the same names."""

    def __init__(self, config: Any, network: HybridUnroll | RsmUnroll | SmtUnroll) -> None:
        super().__init__(config)
        self.spec = network.spec
        for name, part in network.named_children():
            self.add_module(name, part)
        self._network = (network,)  # in a tuple, so that its parts are not here twice
        self.gradient_checkpointing = False
        self.post_init()

    def hidden(self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool) -> tuple[Tensor, State]:
        """See `StatefulForCausalLM.hidden`."""
        return self._network[0].hidden(tokens, lengths, state, checkpoint=checkpoint)

    def head(self, hidden: Tensor) -> Tensor:
        """See `StatefulForCausalLM.head`."""
        return self._network[0].head(hidden)

    @classmethod
    def from_pretrained(cls, *args: Any, output_loading_info: bool = False, **kwargs: Any) -> Any:
        """As every model's. Raises `WeightsError` for a tensor that is missing or has no place."""
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, info = loaded
        for kind, what in (("missing_keys", "is missing"), ("unexpected_keys", "has no place in the configuration")):
            if info[kind]:
                raise WeightsError(f"tensor {min(info[kind])!r} {what}")
        return (model, info) if output_loading_info else model

    def _init_weights(self, module: nn.Module) -> None:
        """What is new was drawn when it was made; only what no checkpoint holds is made again."""
        if isinstance(module, Body):
            init.copy_(module.places, sinusoids(*module.places.shape))


class HybridForCausalLM(_Unrolled):
    """The hybrid with its head, which may be its embedding."""

    config_class = HybridConfig
    base_model_prefix = "model"

    def __init__(self, config: HybridConfig) -> None:
        super().__init__(config, HybridUnroll(config.shape()))


class RsmForCausalLM(_Unrolled):
    """RSM with its head."""

    config_class = RsmConfig
    base_model_prefix = "model"

    def __init__(self, config: RsmConfig) -> None:
        super().__init__(config, RsmUnroll(config.shape()))


class SmtForCausalLM(_Unrolled):
    """SMT with its head, which is its embedding."""

    config_class = SmtConfig
    base_model_prefix = "transformer"

    def __init__(self, config: SmtConfig) -> None:
        super().__init__(config, SmtUnroll(config.shape()))


def register() -> None:
    """Make them known to AutoConfig and AutoModelForCausalLM. Importing this module does it."""
    for model in (HybridForCausalLM, RsmForCausalLM, SmtForCausalLM):
        AutoConfig.register(model.config_class.model_type, model.config_class, exist_ok=True)
        AutoModelForCausalLM.register(model.config_class, model, exist_ok=True)


register()

__all__ = [
    "HybridConfig",
    "HybridForCausalLM",
    "RsmConfig",
    "RsmForCausalLM",
    "SmtConfig",
    "SmtForCausalLM",
    "register",
]
