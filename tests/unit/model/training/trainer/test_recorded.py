"""A memory trained on recordings: what is recorded is what the served model computes, and what is trained is served."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.kernels import choose_ops
from model.overlay import Overlaid
from model.registry import load_model
from model.senri import Config, Senri
from model.state import State, as_rows
from model.tokenizer import Tokenizer, load_tokenizer
from model.training.lessons import RELATIONS
from model.training.trainer import recording
from model.training.trainer.excerpts import compose, side_by_side
from model.training.trainer.recorded import RecordedTask
from model.training.trainer.recorder import HELD, TAUGHT, Recorder
from model.training.trainer.recording import Recorded
from model.training.trainer.settings import Recorded as Settings
from model.training.trainer.settings import Recording, TrainingError, parse
from model.training.trainer.talk import LONGEST, Talk
from model.training.trainer.taps import Taps
from model.unroll import Unroll
from model.weights import WeightsError, open_checkpoint
from support.checkpoint import tiny_checkpoint
from support.tiny import SENRI, senri_tensors, torch_threads

WINDOW = 32
FEW = Recording(files=2, stories=3, facts=(1, 2), filler=1300, replies=3)
TEXT = np.frombuffer(b"the cat sat on the mat and the dog lay by the fire. " * 90, dtype=np.uint8).astype(np.int32)


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Products this small only wait for each other's threads."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Tokenizer:
    return load_tokenizer(base, None)


def recorder(base: Path, tokenizer: Tokenizer, settings: Recording = FEW, seed: int = 1) -> Recorder:
    opened = open_checkpoint(base)
    config = Config.from_hf(opened.config, sliding_window_size=WINDOW)
    ops = choose_ops("ref")
    talk = Talk(Senri(replace(config, memory_layer_indices=()), opened, ops), tokenizer)
    taps = [Taps(replace(config, sliding_window_size=w), opened, ops, (1, 3)) for w in (WINDOW, *settings.windows)]
    return Recorder(settings, seed, taps, talk, tokenizer, TEXT)


@pytest.fixture(scope="module")
def recorded(base: Path, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorded]:
    folder = tmp_path_factory.mktemp("recording")
    with torch_threads(1):  # a module's fixtures are made before a test's own
        recorder(base, tokenizer).make(folder)
    return folder, recording.load(recording.files(folder, FEW.files))


def test_taps_are_what_the_layers_are_given() -> None:
    """Against the model as it is trained, and as it is served; over the window's end, in pieces, with a padded row."""
    tensors = senri_tensors(SENRI, gates=False)
    ops = choose_ops("ref")
    taps = Taps(SENRI, tensors, ops, (0, 2))
    tokens, lengths = as_rows([list(range(1, 60)), list(range(7, 40))])
    state = State.zeros(taps.spec, 2)
    pieces = [
        taps.read(tokens[:, a : a + 20].contiguous(), (lengths - a).clamp(0, min(20, 59 - a)), state, whole=True)
        for a in range(0, 59, 20)
    ]
    unroll = Unroll.load(SENRI, tensors)
    given: dict[int, list[torch.Tensor]] = {0: [], 2: []}
    for i, kept in given.items():
        layer: Any = unroll.model.layers[i]
        layer.input_layernorm.register_forward_hook(lambda _, __, out, kept=kept: kept.append(out))
    logits, _ = unroll.unroll(tokens, lengths, State.zeros(unroll.spec, 2))
    residual = torch.cat([h for _, h in pieces if h is not None], dim=1)
    normed = residual * torch.rsqrt(residual.square().mean(-1, keepdim=True) + SENRI.rms_norm_eps)
    said = unroll.head(normed * unroll.model.norm.weight)
    for row, length in enumerate(lengths.tolist()):
        for i, inputs in given.items():
            mine = torch.cat([seen[i] for seen, _ in pieces], dim=1)[row, :length]
            torch.testing.assert_close(mine, torch.cat(inputs, dim=1)[row, :length], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(said[row, :length], logits[row, :length], rtol=1e-3, atol=1e-3)
    served = Senri(SENRI, tensors, ops)
    expected, _ = served.advance(tokens, lengths, State.zeros(served.spec, 2))
    torch.testing.assert_close(said[torch.arange(2), lengths - 1], expected, rtol=1e-3, atol=1e-3)


def test_taps_stop_where_nothing_more_is_wanted() -> None:
    tensors = senri_tensors(SENRI, gates=False)
    taps = Taps(SENRI, tensors, choose_ops("ref"), (1,))
    tokens, lengths = as_rows([[1, 2, 3, 4]])
    short, nothing = taps.read(tokens, lengths, State.zeros(taps.spec, 1), whole=False)
    state = State.zeros(taps.spec, 1)
    long, residual = taps.read(tokens, lengths, state, whole=True)
    assert nothing is None
    assert residual is not None
    assert torch.equal(short[1], long[1])
    assert int(state["position"]) == 4


def test_answers_are_where_a_recording_says(recorded: tuple[Path, Recorded], tokenizer: Tokenizer) -> None:
    _, r = recorded
    assert len(r.told) == FEW.files * FEW.stories
    for told in r.told:
        text = tokenizer.decode(r.tokens[told.start : told.end].tolist())
        for one in told.asked:
            *answer, end = r.tokens[one.answer + 1 : one.answer + 1 + one.size].tolist()
            assert end in {*tokenizer.encode(".", specials=False), *tokenizer.eos_ids}  # it is learned with the value
            assert tokenizer.decode(answer).strip() in text
            assert one.start < one.answer < one.answer + one.size == one.end - 1
            assert (r.kept[one.answer - one.lead : one.answer + one.size] >= 0).all()
            begins = tokenizer.decode(r.tokens[one.start : one.answer - one.lead + 1].tolist())
            assert one.lead == 0 or begins.endswith("assistant\n")
    leads = [one.lead for told in r.told for one in told.asked]
    assert any(leads)
    assert not all(leads)
    flows = [bool((r.kept[a:b] >= 0).all()) for a, b in r.flows]
    assert any(flows)
    assert not all(flows)
    assert {i: tuple(x.shape) for i, x in r.inputs.items()} == dict.fromkeys((1, 3), (len(r.tokens), SENRI.hidden_size))
    assert sorted(r.kept[r.kept >= 0].tolist()) == list(range(len(r.residual)))


def test_a_recording_that_was_stopped_is_gone_on_with(
    recorded: tuple[Path, Recorded], base: Path, tokenizer: Tokenizer
) -> None:
    folder, _ = recorded
    first, second = recording.files(folder, FEW.files)
    before, stamp = second.read_bytes(), first.stat().st_mtime_ns
    second.unlink()
    recorder(base, tokenizer).make(folder)
    assert second.read_bytes() == before
    assert first.stat().st_mtime_ns == stamp
    with pytest.raises(TrainingError, match="other settings"):
        recorder(base, tokenizer, seed=2).make(folder)


def test_what_is_trained_on_may_be_read_in_other_windows(
    recorded: tuple[Path, Recorded], base: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    settings = FEW.model_copy(update={"windows": (12,)})
    recorder(base, tokenizer, settings).make(tmp_path)
    taught, judged = (recording.load([file]) for file in recording.files(tmp_path, FEW.files))
    same, also = (recording.load([file]) for file in recording.files(recorded[0], FEW.files))
    assert torch.equal(judged.inputs[3], also.inputs[3])
    assert not torch.equal(taught.inputs[3], same.inputs[3])
    first = taught.told[0].start + torch.arange(12)  # a window is not yet full
    torch.testing.assert_close(taught.inputs[3][first], same.inputs[3][first])


def test_what_is_judged_is_of_relations_that_are_not_taught() -> None:
    assert frozenset(range(len(RELATIONS))) == HELD | TAUGHT
    assert not HELD & TAUGHT
    assert list(recording.held_out(20)) == [18, 19]
    assert list(recording.held_out(2)) == [1]


def test_a_text_is_put_together_of_whole_excerpts(recorded: tuple[Path, Recorded]) -> None:
    _, r = recorded
    for seed in range(20):
        text = compose(random.Random(seed), r, 1500, 2)
        assert text == compose(random.Random(seed), r, 1500, 2)
        assert 1400 <= len(text.places) <= 2500
        assert sum(text.sizes) == len(text.answers)
        followed = [text.places[t + 1] == text.places[t] + 1 for t in (*text.answers, *text.filler)]
        assert all(followed)
        assert [lead[-1] + 1 for lead in text.leads if lead[-1] + 1 not in text.answers] == []
        assert all(text.places[t] == text.places[lead[0]] + t - lead[0] for lead in text.leads for t in lead)
        firsts = {one.answer: told for told in r.told for one in told.asked}
        for t in text.answers:
            if (told := firsts.get(text.places[t])) is not None:
                assert text.places.index(told.start) < t  # told before it is asked for
    places, lengths = side_by_side([compose(random.Random(s), r, 300 * (s + 1), 1) for s in range(2)])
    assert places.shape == (2, int(lengths.max()))


def settings(base: Path, corpus: Path, writes: str = "now") -> Settings:
    made = parse(
        {
            "task": "recorded",
            "steps": 3,
            "rows": 2,
            "evaluate_every": 3,
            "base": str(base),
            "window": 32,
            "memory": {
                "layers": [1, 3],
                "heads": 2,
                "key_dim": 8,
                "value_dim": 8,
                "degree": 2,
                "conv_width": 6,
                "reads": "end",
                "writes": writes,
                "gate": True,
                "norm": False,
            },
            "lag": 32,
            "noise": 0.1,
            "recording": {**FEW.model_dump(), "corpus": str(corpus), "characters": 10_000},
            "tokens": [600, 900],
            "stories": [1, 2],
            "passing": 0.5,
            "weights": {"beta": 0.1, "silence": 0.1, "leads": 0.1},
            "judged": 2,
        },
        "here",
    )
    assert isinstance(made, Settings)
    return made


def make_task(base: Path, tmp_path: Path, writes: str = "now", *, decays: bool = False) -> RecordedTask:
    corpus = tmp_path / "text.txt"
    corpus.write_bytes(TEXT.astype(np.uint8).tobytes() * 3)
    return RecordedTask(settings(base, corpus, writes).model_copy(update={"decays": decays}), tmp_path)


@pytest.fixture
def task(base: Path, tmp_path: Path) -> RecordedTask:
    return make_task(base, tmp_path)


@pytest.mark.parametrize(("writes", "decays"), [("now", False), ("leaving", False), ("leaving", True)])
def test_what_is_trained_is_what_is_served(base: Path, tmp_path: Path, writes: str, decays: bool) -> None:
    """The logits that the loss sees are those of the served model that reads the same text from end to end."""
    task = make_task(base, tmp_path, writes, decays=decays)
    for step in range(2):
        loss, _, _ = task.loss(step, 0)
        loss.backward()
        for group in task.groups:
            for parameter in group.parameters.values():
                assert parameter.grad is not None
                parameter.data.sub_(parameter.grad.sign(), alpha=0.1)
                parameter.grad = None
    task.export(tmp_path / "best", {})
    opened = open_checkpoint(base)
    task._start(Overlaid(opened, tmp_path / "best" / "memory.safetensors"))  # as it was written, in bfloat16
    tokens, lengths = as_rows([TEXT[:90].tolist()])
    taps = Taps(task.config, opened, choose_ops("ref"), (1, 3))
    seen, residual = taps.read(tokens, lengths, State.zeros(taps.spec, 1), whole=True)
    assert residual is not None
    n = tokens.shape[1]
    once = Recorded(tokens[0], {i: x[0] for i, x in seen.items()}, residual[0], torch.arange(n), (), ())
    with torch.no_grad():
        places = torch.arange(n)[None]
        read = task._read(once, places, lengths, torch.tensor([False])).read[0]
        said = task._logits(once, places[0], read, task._head)
        without = task._logits(once, places[0], torch.zeros_like(read), task._head)
    overlaid = Overlaid(opened, tmp_path / "best" / "memory.safetensors")
    config = Config.from_hf(overlaid.config, sliding_window_size=32)
    served = Senri(config, overlaid, choose_ops("ref"))
    state = State.zeros(served.spec, 1)
    logits = torch.cat(
        [served.advance(tokens[:, t : t + 1].contiguous(), torch.tensor([1]), state)[0] for t in range(n)]
    )
    torch.testing.assert_close(said, logits, rtol=2e-3, atol=2e-3)
    assert float((said - without).abs().max()) > 0.5  # the memory has its say
    loaded = load_model(
        base, choose_ops("auto"), memory=tmp_path / "best" / "memory.safetensors", sliding_window_size=32
    )
    assert loaded.model.memory.layers == (1, 3)


def test_ordinary_talk_is_among_the_filler(recorded: tuple[Path, Recorded], tokenizer: Tokenizer) -> None:
    """Turns with the base model's own answers, of which every token can be judged."""
    _, r = recorded
    turns = r.flows[-FEW.replies :]
    for start, end in turns:
        kept = (r.kept[start:end] >= 0).nonzero().flatten()
        assert int(kept[-1]) == end - start - 1
        assert len(kept) == int(kept[-1] - kept[0]) + 1
        assert 1 < len(kept) <= LONGEST + 1
        assert r.begins[start:end].nonzero().flatten().tolist() == [int(kept[0])]
        asked = tokenizer.decode(r.tokens[start : start + int(kept[0]) + 1].tolist())
        assert "user" in asked
    assert len(turns) == FEW.replies
    assert int(r.begins.sum()) == FEW.files * FEW.replies


def test_a_memory_may_look_up_as_it_writes(base: Path, tmp_path: Path) -> None:
    """shared: one W for keys and queries, trained as one, written as both."""
    make_task(base, tmp_path)
    asked = settings(base, tmp_path / "text.txt")
    task = RecordedTask(asked.model_copy(update={"shared": True}), tmp_path)
    loss, _, _ = task.loss(0, 0)
    loss.backward()
    assert not any(".k_proj." in name for group in task.groups for name in group.parameters)
    task.export(tmp_path / "best", {})
    written = Overlaid(open_checkpoint(base), tmp_path / "best" / "memory.safetensors")
    shape = (16, task.config.hidden_size)
    q, k = (written.expect(f"model.layers.1.memory.{name}_proj.weight", shape) for name in "qk")
    assert torch.equal(q, k)


def test_it_judges_with_the_memory_and_without(task: RecordedTask) -> None:
    figures = task.evaluate()
    assert {"loss", "exact", "exact without", "text", "text against base", "beta"} <= figures.keys()
    assert figures == task.evaluate()
    task.settings = task.settings.model_copy(update={"judged_tokens": 1500})
    assert task.evaluate()["text"] != figures["text"]
    for memory in task.memories.values():
        torch.nn.init.zeros_(memory.o_proj.weight)
    silent = task.evaluate()
    assert silent["exact"] == silent["exact without"]
    assert silent["text against base"] == 0.0


def test_silence_asks_for_less_where_nothing_is_told(task: RecordedTask) -> None:
    """Its gradient does not vanish with β: every write strength is brought down as fast."""

    def pushed(bias: float, **weights: float) -> float:
        only = {"answers": 0.0, "read": 0.0, "leads": 0.0, "text": 0.0, "beta": 0.0, "silence": 0.0}
        changed = task.settings.weights.model_copy(update=only | weights)
        task.settings = task.settings.model_copy(update={"weights": changed})
        memory = task.memories["1"]
        torch.nn.init.constant_(memory.b_proj.bias, bias)
        memory.b_proj.bias.grad = None
        task.loss(0, 0)[0].backward()
        assert memory.b_proj.bias.grad is not None
        return float(memory.b_proj.bias.grad.sum())

    assert pushed(-2.0, silence=1.0) > 0
    assert pushed(-6.0, silence=1.0) == pytest.approx(pushed(-2.0, silence=1.0), rel=0.3)
    assert pushed(-12.0, silence=1.0) == 0.0
    assert 0 < pushed(-6.0, beta=1.0) < 0.1 * pushed(-2.0, beta=1.0)


def test_how_an_answer_begins_is_judged_where_the_model_begins_it(task: RecordedTask) -> None:
    weights, losses = task.settings.weights, []
    for leads in (0.0, 2.0):
        changed = weights.model_copy(update={"leads": leads})
        task.settings = task.settings.model_copy(update={"weights": changed})
        loss, figures, _ = task.loss(0, 0)
        losses.append(float(loss.detach()))
        assert ("opening" in figures) == (leads > 0)
    assert losses[1] - losses[0] == pytest.approx(2.0 * (figures["opening"] + figures["lead"]), rel=1e-4)
    loss.backward()
    assert task.memories["1"].q_proj.weight.grad.any()


def test_a_memory_that_is_read_in_its_layer_is_refused(base: Path, tmp_path: Path) -> None:
    changed = settings(base, tmp_path / "none").model_copy(
        update={"memory": settings(base, tmp_path).memory.model_copy(update={"reads": "layer"})}
    )
    with pytest.raises(TrainingError, match=r"memory\.reads is 'layer'"):
        RecordedTask(changed, tmp_path)


def test_a_recording_made_otherwise_is_not_taken(task: RecordedTask, base: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "text.txt"
    RecordedTask(settings(base, corpus), tmp_path)  # what was recorded serves again
    with pytest.raises(TrainingError, match="other settings"):
        RecordedTask(settings(base, corpus).model_copy(update={"seed": 2}), tmp_path)
    elsewhere = settings(base, corpus)
    shared = elsewhere.recording.model_copy(update={"folder": str(tmp_path / "recording")})
    RecordedTask(elsewhere.model_copy(update={"recording": shared}), tmp_path / "another")
    assert not (tmp_path / "another").exists()


def test_it_begins_with_a_memory_that_was_trained_before(task: RecordedTask, base: Path, tmp_path: Path) -> None:
    for memory in task.memories.values():
        torch.nn.init.uniform_(memory.b_proj.weight)
    task.export(tmp_path / "before", {})
    asked = settings(base, tmp_path / "text.txt")
    start = asked.model_copy(update={"start": str(tmp_path / "before" / "memory.safetensors")})
    begun = RecordedTask(start, tmp_path)
    for (name, mine), theirs in zip(begun.memories.named_parameters(), task.memories.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=4e-3, atol=1e-6, msg=name)  # written in bfloat16
    sharper = RecordedTask(start.model_copy(update={"sharper": 3.0}), tmp_path)
    for (name, mine), theirs in zip(sharper.memories.named_parameters(), begun.memories.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs * 3 if "b_proj" in name else theirs, msg=name)
    wider = start.model_copy(update={"memory": asked.memory.model_copy(update={"key_dim": 16})})
    with pytest.raises(WeightsError, match="has shape"):
        RecordedTask(wider, tmp_path)
