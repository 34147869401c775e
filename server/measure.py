"""`perennial evaluate`: measure a model in this process, with no server, session or store.

It knows only `model/`.
"""

from collections.abc import Callable, Sequence

import torch

from model.tokenizer import load_tokenizer
from model.training.evaluate import Source, evaluate
from model.training.options import Options
from server.loading import load_ops, memory_of
from server.settings import Settings


def measure(settings: Settings, options: Options, *, command: Sequence[str], say: Callable[[str], None]) -> None:
    """Measure what the options ask for, of the model of the settings; `say` is told the tables. command:
    the command line's words, kept with the results.

    Raises ValueError (also as WeightsError, TokenizerError, SourceError, CorpusError and so on) for a model or an
    option that is not usable, OSError where the results cannot be written.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    tokenizer = load_tokenizer(settings.model, settings.cache_dir)
    source = Source(settings.model, load_ops(settings), tokenizer, settings.sliding_window, memory_of(settings))
    evaluate(source, options, command=["perennial", *command], say=say)
