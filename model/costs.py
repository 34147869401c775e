"""What a model costs by its configuration alone: parameters, bytes of a session's state, arithmetic per token.

Arithmetic is of one generated token with full windows, in FLOPs (a multiplication and an addition are two), apart as
products (with weight matrices), attention (products of what is in the state: scores, sums of values, reads of an
Infini-attention memory) and updates (what is done number by number to a recurrent state). What happens once in a while
(a write at a chunk's end, or every stride) is spread over the tokens in between. Norms, activations and the embedding's
lookup are left out. The tests hold products and attention against torch's own counter.

Only this module and `model.registry` know more than one family.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from model import hybrid_config, mamba2_config, mamba_config, rsm_config, senri_config, smt_config
from model.infini import Rule


@dataclass(frozen=True, slots=True)
class Costs:
    """parameters: numbers in the weights. products, attention, updates: FLOPs per generated token."""

    parameters: int
    products: float
    attention: float
    updates: float

    @property
    def flops(self) -> float:
        """All of it."""
        return self.products + self.attention + self.updates


@singledispatch
def costs(config: object) -> Costs:
    """The costs of a configuration of any family. Raises TypeError for anything else."""
    raise TypeError(f"{type(config).__name__} is no family's configuration")


def dense(config: senri_config.Config, context: int) -> tuple[float, int]:
    """The same Llama with attention to a whole context, as others serve it: FLOPs of a token there, and bytes of its
    keys and values in 16 bits."""
    c = config
    heads, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    attention = 4.0 * c.num_hidden_layers * context * heads
    return 2 * _llama(c) + attention, 2 * 2 * c.num_hidden_layers * context * kv


def _llama(c: senri_config.Config) -> int:
    """Multiplications of a Llama's products."""
    E, F = c.hidden_size, c.intermediate_size
    heads, kv = c.num_attention_heads * c.head_dim, c.num_key_value_heads * c.head_dim
    return c.num_hidden_layers * (E * (heads + 2 * kv) + heads * E + 3 * E * F) + c.vocab_size * E


@costs.register
def _senri(c: senri_config.Config) -> Costs:
    E, H, G, D = c.hidden_size, c.num_attention_heads, c.num_key_value_heads, c.head_dim
    layers, memories = c.num_hidden_layers, len(c.memory_layers)
    products = _llama(c)
    parameters = products + (2 * layers + 1) * E + (0 if c.tie_word_embeddings else c.vocab_size * E)
    attention = 4 * layers * (c.sliding_window_size + c.num_sink_tokens) * H * D
    if c.memory_rule is Rule.GATED_DELTA:
        K, V, h = c.memory_heads * c.memory_key_dim, c.memory_heads * c.memory_value_dim, c.memory_heads
        own = E * (2 * K + V + h) + V * E
        parameters += memories * (own + E + (2 * K + V) * c.memory_conv_width + h + c.memory_value_dim)
        products += memories * own
        updates = memories * (6 * K * c.memory_value_dim + 2 * (2 * K + V) * c.memory_conv_width)
    else:
        attention += memories * 2 * H * D * (D + 1)  # σ(Q)M and σ(Q)·z, where a gate is open
        writes = 2 * G * D * D * (2 if c.memory_rule is Rule.DELTA else 1)
        updates = memories * (writes + G * D)
    return Costs(parameters, 2.0 * products, float(attention), float(updates))


def _mamba_layer(c: mamba_config.Sizes) -> tuple[int, int, int]:
    """Multiplications, parameters and updates of a layer."""
    E, d, N, R, K = c.hidden_size, c.intermediate_size, c.state_size, c.time_step_rank, c.conv_kernel
    products = E * 2 * d + d * (R + 2 * N) + R * d + d * E
    parameters = products + d * K + c.use_conv_bias * d + d + d * N + d + E + c.use_bias * (2 * d + E)
    return products, parameters, d * (2 * K + 6 * N + 2)  # conv; exp(ΔA)h + ΔBx, C·h; Dx


@costs.register
def _mamba(c: mamba_config.Config) -> Costs:
    products, parameters, updates = (c.num_hidden_layers * n for n in _mamba_layer(c))
    head = c.vocab_size * c.hidden_size
    embedding = head if c.tie_word_embeddings else 2 * head
    return Costs(parameters + embedding + c.hidden_size, 2.0 * (products + head), 0.0, float(updates))


def _mamba2_layer(c: mamba2_config.Sizes) -> tuple[int, int, int]:
    """Multiplications, parameters and updates of a layer's mixer, the norm before it left out."""
    E, d, H, N, K = c.hidden_size, c.inner, c.num_heads, c.state_size, c.conv_kernel
    into = d + c.conv_width + H
    products = E * into + d * E
    parameters = products + c.conv_width * (K + c.use_conv_bias) + 3 * H + d + c.use_bias * (into + E)
    return products, parameters, 2 * K * c.conv_width + d * (5 * N + 2)


@costs.register
def _mamba2(c: mamba2_config.Config) -> Costs:
    products, parameters, updates = (c.num_hidden_layers * n for n in _mamba2_layer(c))
    E, head = c.hidden_size, c.vocab_size * c.hidden_size
    embedding = head if c.tie_word_embeddings else 2 * head
    return Costs(parameters + embedding + (c.num_hidden_layers + 1) * E, 2.0 * (products + head), 0.0, float(updates))


@costs.register
def _hybrid(c: hybrid_config.Config) -> Costs:
    E, H, D = c.hidden_size, c.num_attention_heads, c.head_dim
    mixers, windows = len(c.layers(hybrid_config.MAMBA)), len(c.layers(hybrid_config.WINDOW))
    products, parameters, updates = (mixers * n for n in _mamba2_layer(c.mamba()))
    rest = windows * (E * (H + 2 * c.num_key_value_heads) * D + H * D * E)
    rest += c.num_hidden_layers * 3 * E * c.intermediate_size
    head = c.vocab_size * E
    parameters += rest + (2 * c.num_hidden_layers + 1) * E + (head if c.tie_word_embeddings else 2 * head)
    attention = 4.0 * windows * (c.sliding_window_size + c.num_sink_tokens) * H * D
    return Costs(parameters, 2.0 * (products + rest + head), attention, float(updates))


@costs.register
def _smt(c: smt_config.Config) -> Costs:
    E, F, P, layers = c.n_embd, c.n_inner, c.window, c.n_layer
    attention_in, rest = 3 * E * E, E * E + 2 * E * F
    # Of the last layer only the last position goes beyond its keys and values.
    window = layers * P * attention_in + ((layers - 1) * P + 1) * rest
    mamba, mamba_parameters, updates = (c.ssm_num_layers * n for n in _mamba_layer(c.sizes))
    write = E * E + P * E * E + mamba
    attention = 4.0 * ((layers - 1) * P * P + P) * E
    parameters = layers * (attention_in + rest + 4 * E + 5 * E + F) + 2 * E  # matrices, norms, biases; last norm
    parameters += P * E + c.vocab_size * E + 2 * E * E + mamba_parameters + E
    products = window + c.vocab_size * E + write / c.stride
    return Costs(parameters, 2.0 * products, attention, (updates + 4 * P * E) / c.stride)


@costs.register
def _rsm(c: rsm_config.Config) -> Costs:
    E, F, S, C, layers = c.hidden_size, c.intermediate_size, c.num_memory_slots, c.chunk_size, c.num_hidden_layers
    token = float(layers * (4 * E * E + 2 * E * E + 3 * E * F) + c.vocab_size * E)
    chunk = layers * (3 + 2) * S * E * E  # A, B, gate; keys and values of the slots
    attention = layers * 2.0 * (C + 1) * E + layers * 4.0 * S * C * E / C
    updates = 4.0 * layers * S * E
    parameters = layers * (8 * E * E + 3 * E * F + 3 * E * E + 2 * S * E + E + 3 * E) + 2 * c.vocab_size * E + E
    if c.sync_every:
        token += 2 * E * E
        chunk += 2 * S * E * E
        token += layers * (3 * S + 2 * C) * E * E / (c.sync_every * C)
        attention += layers * 4.0 * S * C * E / (c.sync_every * C)
        updates += 4.0 * S * E
        parameters += 5 * E * E + 4 * E * E + 3 * E
    return Costs(int(parameters), 2.0 * (token + chunk / C), attention, updates)
