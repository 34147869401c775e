"""What the families have in common as `transformers` models: `forward` over a `State` of fixed size, and `generate`.

The cache is a `State` under the name `state`: give it back and go on, with the new tokens only.

    out = model.generate(ids, max_new_tokens=20, return_dict_in_generate=True)
    more = model.generate(new_ids, state=out.past_key_values, max_new_tokens=20)

(`generate` calls every cache past_key_values in what it returns. The last token it drew has not been read: begin
new_ids with it.) Nothing of the serving path imports this module: `transformers`' torch parts take seconds to import.
"""

# mypy: allow-untyped-calls, disable-error-code="misc,override"
# (transformers annotates a part of itself, and its own subclasses change signatures as ours do)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationMixin, PreTrainedModel
from transformers.generation.configuration_utils import GenerationMode
from transformers.utils.generic import ModelOutput

from model.state import State, StateError, StateSpec


@dataclass
class StatefulOutput(ModelOutput):
    """loss (), with labels; logits (B, T, V) float32, 0 at padding; state: what to go on from, with use_cache."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    state: State | None = None


class StatefulForCausalLM(PreTrainedModel, GenerationMixin):
    """A family with its head: a subclass says what its `spec` is, how it reads (`hidden`) and what its `head` is."""

    spec: StateSpec
    supports_gradient_checkpointing = True
    _is_stateful = True  # a state can't be taken back to an earlier token

    def hidden(self, tokens: Tensor, lengths: Tensor, state: State, *, checkpoint: bool) -> tuple[Tensor, State]:
        """What the head is applied to, (B, T, E), 0 at padding, and the state after; as `Trainable.unroll` reads."""
        raise NotImplementedError

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (…, V), float32 at least, of hidden states (…, E)."""
        raise NotImplementedError

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
    ) -> StatefulOutput | tuple[Any, ...]:
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
        checkpoint = bool(getattr(self, "gradient_checkpointing", False)) and self.training
        read, after = self.hidden(tokens, lengths, state, checkpoint=checkpoint)
        back = ((place - first[:, None]) % max(T, 1)).unsqueeze(-1).expand(-1, -1, read.shape[-1])
        hidden = read.gather(1, back)
        keep = slice(-logits_to_keep or None, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.head(hidden[:, keep])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits, labels=labels, vocab_size=self.config.vocab_size, num_items_in_batch=num_items_in_batch
            )
        cached = getattr(self.config, "use_cache", True) if use_cache is None else use_cache
        output = StatefulOutput(loss=loss, logits=logits, state=after if cached else None)
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
