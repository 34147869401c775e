"""`perennial generate`: complete a text in this process, with no server, session or store.

The text is read as it is, without a chat template. It knows only `model/`.
"""

from collections.abc import Iterator

import torch

from model.generate import generate
from model.sampling import SamplingParams
from server.loading import load, load_ops
from server.settings import Settings


def complete(settings: Settings, text: str, *, max_tokens: int, temperature: float, seed: int) -> Iterator[str]:
    """The text that follows `text`, in pieces as they become final; ends at an end token or after `max_tokens`.

    Raises ValueError (also as WeightsError, TokenizerError, SourceError) for a model, a text or a number that is not
    usable.
    """
    params = SamplingParams(temperature=temperature, seed=seed)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    loaded, tokenizer = load(settings, load_ops(settings))
    tokens = tokenizer.encode(text, specials=False)
    if tokenizer.add_bos and tokenizer.bos_id is not None:
        tokens = [tokenizer.bos_id, *tokens]
    decoder = tokenizer.decoder()
    for drawn in generate(loaded.model, tokens, params, max_tokens, stop_ids=tokenizer.eos_ids):
        if drawn.token not in tokenizer.eos_ids:
            yield decoder.push(drawn.token)
    yield decoder.flush()
