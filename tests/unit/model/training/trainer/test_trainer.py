"""Training runs on tiny models: they learn, stop, go on exactly, and what they leave is served as it was trained."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from model.kernels import choose_ops
from model.overlay import Overlaid
from model.registry import load_model
from model.senri import Config, Senri
from model.state import State, as_rows
from model.training.trainer import lora, work
from model.training.trainer.curves import compare
from model.training.trainer.families import trainable
from model.training.trainer.language import LanguageTask
from model.training.trainer.loop import train
from model.training.trainer.optimise import Group, Trained
from model.training.trainer.recall import RecallTask
from model.training.trainer.run import Progress, Run, read_history
from model.training.trainer.settings import Language, Optimiser, Recall, Settings, TrainingError, parse
from model.training.trainer.task import reached
from model.unroll import Unroll
from model.weights import WeightsError, open_checkpoint
from server.cli import main
from support.checkpoint import tiny_checkpoint
from support.tiny import SENRI, senri_tensors

RSM = {
    "model_type": "rsm",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_memory_slots": 4,
    "chunk_size": 8,
    "sync_every": 2,
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat and the dog lay by the fire. " * 400)
    return path


@pytest.fixture
def language(corpus: Path) -> dict[str, Any]:
    return {
        "task": "language",
        "steps": 6,
        "rows": 3,
        "evaluate_every": 3,
        "model": RSM,
        "corpus": str(corpus),
        "characters": 10_000,
        "tokens": 12,
        "forget": 0.3,
        "judged": 2,
        "optimiser": {"warmup": 2, "lr": 1e-2},
    }


@pytest.fixture
def recall(corpus: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "task": "recall",
        "steps": 4,
        "rows": 2,
        "evaluate_every": 2,
        "base": str(tiny_checkpoint(tmp_path / "base")),
        "memory": {"layers": [1, 3], "heads": 2, "key_dim": 8, "value_dim": 8},
        "windows": [8, 16],
        "tokens": [700],
        "facts": [1, 2],
        "corpus": str(corpus),
        "characters": 10_000,
        "passing": 0.5,
        "weights": {"beta": 0.1},
        "lora": {"rank": 2, "after": 1},
        "judged": 2,
    }


@pytest.fixture
def recorded(corpus: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "task": "recorded",
        "steps": 4,
        "rows": 2,
        "evaluate_every": 2,
        "base": str(tiny_checkpoint(tmp_path / "base")),
        "window": 32,
        "memory": {"layers": [1, 3], "heads": 2, "key_dim": 8, "value_dim": 8, "reads": "end", "gate": True},
        "recording": {"files": 2, "stories": 3, "filler": 1300, "corpus": str(corpus), "characters": 10_000},
        "tokens": [400, 600],
        "passing": 0.5,
        "judged": 2,
    }


def go(settings: Settings, folder: Path, minutes: float = 0.0, clock: Callable[[], float] | None = None) -> Progress:
    torch.manual_seed(0)
    task = work.make_task(settings, folder)
    more = {} if clock is None else {"clock": clock}
    return train(Run(folder, settings), task, minutes=minutes, say=lambda _: None, **more)


def hurried() -> Callable[[], float]:
    """A clock on which a minute passes whenever it is looked at."""
    ticks = itertools.count(0.0, 60.0)
    return lambda: next(ticks)


@pytest.mark.parametrize("kind", ["language", "recall", "recorded"])
def test_in_pieces_it_is_bit_for_bit_the_run_in_one(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    settings = parse(request.getfixturevalue(kind), "here")
    (tmp_path / "one").mkdir()
    (tmp_path / "pieces").mkdir()
    whole = go(settings, tmp_path / "one")
    assert whole.step == settings.steps
    pieces = 0
    while (progress := go(settings, tmp_path / "pieces", 1.0, hurried())).step < settings.steps:
        pieces += 1
    assert pieces >= 2
    assert progress.tokens == whole.tokens
    trained = [(tmp_path / where / "last" / "training.safetensors") for where in ("one", "pieces")]
    one, other = (_tensors(path) for path in trained)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    noted = [read_history(tmp_path / where) for where in ("one", "pieces")]
    assert noted[0] == noted[1]
    assert [record["step"] for record in noted[0]] == list(range(1, settings.steps + 1))


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


SMT = {
    "model_type": "smt",
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_ssm_outputs": 2,
    "m_input_tokens": 6,
    "stride": 4,
    "ssm_num_layers": 1,
    "ssm_state_size": 4,
}

HYBRID = {
    "model_type": "perennial_hybrid",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "mamba_head_dim": 8,
    "mamba_state_size": 4,
    "sliding_window_size": 8,
    "num_sink_tokens": 1,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize("model", [HYBRID, RSM, SMT], ids=["hybrid", "rsm", "smt"])
def test_a_text_is_learned_and_served(model: dict[str, Any], language: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    go(parse({**language, "model": model, "steps": 60, "evaluate_every": 30}, "here"), folder)
    results = json.loads((folder / "results.json").read_text())
    first, last = (r for r in read_history(folder) if "validation_loss" in r)
    assert last["validation_loss"] < first["validation_loss"] < 5.0
    assert results["final"]["loss"] == last["validation_loss"]
    assert results["best"]["loss"] == min(first["validation_loss"], last["validation_loss"])
    loaded = load_model(folder / "best", choose_ops("ref"), sliding_window_size=64)
    state = State.zeros(loaded.model.spec, 1)
    logits, _ = loaded.model.advance(*as_rows([[5, 6, 7]]), state)
    assert logits.shape == (1, loaded.model.vocab_size)
    assert json.loads((folder / "best" / "training.json").read_text())["task"] == "language"
    with pytest.raises(WeightsError, match=f"is a {loaded.architecture}"):
        load_model(folder / "best", choose_ops("ref"), memory=Path("any"))


def test_a_row_that_begins_anew_reads_another_place(language: dict[str, Any], tmp_path: Path) -> None:
    """Else a run would read as many stretches of the text as it has rows, and no more."""
    counted = tmp_path / "counted.txt"
    counted.write_text("".join(f"{n:07d} " for n in range(2_000)))
    settings = parse({**language, "corpus": str(counted), "characters": 16_000}, "here")
    assert isinstance(settings, Language)
    places: dict[str, list[torch.Tensor]] = {}
    for name, forget in (("read on", 0.0), ("anew", 1.0)):
        task = LanguageTask(settings.model_copy(update={"forget": forget}), tmp_path)
        places[name] = []
        for step in range(3):
            task.loss(step, 0)
            places[name].append(task.carried()["places"])
    one, two, three = places["read on"]
    assert torch.equal(two - one, three - two)
    assert (two - one).tolist() == [settings.tokens] * settings.rows
    assert len({int(place) for step in places["anew"] for place in step}) == 3 * settings.rows


def test_a_family_without_a_memory_to_freeze_has_no_frozen_control(language: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="frozen: perennial_hybrid has no memory that could be read"):
        LanguageTask(parse({**language, "model": HYBRID, "frozen": True}, "here"), tmp_path)


@pytest.mark.parametrize("model", [RSM, SMT], ids=["rsm", "smt"])
def test_a_frozen_control_never_writes(model: dict[str, Any], language: dict[str, Any], tmp_path: Path) -> None:
    """Whether rows begin anew or not, and what is judged is the window alone; another run says what that would be."""
    settings = parse({**language, "model": model}, "here")
    assert isinstance(settings, Language)
    control = LanguageTask(settings.model_copy(update={"frozen": True}), tmp_path)
    other = LanguageTask(settings, tmp_path)
    for step in range(3):
        control.loss(step, 0)
        other.loss(step, 0)
    names = [name for name in control.carried() if name.startswith("writes")]
    assert [int(control.carried()[name].sum()) for name in names] == [0] * len(names)
    assert min(int(other.carried()[name].sum()) for name in names) > 0
    # New models of one seed are the same: only the memory tells them apart.
    alone, both = control.evaluate(), other.evaluate()
    assert alone["loss"] == both["frozen_loss"] != both["loss"]
    assert "frozen_loss" not in alone


def test_a_memory_is_laid_over_its_model(recall: dict[str, Any], tmp_path: Path) -> None:
    """What is served with the file is what was trained, low-rank changes and all; another model refuses it."""
    settings = parse(recall, "here")
    assert isinstance(settings, Recall)
    folder = tmp_path / "run"
    torch.manual_seed(0)
    task = RecallTask(settings)
    train(Run(folder, settings), task, minutes=0, say=lambda _: None)
    checkpoint = open_checkpoint(settings.base)
    overlaid = Overlaid(checkpoint, folder / "last" / "memory.safetensors")
    assert overlaid.fingerprint != checkpoint.fingerprint
    changed = {name for name in overlaid.names() if ".memory." not in name} - set(checkpoint.names())
    assert changed == set()
    config = Config.from_hf(overlaid.config, sliding_window_size=16)
    assert config.memory_layers == (1, 3)
    served = Senri(config, overlaid, choose_ops("ref"))
    text = list(range(40, 90))
    logits, state = served.advance(*as_rows([text]), State.zeros(served.spec, 1))
    view = task._views[16]
    expected, _ = view.unroll(*as_rows([text]), State.zeros(view.spec, 1))
    torch.testing.assert_close(logits[0], expected[0, -1], rtol=0, atol=2e-3)
    assert float(state["M.1"].abs().max()) > 0
    without, _ = Senri(
        Config.from_hf(checkpoint.config, sliding_window_size=16), checkpoint, choose_ops("ref")
    ).advance(
        *as_rows([text]),
        State.zeros(Config.from_hf(checkpoint.config, sliding_window_size=16).state_spec(torch.float32), 1),
    )
    assert not torch.allclose(without[0], logits[0], atol=2e-3)
    file = folder / "last" / "memory.safetensors"
    laid = load_model(settings.base, choose_ops("ref"), memory=file, sliding_window_size=16)
    assert laid.fingerprint != load_model(settings.base, choose_ops("ref"), sliding_window_size=16).fingerprint
    again, _ = laid.model.advance(*as_rows([text]), State.zeros(laid.model.spec, 1))
    assert torch.equal(again, logits)
    assert main(["generate", "the cat", "--model", settings.base, "--memory", str(file), "--max-tokens", "3"]) == 0
    other = open_checkpoint(tiny_checkpoint(tmp_path / "other", seed=5))
    with pytest.raises(WeightsError, match="was trained for the model"):
        Overlaid(other, folder / "last" / "memory.safetensors")
    with pytest.raises(WeightsError, match="is no trained memory"):
        Overlaid(checkpoint, Path(settings.base) / "model.safetensors")


def test_a_text_that_says_itself_twice_asks_for_what_left_the_window(recall: dict[str, Any]) -> None:
    settings = parse({**recall, "copies": 1.0, "passing": 0.0}, "here")
    assert isinstance(settings, Recall)
    task = RecallTask(settings)
    story = task.stories.copy(random.Random(1), 100, 16)
    assert story.tokens[:50] == story.tokens[50:]
    assert story.filler == ()
    assert story.answers[0] > 50
    assert all(story.tokens[t + 1] == story.tokens[t + 1 - 50] for t in story.answers)
    assert story.answers[-1] + 1 == len(story.tokens) - 1
    assert sum(story.sizes) == len(story.answers)
    loss, figures, read = task.loss(0, 0)
    assert read == 2 * 700
    assert bool(torch.isfinite(loss))
    assert "text" not in figures  # every token is an answer's, or is to be written
    with pytest.raises(TrainingError, match="not longer than a window of 50"):
        task.stories.copy(random.Random(1), 100, 50)
    some = RecallTask(settings.model_copy(update={"copies": 0.5, "rows": 16}))
    _, figures, _ = some.loss(0, 0)
    assert {"answers", "text", "beta"} <= set(figures)


def test_lengths_are_reached_one_after_the_other(recall: dict[str, Any]) -> None:
    assert [list(reached((5, 6, 7), step, 10)) for step in (0, 9, 10, 25, 99)] == [
        [5],
        [5],
        [5, 6],
        [5, 6, 7],
        [5, 6, 7],
    ]
    assert list(reached((5, 6, 7), 0, 0)) == [5, 6, 7]
    settings = parse({**recall, "tokens": [700, 900], "curriculum": 2}, "here")
    assert isinstance(settings, Recall)
    task = RecallTask(settings)
    lengths = {step: task.loss(step, 0)[2] // 2 for step in range(14)}
    assert {lengths[0], lengths[1]} == {700}
    assert set(lengths.values()) == {700, 900}


def test_low_rank_changes_begin_at_nothing() -> None:
    tensors = senri_tensors(SENRI, gates=False)
    plain, changed = Unroll.load(SENRI, tensors), Unroll.load(SENRI, tensors)
    text = as_rows([[3, 4, 5, 6]])
    added = lora.add(changed, 2, 0)
    assert {name.rpartition(".")[2] for name in added} == {"A", "B"}
    expected, _ = plain.unroll(*text, State.zeros(plain.spec, 1))
    same, _ = changed.unroll(*text, State.zeros(changed.spec, 1))
    torch.testing.assert_close(same, expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        next(p for n, p in added.items() if n.endswith(".B")).fill_(0.3)
    other, _ = changed.unroll(*text, State.zeros(changed.spec, 1))
    assert not torch.allclose(other, expected, atol=1e-3)


def test_pairs_beyond_the_window_are_learned(tmp_path: Path) -> None:
    """With a memory; without one, the same model stays near chance (a fourth, for four values)."""
    settings = parse(
        {
            "task": "associative",
            "steps": 120,
            "rows": 16,
            "evaluate_every": 120,
            "model": {
                "model_type": "senri",
                "vocab_size": 48,
                "hidden_size": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "intermediate_size": 64,
                "tie_word_embeddings": True,
                "sliding_window_size": 8,
                "num_sink_tokens": 1,
                "chunk_size": 8,
                "memory_rule": "gated_delta",
                "memory_layer_indices": [1],
                "memory_heads": 2,
                "memory_key_dim": 16,
                "memory_value_dim": 16,
                "memory_value_source": "hidden",
            },
            "pairs": [2, 4],
            "distance": [1.0, 2.0],
            "optimiser": {"lr": 5e-3, "warmup": 10},
        },
        "here",
    )
    windowed = settings.model_copy(update={"model": {**settings.model, "memory_layer_indices": []}})  # type: ignore[union-attr]
    accuracy = {}
    for name, one in (("memory", settings), ("window", windowed)):
        go(one, tmp_path / name)
        accuracy[name] = json.loads((tmp_path / name / "results.json").read_text())["final"]["accuracy"]
    assert accuracy["memory"] > 0.9
    assert accuracy["window"] < 0.5


@pytest.mark.parametrize("rule", ["linear", "delta"])
def test_a_new_gate_can_learn(rule: str) -> None:
    """A checkpoint without gates has them closed, where no gradient opens them; a new model's are open."""
    model = trainable(
        {
            "model_type": "senri",
            "vocab_size": 48,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
            "sliding_window_size": 8,
            "num_sink_tokens": 1,
            "chunk_size": 8,
            "memory_rule": rule,
            "memory_layer_indices": [1],
        },
        0,
    )
    logits, _ = model.unroll(*as_rows([list(range(40))]), State.zeros(model.spec, 1))
    logits.logsumexp(-1).sum().backward()
    (gate,) = (parameter for name, parameter in model.named_parameters() if name.endswith(".gate"))
    assert gate.grad is not None
    assert float(gate.grad.abs().min()) > 0


def test_the_rate_rises_and_falls() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    trained = Trained([Group({"w": weight})], Optimiser(lr=1.0, warmup=4, final=0.1), steps=104)
    assert [trained.rate(step) for step in (0, 3, 4)] == [0.25, 1.0, 1.0]
    assert trained.rate(54) == pytest.approx(0.55)
    assert trained.rate(104) == pytest.approx(0.1)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    trained = Trained([Group({"w": weight})], Optimiser(), steps=10)
    weight.grad = torch.tensor([float("nan"), 1.0])
    trained.step(5)
    assert weight.tolist() == [1.0, 1.0]
    weight.grad = torch.tensor([1.0, 1.0])
    trained.step(5)
    assert weight.tolist() != [1.0, 1.0]


def test_a_run_is_not_gone_on_with_under_other_settings(language: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    Run(folder, parse(language, "here"))
    Run(folder, parse({**language, "evaluate_every": 2, "checkpoint": True}, "here"))
    with pytest.raises(TrainingError, match="was begun with another optimiser, rows"):
        Run(folder, parse({**language, "rows": 4, "optimiser": {"lr": 1.0}}, "here"))
    (folder / "last").mkdir()
    (folder / "last" / "training.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(TrainingError, match="cannot be gone on from"):
        Run(folder, parse(language, "here")).resume()


def test_a_run_that_was_stopped_early_can_be_served_and_compared(language: dict[str, Any], tmp_path: Path) -> None:
    """Before anything was evaluated, too; and a line that was cut short with the process is no obstacle to go on."""
    folder = tmp_path / "run"
    assert go(parse(language, "here"), folder, 1.0, hurried()).step < 3
    loaded = load_model(folder / "last", choose_ops("ref"))
    assert loaded.architecture == "rsm"
    results = json.loads((folder / "results.json").read_text())
    assert results["steps"] == len(read_history(folder))
    assert "| run |" in compare([folder])
    with (folder / "history.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    with pytest.raises(TrainingError, match="is damaged"):
        read_history(folder)
    assert go(parse(language, "here"), folder).step == 6
    assert [record["step"] for record in read_history(folder)] == [1, 2, 3, 4, 5, 6]


def test_to_begin_afresh_takes_a_runs_own_files_only(
    language: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text(json.dumps({**language, "steps": 1}))  # as a run's own is named
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / "of an older run").touch()
    assert main(["train", "settings.yaml", "--out", ".", "--fresh", "--threads", "1"]) == 0
    assert (tmp_path / "text.txt").exists()
    assert not (tmp_path / "last" / "of an older run").exists()


@pytest.mark.parametrize("model", [HYBRID, RSM, SMT], ids=["hybrid", "rsm", "smt"])
def test_a_misspelt_field_of_the_model_is_named(model: dict[str, Any]) -> None:
    assert trainable({**model, "vocab_size": 9, "dtype": "float32", "eos_token_id": 1}, 0).vocab_size == 9
    with pytest.raises(WeightsError, match="hiden_size is no field"):
        trainable({**model, "vocab_size": 9, "hiden_size": 32}, 0)


def test_the_command_line(
    language: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """train, go on, plot, compare; and errors as one line."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(json.dumps(language))  # JSON is YAML
    assert main(["train", "mine.yaml", "--threads", "1"]) == 0
    assert main(["train", "mine.yaml", "--out", "runs/other", "--set", "seed=2", "--threads", "1"]) == 0
    assert main(["train", "mine.yaml"]) == 0
    out = capsys.readouterr().out
    assert "parameters are trained" in out
    assert "going on after step 6 of 6" in out
    assert (tmp_path / "runs" / "mine" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert main(["plot", "runs/mine", "runs/other", "--out", "both.png"]) == 0
    assert (tmp_path / "both.png").stat().st_size > 5_000
    capsys.readouterr()
    assert main(["compare", "runs/mine", "runs/other"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("| run | seed | steps | tokens |")
    assert [line.split(" | ")[:2] for line in table[2:]] == [["| mine", "1"], ["| other", "2"]]
    for wrong in (["train", "nothing"], ["plot", "nowhere"], ["compare", "runs"], ["train", "mine.yaml", "--set", "x"]):
        assert main(wrong) == 1
        told = capsys.readouterr().err.strip()
        assert told.startswith(f"perennial {wrong[0]}: ")
        assert "\n" not in told


def test_a_run_that_could_not_begin_is_begun_with_other_settings(
    language: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(json.dumps({**language, "steps": 1, "evaluate_every": 1}))
    assert main(["train", "mine.yaml", "--set", "model.num_attention_heads=3", "--threads", "1"]) == 1
    assert "num_attention_heads" in capsys.readouterr().err
    assert main(["train", "mine.yaml", "--threads", "1"]) == 0
