"""SmolLM2 as we run it, against `transformers`' Llama on the same weights, and against the naive reference.

`transformers` reads the GGUF by itself, so the reading of the file is under test too. Logits have a standard deviation
of about 3.

| path | tolerance on logits |
|---|---|
| float32 weights and window (`ref`, and `cpu` on dense weights) | 2e-3 |
| as served (4-bit products, bfloat16 window) | mean 0.25, and a divergence of 0.02 nats |
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from model.generate import generate
from model.kernels import choose_ops
from model.sampling import SamplingParams
from model.senri import Config, Senri
from model.senri_ref import logits_ref
from model.source import locate
from model.state import State, as_rows
from model.tokenizer import Tokenizer, load_tokenizer
from model.weights import Checkpoint, Weight, open_checkpoint

pytestmark = [pytest.mark.weights, pytest.mark.timeout(400)]

PROMPTS = [
    "Once upon a time, in a village by the sea, there lived",
    "def quicksort(items):\n    if len(items) <= 1:\n        return items\n",
    "La capitale de la France est Paris. 東京は日本の首都です。 1 2 3 4 5 6",
    "The second law of thermodynamics says that",
]


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return open_checkpoint("smollm2-135m")


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return load_tokenizer("smollm2-135m", None)


@pytest.fixture(scope="session")
def llama() -> Any:
    """`transformers`' own reading of the file, float32."""
    from transformers import AutoModelForCausalLM

    path = locate("smollm2-135m", weights=True)
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)


class Dense:
    """The checkpoint with every weight made float32, each once."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._made: dict[str, Tensor] = {}

    def names(self) -> Any:
        return self._checkpoint.names()

    def expect(self, name: str, shape: tuple[int, ...]) -> Weight:
        if name not in self._made:
            weight = self._checkpoint.expect(name, shape)
            self._made[name] = weight if isinstance(weight, Tensor) else weight.dequantise()
        return self._made[name]


@pytest.fixture(scope="session")
def dense(checkpoint: Checkpoint) -> Dense:
    return Dense(checkpoint)


@pytest.fixture(scope="session")
def exact(checkpoint: Checkpoint, dense: Dense) -> Senri:
    """Float32 throughout, on the fast backend."""
    config = Config.from_hf(checkpoint.config, sliding_window_size=512)
    return Senri(config, dense, choose_ops("cpu", state_dtype=torch.float32))


@pytest.fixture(scope="session")
def served(checkpoint: Checkpoint) -> Senri:
    """As the server runs it."""
    return Senri(Config.from_hf(checkpoint.config, sliding_window_size=512), checkpoint, choose_ops("auto"))


def last_logits(model: Senri, ids: list[int], chunk: int = 128) -> Tensor:
    state = State.zeros(model.spec, 1)
    for start in range(0, len(ids), chunk):
        logits, _ = model.advance(*as_rows([ids[start : start + chunk]]), state)
    return logits[0]


def all_logits(model: Senri, ids: list[int]) -> Tensor:
    state = State.zeros(model.spec, 1)
    return torch.cat([model.advance(*as_rows([[token]]), state)[0] for token in ids])


def hf_logits(llama: Any, ids: list[int]) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = llama(torch.tensor([ids])).logits[0]
    return logits


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(4))
def test_logits_within_the_window(exact: Senri, llama: Any, tokenizer: Tokenizer, prompt: str) -> None:
    ids = tokenizer.encode(prompt, specials=False)
    expected = hf_logits(llama, ids)
    torch.testing.assert_close(all_logits(exact, ids), expected, rtol=0, atol=2e-3)


def test_logits_at_the_end_of_a_full_window(exact: Senri, llama: Any, tokenizer: Tokenizer) -> None:
    """512 tokens, read in chunks: the last position that full attention and the window have in common."""
    ids = tokenizer.encode("\n".join(PROMPTS) * 12, specials=False)[:512]
    assert len(ids) == 512
    torch.testing.assert_close(last_logits(exact, ids), hf_logits(llama, ids)[-1], rtol=0, atol=2e-3)


def test_the_plain_reference_agrees_too(checkpoint: Checkpoint, dense: Dense, llama: Any, tokenizer: Tokenizer) -> None:
    model = Senri(Config.from_hf(checkpoint.config, sliding_window_size=512), dense, choose_ops("ref"))
    ids = tokenizer.encode(PROMPTS[0], specials=False)
    torch.testing.assert_close(all_logits(model, ids), hf_logits(llama, ids), rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    "prompt", [PROMPTS[0], *(pytest.param(prompt, marks=pytest.mark.full) for prompt in PROMPTS[1:])], ids=range(4)
)
def test_greedy_text_over_64_tokens_is_identical(exact: Senri, llama: Any, tokenizer: Tokenizer, prompt: str) -> None:
    ids = tokenizer.encode(prompt, specials=False)
    ours = [s.token for s in generate(exact, ids, SamplingParams(temperature=0.0), 64)]
    given = torch.tensor([ids])
    theirs = llama.generate(
        given, attention_mask=torch.ones_like(given), min_new_tokens=64, max_new_tokens=64, do_sample=False,
        eos_token_id=[], pad_token_id=0,
    )  # fmt: skip
    assert ours == theirs[0, len(ids) :].tolist()


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(4))
def test_what_is_served_stays_close(served: Senri, llama: Any, tokenizer: Tokenizer, prompt: str) -> None:
    ids = tokenizer.encode(prompt, specials=False)
    expected, got = hf_logits(llama, ids), all_logits(served, ids)
    assert (got - expected).abs().mean() < 0.25
    p, q = expected.log_softmax(-1), got.log_softmax(-1)
    assert (p.exp() * (p - q)).sum(-1).mean() < 0.02


def test_beyond_the_window_equals_the_naive_sliding_window(
    checkpoint: Checkpoint, dense: Dense, tokenizer: Tokenizer
) -> None:
    """The real weights with a window of 10, so that 26 tokens leave it twice; sinks included."""
    config = Config.from_hf(checkpoint.config, sliding_window_size=10)
    ids = tokenizer.encode(PROMPTS[0] + " " + PROMPTS[3] + " " + PROMPTS[2], specials=False)[:26]
    model = Senri(config, dense, choose_ops("cpu", state_dtype=torch.float32))
    got = all_logits(model, ids)
    torch.testing.assert_close(got.double(), logits_ref(config, dense, ids), rtol=0, atol=5e-3)


def test_a_billion_tokens_on_the_same_text_gives_the_same_logits(exact: Senri, tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(PROMPTS[0], specials=False)
    results = []
    for start in (1_000, 1_000_000, 1_000_000_000):
        state = State.zeros(exact.spec, 1)
        state["position"].fill_(start)
        results.append(exact.advance(*as_rows([ids]), state)[0])
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=5e-3)
    torch.testing.assert_close(results[2], results[0], rtol=0, atol=5e-3)


def test_eight_rows_agree_with_one_in_the_default_mode(served: Senri, tokenizer: Tokenizer) -> None:
    """Not the same bits: other kernels at other row counts. The tolerance stated in the README."""
    texts = [tokenizer.encode(prompt * (i + 1), specials=False) for i, prompt in enumerate(PROMPTS * 2)]
    together = State.zeros(served.spec, 8)
    for b, ids in enumerate(texts):
        served.advance(*as_rows([ids[:-1]]), together.slice(b, b + 1))
    logits, _ = served.advance(*as_rows([ids[-1:] for ids in texts]), together)
    for b, ids in enumerate(texts):
        alone = last_logits(served, ids)
        torch.testing.assert_close(logits[b], alone, rtol=0, atol=0.5)
