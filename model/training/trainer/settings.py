"""What a training run is asked for: one YAML file, checked before anything is loaded.

A field that is not known is refused by name. `perennial train FILE --set optimiser.lr=3e-4` changes one from the
command line. Light to import: nothing here knows torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError


class TrainingError(ValueError):
    """A run cannot be begun or gone on with; the message says what to change."""


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    """Raises ValueError for a range from more to less."""
    if ends[0] > ends[1]:
        raise ValueError("the first is the least, and must not be above the second")
    return ends


_Count = Annotated[int, Field(ge=1)]
_Share = Annotated[float, Field(ge=0)]
_Beta = Annotated[float, Field(ge=0, lt=1)]
_Counts = Annotated[tuple[_Count, _Count], AfterValidator(_ordered)]
_Shares = Annotated[tuple[_Share, _Share], AfterValidator(_ordered)]
_Choice = Annotated[tuple[_Count, ...], Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Optimiser(_Section):
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with a linear warm-up and a cosine to `final` of `lr`."""

    lr: float = Field(default=1e-3, gt=0)
    betas: tuple[_Beta, _Beta] = (0.9, 0.98)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: int = Field(default=20, ge=0)
    final: float = Field(default=0.1, ge=0, le=1)
    clip: float = Field(default=1.0, gt=0)


class Tokeniser(_Section):
    """One that is trained from the texts (`model.training.tokenisers`)."""

    kind: Literal["char", "bpe", "unigram"] = "char"
    vocab_size: int = Field(default=512, ge=257)


class _Run(_Section):
    """What every task has.

    rows: texts side by side; accumulate: micro-batches to a step, each of so many rows. checkpoint: compute layers
    again in the backward pass instead of keeping what they gave. dtype: of the products (autocast); states, norms and
    losses stay float32.
    """

    seed: int = Field(default=1, ge=0)
    steps: int = Field(ge=1)
    rows: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["float32", "bfloat16"] = "float32"
    checkpoint: bool = False
    evaluate_every: int = Field(default=100, ge=1)
    optimiser: Optimiser = Field(default_factory=Optimiser)


class Language(_Run):
    """Next tokens of a text: each row is a stream of its own place in it, read on from step to step with its state.

    model: config.json's fields, `model_type` among them; the vocabulary is the tokeniser's. corpus: a file, a folder
    (its training part), or "" for Debian's linux-doc. tokens: the horizon, tokens of a row between two cuts of the
    gradient. forget: how often a row begins anew, its state empty. frozen: the memory is never written, neither in
    training nor when judged, which leaves the window alone: a control of the same shape. validation: share of the text,
    at its end, that is only judged; judged: horizons of each row that are.
    """

    task: Literal["language"]
    model: dict[str, Any]
    tokeniser: Tokeniser = Field(default_factory=Tokeniser)
    corpus: str = ""
    characters: int = Field(default=8_000_000, ge=10_000)
    tokens: int = Field(default=256, ge=2)
    forget: float = Field(default=0.05, ge=0, le=1)
    frozen: bool = False
    validation: float = Field(default=0.05, gt=0, lt=0.5)
    judged: int = Field(default=8, ge=1)


class Associative(_Run):
    """Multi-query associative recall (Arora et al. 2024, arXiv 2312.04927), each query beyond the window of its pair.

    pairs: how many are drawn, from least to most. distance: windows of noise between the last pair and the first query.
    """

    task: Literal["associative"]
    model: dict[str, Any]
    pairs: _Counts = (4, 8)
    distance: _Shares = (1.0, 2.0)
    judged: int = Field(default=16, ge=1)


class Memory(_Section):
    """A `gated_delta` memory to be trained; see `model.senri_config.Config` for the fields. scale: of W_o at the start,
    as a share of W_v transposed; where reads are added at the end, of as much as makes a read as long as what it is
    added to."""

    layers: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(12, 22), min_length=1)
    heads: int = Field(default=8, ge=1)
    key_dim: int = Field(default=128, ge=1)
    value_dim: int = Field(default=64, ge=1)
    degree: int = Field(default=1, ge=1)
    conv_width: int = Field(default=4, ge=1)
    values: Literal["embedding", "hidden"] = "embedding"
    reads: Literal["layer", "end"] = "layer"
    writes: Literal["now", "leaving"] = "now"
    gate: bool = False
    norm: bool = True
    beta: float = -2.0
    scale: float = Field(default=0.1, gt=0)
    tied: bool = True

    def fields(self) -> dict[str, Any]:
        """What it says of the model's configuration."""
        return {
            "memory_rule": "gated_delta",
            "memory_layer_indices": self.layers,
            "memory_heads": self.heads,
            "memory_key_dim": self.key_dim,
            "memory_value_dim": self.value_dim,
            "memory_key_degree": self.degree,
            "memory_conv_width": self.conv_width,
            "memory_value_source": self.values,
            "memory_reads": self.reads,
            "memory_writes": self.writes,
            "memory_read_gate": self.gate,
            "memory_read_norm": self.norm,
        }


class Weights(_Section):
    """Of the terms of the loss. read: on what the memory alone would answer. leads, in training on recordings: on how
    an answer begins before the value, its first token as much as the others together. beta: L1 on what is written to
    filler, from step beta_from on; silence, in training on recordings: on the logits of it, as far as they are above
    that of 0.001, for an L1 hardly moves what is small already, and small writes add up."""

    answers: float = 1.0
    read: float = 0.5
    leads: float = 0.0
    text: float = 0.2
    beta: float = 0.0
    silence: float = 0.0
    beta_from: int = 0


class Lora(_Section):
    """Low-rank changes of the base model's own products (Hu et al. 2021, arXiv 2106.09685), merged when exported."""

    rank: int = Field(default=8, ge=1)
    lr: float = Field(default=0.05, gt=0)
    after: int = Field(default=200, ge=0)


class Recall(_Run):
    """Facts told, filler, questions: the memory of a model whose other weights stay as they are, or change little.

    base: what `perennial serve --model` takes. windows, tokens: one of each is drawn for a step. curriculum: so many
    steps are taken before each further one of tokens may be drawn; 0: all from the start. facts: least and most.
    copies: the share of texts that tell nothing and say themselves twice, each half longer than the window. passing:
    how often a text begins with the memory that another one left. backbone: "frozen", or `lora`.
    """

    task: Literal["recall"]
    base: str = "smollm2-135m"
    memory: Memory = Field(default_factory=Memory)
    windows: _Choice = (64,)
    tokens: _Choice = (256,)
    curriculum: int = Field(default=0, ge=0)
    facts: _Counts = (2, 6)
    copies: float = Field(default=0.0, ge=0, le=1)
    corpus: str = ""
    characters: int = Field(default=8_000_000, ge=10_000)
    passing: float = Field(default=0.0, ge=0, le=1)
    weights: Weights = Field(default_factory=Weights)
    gate_lr: float = Field(default=10.0, gt=0)
    lora: Lora | None = None
    judged: int = Field(default=8, ge=1)


class Recording(_Section):
    """What is recorded of the base model (`recording`). files: of so many stories, tokens of filler, and ordinary
    replies, each; the last in ten, one at least, are only judged. windows: of the base model as it reads the files that
    are trained on, one after the other; the run's own where none is named, and always for those that are judged.
    books: files of text that are read as filler beside the corpus. folder: where the recording is kept, so that several
    runs share it; "" for the run's own."""

    files: int = Field(default=20, ge=2)
    stories: int = Field(default=65, ge=1)
    facts: _Counts = (1, 4)
    filler: int = Field(default=12_500, ge=640)
    replies: int = Field(default=24, ge=0)
    windows: tuple[Annotated[int, Field(ge=8)], ...] = ()
    books: tuple[str, ...] = ()
    folder: str = ""
    corpus: str = ""
    characters: int = Field(default=6_000_000, ge=10_000)


class Recorded(_Run):
    """A memory that is read at the end, trained on recordings of what the base model's layers are given.

    memory.reads must be "end". shared: W_k is W_q throughout, not only at the start. decays: the memory fades (α).
    window: of the base model. tokens: a step's texts have one of these lengths, so many rows of them as make `rows` of
    the first. curriculum: so many steps are taken before each further length may be drawn; 0: all from the start.
    stories: excerpts with facts in a text, least and most. passing: how often a text begins with the memory that
    another one left. lag: tokens that a write comes after its token was read, where memory.writes is "leaving": less
    than the window, for shorter texts. noise: added to the inputs, as a share of their spread, so that a fact is not
    learned by heart. start: a memory.safetensors of the same shape to begin with. sharper: what the logits of its β are
    multiplied by, so that what it hardly writes it writes less still. judged, judged_tokens: how many texts an
    evaluation judges, and how long they are; 0: as long as the longest trained on.
    """

    task: Literal["recorded"]
    base: str = "smollm2-135m"
    start: str = ""
    sharper: float = Field(default=1.0, gt=0)
    memory: Memory = Field(default_factory=lambda: Memory(layers=(20,), reads="end", gate=True, norm=False))
    recording: Recording = Field(default_factory=Recording)
    shared: bool = False
    decays: bool = False
    window: int = Field(default=512, ge=1)
    tokens: _Choice = (768,)
    curriculum: int = Field(default=0, ge=0)
    stories: _Counts = (1, 4)
    passing: float = Field(default=0.0, ge=0, le=1)
    lag: int = Field(default=64, ge=1)
    noise: float = Field(default=0.0, ge=0)
    weights: Weights = Field(default_factory=Weights)
    gate_lr: float = Field(default=10.0, gt=0)
    judged: int = Field(default=24, ge=1)
    judged_tokens: int = Field(default=0, ge=0)


Settings = Language | Associative | Recall | Recorded
_SETTINGS: TypeAdapter[Settings] = TypeAdapter(Annotated[Settings, Field(discriminator="task")])


def load(path: Path, changes: list[str] | None = None) -> Settings:
    """The settings of a YAML file. changes: "a.b=value" each, the value as YAML. Raises `TrainingError`."""
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise TrainingError(f"{path}: cannot be read: {e.strerror}") from e
    except yaml.YAMLError as e:
        raise TrainingError(f"{path}: is not YAML: {e}") from e
    if not isinstance(body, dict):
        raise TrainingError(f"{path}: is not a table of settings")
    for change in changes or ():
        _change(body, change)
    return parse(body, str(path))


def parse(body: dict[str, Any], where: str) -> Settings:
    """Settings from plain data. Raises `TrainingError` naming the field that does not fit."""
    try:
        return _SETTINGS.validate_python(body)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        # The first part of a place is the task, which chose the section.
        place = ".".join(str(part) for part in first["loc"][1:]) or "task"
        raise TrainingError(f"{where}: {place}: {first['msg']}") from e


def dump(settings: Settings) -> str:
    """As YAML that `load` reads back."""
    text: str = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return text


def _change(body: dict[str, Any], change: str) -> None:
    name, equals, value = change.partition("=")
    if not equals:
        raise TrainingError(f"--set {change}: is not NAME=VALUE")
    *path, last = name.strip().split(".")
    for part in path:
        body = body.setdefault(part, {})
        if not isinstance(body, dict):
            raise TrainingError(f"--set {change}: {part} has no fields")
    try:
        body[last] = _number(yaml.safe_load(value))
    except yaml.YAMLError as e:
        raise TrainingError(f"--set {change}: {value!r} is not YAML") from e


def _number(value: object) -> object:
    """YAML 1.1 takes 1e-3 for a word."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
