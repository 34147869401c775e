"""`perennial generate`: complete a text in this process, with no server, session or store.

The text is read as it is, without a chat template. It knows only `model/`.
"""

from collections.abc import Iterator

import torch

from model.generate import generate
from model.kernels import choose_ops
from model.registry import load_model
from model.sampling import SamplingParams
from model.tokenizer import load_tokenizer
from server.settings import Settings


def complete(settings: Settings, text: str, *, max_tokens: int, temperature: float, seed: int) -> Iterator[str]:
    """The text that follows `text`, in pieces as they become final; ends at an end token or after `max_tokens`.

    Raises ValueError (also as WeightsError, TokenizerError, SourceError) for a model, a text or a number that is not
    usable.
    """
    params = SamplingParams(temperature=temperature, seed=seed)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    tokenizer = load_tokenizer(settings.model, settings.cache_dir)
    tokens = tokenizer.encode(text, specials=False)
    if tokenizer.add_bos and tokenizer.bos_id is not None:
        tokens = [tokenizer.bos_id, *tokens]
    dtype = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}[settings.dtype]
    ops = choose_ops(settings.ops, batch_invariant=settings.batch_invariant, state_dtype=dtype)
    loaded = load_model(settings.model, ops, memory=settings.memory, sliding_window_size=settings.sliding_window)
    decoder = tokenizer.decoder()
    for drawn in generate(loaded.model, tokens, params, max_tokens, stop_ids=tokenizer.eos_ids):
        if drawn.token not in tokenizer.eos_ids:
            yield decoder.push(drawn.token)
    yield decoder.flush()
