"""What tests of tokenisers, templates and weights share: SmolLM2, `transformers`' reading of it, and small ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from model.source import locate
from model.tokenizer import Tokenizer, load_tokenizer

_CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture(scope="session")
def smol_path() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct."""
    return locate("smollm2-135m", weights=True)


@pytest.fixture(scope="session")
def smol_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizer-cache")


@pytest.fixture(scope="session")
def smol(smol_path: Path, smol_cache: Path) -> Tokenizer:
    """Our tokeniser of SmolLM2-135M-Instruct."""
    return load_tokenizer(smol_path, smol_cache)


@pytest.fixture(scope="session")
def hf_smol(smol_path: Path) -> Any:
    """`transformers`' tokeniser of the same file, as it comes. Takes about 10 s."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(smol_path.parent, gguf_file=smol_path.name)


@pytest.fixture(scope="session")
def hf_smol_digits(hf_smol: Any) -> Any:
    """The same with the pre-tokeniser SmolLM2 is published with, which `transformers` leaves out for GGUF files."""
    import copy

    tokenizer = copy.deepcopy(hf_smol)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return tokenizer


def _backend(*special: str | AddedToken) -> Backend:
    """A byte-level tokeniser of the 256 bytes, two merges, and the special tokens at the end of the vocabulary."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*letters, "he", "hel"])}
    backend = Backend(models.BPE(vocab, [("h", "e"), ("he", "l")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(
        [s if isinstance(s, AddedToken) else AddedToken(s, normalized=False, special=True) for s in special]
    )
    return backend


def _tokenizer(template: str | None, *special: str | AddedToken, **variables: str) -> Tokenizer:
    """`_backend` with a template; its end token is whatever the template ends messages with."""
    return Tokenizer(
        _backend(*special),
        fingerprint="small",
        bos_id=None,
        eos_ids=(),
        add_bos=False,
        template=template,
        template_variables=variables,
    )


@pytest.fixture(scope="session")
def chatml() -> str:
    """A template as SmolLM2's, without its default system message."""
    return _CHATML


@pytest.fixture(scope="session")
def make_backend() -> Any:
    return _backend


@pytest.fixture(scope="session")
def make_tokenizer() -> Any:
    return _tokenizer
