"""Senri as a `transformers` model: `SenriConfig`, `SenriForCausalLM`, known to AutoConfig and AutoModelForCausalLM.

Importing this module registers both. What `save_pretrained` writes the server loads as it is, and the other way round;
a plain Llama checkpoint loads with every gate closed, and is then, within the window, exactly that Llama. Its cache is
a `State` of fixed size under the name `state`: give it back and go on, with the new tokens only.

    model = AutoModelForCausalLM.from_pretrained(folder)
    out = model.generate(ids, max_new_tokens=20, return_dict_in_generate=True)
    more = model.generate(new_ids, state=out.past_key_values, max_new_tokens=20)

(`generate` calls every cache past_key_values in what it returns. The last token it drew has not been read: begin
new_ids with it.) Nothing of the serving path imports this module: `transformers`' torch parts take seconds to import.
"""

# mypy: allow-untyped-calls, disable-error-code="misc,override"
# (transformers annotates a part of itself, and its own subclasses change signatures as ours do)

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, LlamaConfig, PreTrainedModel
from transformers import initialization as init
from transformers.generation.configuration_utils import GenerationMode
from transformers.utils.generic import ModelOutput

from model.remembering import CLOSED
from model.senri_config import Config
from model.state import State, StateError
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


@dataclass
class SenriOutput(ModelOutput):
    """loss (), with labels; logits (B, T, V) float32, 0 at padding; state: what to go on from, with use_cache."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    state: State | None = None


class SenriForCausalLM(PreTrainedModel, GenerationMixin):
    """Senri with its head. Parameters as in the checkpoints; the arithmetic is `model.unroll`'s, differentiable
    through the state. num_memories > 1 is refused."""

    config_class = SenriConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _is_stateful = True  # a state can't be taken back to an earlier token
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

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        state: State | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        return_dict: bool | None = None,
    ) -> SenriOutput | tuple[Any, ...]:
        """input_ids (B, T): what `state` has not read; attention_mask (B, ≥ T), 1 for tokens and 0 for padding on the
        left or the right, its last T columns count. labels (B, T): the tokens themselves, −100 where there is no loss.

        Raises ValueError for a mask with holes, and `StateError` for a state of another model or number of rows.
        """
        B, T = input_ids.shape
        state = State.zeros(self.spec, B, input_ids.device) if state is None else state
        if state.rows != B or state.spec.hash() != self.spec.hash():
            raise StateError(f"the state given is not one of this model's with {B} rows")
        first, lengths = _real(attention_mask, B, T, input_ids.device)
        place = torch.arange(T, device=input_ids.device)
        tokens = input_ids.gather(1, (place + first[:, None]) % max(T, 1))  # right-padded, whatever they were
        out = self.model(tokens, lengths, state, checkpoint=self.gradient_checkpointing and self.training)
        back = ((place - first[:, None]) % max(T, 1)).unsqueeze(-1).expand(-1, -1, out.hidden.shape[-1])
        hidden = out.hidden.gather(1, back)
        keep = slice(-logits_to_keep or None, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = accurate(self.lm_head(hidden[:, keep]))
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, num_items_in_batch=num_items_in_batch
            )
        cached = self.config.use_cache if use_cache is None else use_cache
        output = SenriOutput(loss=loss, logits=logits, state=out.state if cached else None)
        return output.to_tuple() if return_dict is False else output

    def prepare_inputs_for_generation(self, input_ids: Any, *args: Any, **kwargs: Any) -> Any:
        """Refuses prompts that are padded on the right: what follows them could only be read after the padding."""
        mask = kwargs.get("attention_mask")
        if mask is not None and not bool(mask[:, -1].all()):
            raise ValueError("a prompt ends in padding: to generate, pad on the left")
        return super().prepare_inputs_for_generation(input_ids, *args, **kwargs)

    def _prepare_cache_for_generation(self, *args: Any, **kwargs: Any) -> Any:
        """The first `forward` makes the state; here only what can't go with one is refused."""
        _, _, mode, *_ = (*args, *kwargs.values())
        if mode in (GenerationMode.BEAM_SEARCH, GenerationMode.BEAM_SAMPLE):
            raise ValueError("beam search is not supported: a state can't be shared between beams that part")


def _real(attention_mask: Tensor | None, B: int, T: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each row's tokens begin and how many they are, (B,) int64 each."""
    if attention_mask is None:
        return torch.zeros(B, dtype=torch.int64, device=device), torch.full((B,), T, device=device)
    if attention_mask.dim() != 2 or attention_mask.shape[0] != B or attention_mask.shape[1] < T:
        raise ValueError(f"attention_mask must be ({B}, at least {T}), not {tuple(attention_mask.shape)}")
    mask = attention_mask[:, attention_mask.shape[1] - T :].bool()
    place, lengths = torch.arange(T, device=device), mask.sum(dim=1)
    first = torch.where(mask, place, T).amin(dim=1) if T else lengths
    first = torch.where(lengths > 0, first, 0)
    whole = (place >= first[:, None]) & (place < (first + lengths)[:, None])
    if not torch.equal(mask, whole):
        raise ValueError("attention_mask has a hole: padding may only stand before or after a row's tokens")
    return first, lengths


def register() -> None:
    """Make both known to AutoConfig and AutoModelForCausalLM. Importing this module does it."""
    AutoConfig.register(SenriConfig.model_type, SenriConfig, exist_ok=True)
    AutoModelForCausalLM.register(SenriConfig, SenriForCausalLM, exist_ok=True)


register()
