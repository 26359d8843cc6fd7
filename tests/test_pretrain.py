"""Pre-training in a recipe: its form, that parts make the whole, and that interruptions leave no trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import World, kinds
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from micota.cli import main as cli
from micota.errors import MicotaError, StageFailed, Stopped
from micota.lab.designs import DESIGNS, SHIPPED
from micota.lab.documents import held_out
from micota.lab.tokenizer import digits
from micota.machine import MachineProfile, PretrainConfig, load
from micota.recipe import recipe as recipes
from micota.specs import Pretrain
from micota.store.resolution import LAB_MODELS
from micota.training import pretraining as lab
from micota.worlds.workings import split_of

SHAPE = "shape: {width: 16, layers: 1, heads: 1, feedforward: 32}"
TOY = f"{SHAPE}, window: 200"
FIRST = "{style: basics, steps: 6, lr: 1e-2, batch: 8}, {style: mixed, steps: 5, lr: 1e-3, batch: 4}"
LAST = "{style: terse, steps: 4, lr: 1e-3, batch: 4, shortest: 3}"
RECIPE = f"""
name: pretrained
let:
  whole: {{pretrain: {{{TOY}, phases: [{FIRST}, {LAST}], seed: 2}}}}
  part: {{pretrain: {{{TOY}, phases: [{FIRST}], seed: 2}}}}
  rest: {{pretrain: {{base: part, first: 2, window: 200, phases: [{LAST}], seed: 2}}}}
  again: {{pretrain: {{base: part, window: 200, phases: [{LAST}], seed: 2}}}}
"""


def say(world: World, text: str) -> None:
    world.recipe_file.write_text(text)


def one(world: World, fields: str) -> Pretrain:
    """The spec of `{pretrain: {FIELDS}}`."""
    say(world, f"name: one\nlet:\n  model: {{pretrain: {{{fields}}}}}\n")
    spec = world.load().named("model")
    assert isinstance(spec, Pretrain)
    return spec


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_model_in_two_parts_is_the_model_in_one(world: World) -> None:
    say(world, RECIPE)
    assert kinds(world.run()) == ["pretrain"] * 4
    whole, part, rest, again = (bytes_of(world.files(name)) for name in ("whole", "part", "rest", "again"))
    assert rest == whole
    assert part["model.safetensors"] != whole["model.safetensors"] != again["model.safetensors"]


TINY = [
    f"--set=let.teacher.pretrain={{{TOY}, phases: [{FIRST}]}}",
    f"--set=let.ta-base.pretrain={{{TOY}, phases: [{FIRST}]}}",
    f"--set=let.ta.pretrain.phases=[{LAST}]",
    "--set=let.ta.pretrain.first=2",
    f"--set=let.student.pretrain={{{TOY}, phases: [{LAST}]}}",
]


def test_the_labs_models_are_copied_out_of_an_ordinary_store(world: World) -> None:
    """`micota lab pretrain` is a run of the recipe `lab-models`; what is there is not made again."""
    store, out = world.folder / "store", world.folder / "out"
    machine = world.write("machine.yaml", "pretrain: {checkpoint_every: 4}\n")
    command = ["lab", "pretrain", "--out", str(out), "--store", str(store), "--machine", str(machine), *TINY]
    first = CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert first.exit_code == 0, first.output
    assert sorted(path.name for path in out.iterdir()) == sorted(SHIPPED)
    artifacts = {bytes_of(path)["model.safetensors"] for path in store.glob("artifacts/pretrain-*/files")}
    assert {bytes_of(out / name)["model.safetensors"] for name in SHIPPED} == artifacts
    assert {path.name for path in (out / "ta").iterdir()} == {path.name for path in (LAB_MODELS / "ta").iterdir()}
    before = (out / "ta" / "model.safetensors").stat().st_mtime_ns
    assert CliRunner().invoke(cli.app, command).exit_code == 0
    assert (out / "ta" / "model.safetensors").stat().st_mtime_ns == before
    other = CliRunner().invoke(cli.app, [*command, "--only", "ta", "--set", "defaults.pretrain.seed=1"])
    assert isinstance(other.exception, MicotaError) and "is there already" in str(other.exception)


def test_the_recipe_of_the_shipped_models_makes_their_designs() -> None:
    names = recipes.load("lab-models").names
    assert set(names) == set(SHIPPED)
    assert {name: names[name] for name in SHIPPED if name != "ta"} == {
        name: DESIGNS[name] for name in SHIPPED if name != "ta"
    }
    ta = names["ta"]
    assert isinstance(ta, Pretrain) and ta.base == names["ta-base"]
    assert (*DESIGNS["ta-base"].phases, *ta.phases) == DESIGNS["ta"].phases and ta.first == len(
        DESIGNS["ta-base"].phases
    )


def test_the_steady_students_of_the_shipped_recipes_are_the_design_in_two_parts() -> None:
    """The first part is common to both windows, so that it is made once for each width."""
    steady = DESIGNS["steady"]
    for name, seed, key in (
        ("lab-steady", 44, "student[seed=44]"),
        ("lab-map", 45, "student[seed=45,width=64,window=128]"),
    ):
        student = recipes.load(name).named(key)
        assert isinstance(student, Pretrain) and isinstance(student.base, Pretrain)
        assert (*student.base.phases, *student.phases) == steady.phases and student.first == len(student.base.phases)
        assert (student.base.shape, student.window, student.seed) == (steady.shape, steady.window, seed)
    wide = recipes.load("lab-map").named("student[seed=43,width=96,window=512]")
    assert isinstance(wide, Pretrain) and isinstance(wide.base, Pretrain) and wide.base.shape
    assert (wide.window, wide.base.shape.width, wide.base.window) == (512, 96, 128)


def test_the_facts_are_counts_and_the_last_loss(world: World) -> None:
    say(world, RECIPE)
    world.run(only="whole", machine=MachineProfile(pretrain=PretrainConfig(checkpoint_every=4)))
    manifest = world.store.manifest(world.load().named("whole"))
    assert manifest is not None
    facts = manifest.facts
    weights = load_file(world.files("whole") / "model.safetensors")
    assert facts["parameters"] == sum(weight.numel() for weight in weights.values())
    assert facts["steps"] == 15
    assert 15 * 4 * 20 < facts["tokens"] < 15 * 8 * 200
    assert 0 < facts["loss"] < 5


def test_every_weight_of_a_base_is_tuned(world: World) -> None:
    say(world, f"name: one\nlet:\n  model: {{pretrain: {{base: lab:student, phases: [{LAST}]}}}}\n")
    world.run()
    before = load_file(LAB_MODELS / "student" / "model.safetensors")
    after = load_file(world.files("model") / "model.safetensors")
    assert before.keys() == after.keys()
    assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_behind_a_prefix_it_has_the_same_bits(world: World) -> None:
    """As in the laptop's profile: a process of its own."""
    assert load("laptop").pretrain.prefix == "env"
    say(world, RECIPE)
    here, behind = world.folder / "here", world.folder / "store"
    world.run(only="whole")
    behind.rename(here)
    pretrain = PretrainConfig(prefix="env", checkpoint_every=4)
    assert kinds(world.run(only="whole", machine=MachineProfile(pretrain=pretrain))) == ["pretrain"]
    made = next(here.glob("artifacts/pretrain-*/files"))
    assert bytes_of(world.files("whole")) == bytes_of(made)
    assert world.store.manifest(world.load().named("whole")).provenance["launcher"] == "env"  # type: ignore[union-attr]


def test_a_pretrained_model_is_a_model_wherever_one_is_wanted(world: World) -> None:
    """It is trained, merged, gone on from and evaluated; what mentions the seed is made for each."""
    say(world, MODELS)
    outcome = world.run(machine=MachineProfile())
    assert kinds(outcome).count("pretrain") == 3
    assert {"train", "merge", "generate", "verify"} <= set(kinds(outcome))
    assert world.run(machine=MachineProfile()).executed == []


MODELS = f"""
name: models
for: {{seed: [0, 1]}}
defaults:
  train: {{precision: float32, batch: 4, cutoff: 300, lr: 1e-3, max_steps: 1}}
  pretrain: {{world: arithmetic-hard, window: 200}}
  distil: {{keep: all, prompt: "{{problem}}", precision: float32, sampling: {{max_tokens: 90}}}}
let:
  easy: {{problems: {{source: "lab:arithmetic", split: train, n: 6}}}}
  hard: {{problems: {{source: "lab:arithmetic", config: hard, split: test, n: 6}}}}
  base: {{pretrain: {{{SHAPE}, phases: [{FIRST}]}}}}
  answers: {{distil: {{from: lab:student, data: easy}}}}
  tuned: {{train: {{base: base, data: answers}}}}
  mid: {{merge: {{base: base, models: [tuned], method: task_arithmetic, weight: 0.5}}}}
arms:
  micota: {{pretrain: {{base: mid, phases: [{{style: terse, steps: 1, lr: 1e-3, batch: 4}}], seed: $seed}}}}
evaluate: {{models: [arms], data: [hard], prompt: "{{problem}}", precision: float32, sampling: {{max_tokens: 5}}}}
"""


def test_like_takes_shape_phases_and_window_from_the_design(world: World) -> None:
    student = DESIGNS["student"]
    assert one(world, "like: student") == student
    assert one(world, "like: student, seed: 3").digest != student.digest
    assert one(world, "like: student, seed: 3").phases == student.phases
    assert one(world, "like: student, window: 512").window == 512
    changed = one(world, f"like: student, phases: [{LAST}]")
    assert (len(changed.phases), changed.shape) == (1, student.shape)
    assert one(world, "like: ta-base") == DESIGNS["ta-base"]
    tuned = one(world, f"like: student, base: lab:ta, phases: [{LAST}]")
    assert tuned.shape is None and tuned.base is not None and tuned.window == 128


def test_a_known_digest_never_changes() -> None:
    assert DESIGNS["student"].digest == "937cf18fdc5bfbbe"


RULE = "base: lab:student, window: 128, phases: [{style: terse, steps: 12, lr: 1e-5, batch: 4, shortest: 3, %s}]"


def test_a_phase_ends_where_enough_workings_are_right(world: World) -> None:
    """The shipped student has some 45 % right: it stops at the first look for .2, and never for .9."""
    ended, whole = one(world, RULE % "until: 0.2, every: 5"), one(world, RULE % "until: 0.9, every: 5")
    assert ended.digest != whole.digest
    for rule, steps in (("until: 0.2, every: 5", 5), ("until: 0.9, every: 5", 12)):
        spec = one(world, RULE % rule)
        world.run()
        manifest = world.store.manifest(spec)
        assert manifest is not None and manifest.facts["phases"] == [steps] and manifest.facts["steps"] == steps


def test_a_phase_that_was_interrupted_ends_at_the_same_step(world: World) -> None:
    base, rule = LAB_MODELS / "student", "{style: terse, steps: 8, lr: 1e-5, batch: 4, until: 0.2, every: 2}"
    spec = one(world, f"base: lab:student, window: 128, phases: [{rule}, {LAST}]")
    folder, checkpoint = world.folder / "made", world.folder / "checkpoint.pt"
    lab.pretrain(spec, folder / "whole", world.folder / "other.pt", base, lambda *_: None, lambda: False, 99)
    for stop_at in (1, 2, 4, 99):
        steps = iter([*[False] * (stop_at - 1), *[True] * 99])
        with suppress(Stopped):
            lab.pretrain(spec, folder / "parts", checkpoint, base, lambda *_: None, partial(next, steps), 99)
    assert bytes_of(folder / "parts") == bytes_of(folder / "whole")


def test_the_share_by_which_a_phase_ends_is_that_of_greedy_answers_in_its_style() -> None:
    """Counted on greedy answers, one problem at a time; none of the problems is trained on."""
    model = AutoModelForCausalLM.from_pretrained(LAB_MODELS / "student")
    tokenizer = AutoTokenizer.from_pretrained(LAB_MODELS / "student")
    terse = DESIGNS["student"].phases[-1]
    batches = held_out(terse, "arithmetic", 128, seed=5)
    assert sum(len(tokens) for tokens, _ in batches) == 500
    right = []
    for row, label in (
        (row, label) for tokens, labels in batches[:1] for row, label in zip(tokens, labels, strict=True)
    ):
        begin = int((label >= 0).nonzero()[0]) + 1
        problem, gold = tokenizer.decode(row[2 : begin - 1]), tokenizer.decode(label[label >= 0])
        assert split_of(problem) == "dev" and len(gold) > 9
        with torch.no_grad():
            answer = tokenizer.decode(model.generate(row[None, :begin], max_new_tokens=80)[0, begin:])
        right.append(answer == gold)
    share = lab.share_right(model, batches[:1])
    assert share == sum(right) / len(right) and 0.3 < share < 0.6
    other = held_out(terse.model_copy(update={"style": "expanded"}), "arithmetic", 128, seed=5)
    assert lab.share_right(model, other) < 0.05 < lab.share_right(model, other, digits("arithmetic"))


WRONG = [
    ("like: studend", "the lab has no design 'studend'", "did you mean 'student'"),
    ("like: student, windo: 3", "unknown key 'windo'", "did you mean 'window'"),
    (f"phases: [{LAST}]", "give a shape for fresh weights or a base to go on from", "pretrain"),
    (f"{TOY}, base: lab:ta, phases: [{LAST}]", "one of the two", "pretrain"),
    ("like: student, phases: [{style: terse, lr: 1e-3}]", "lacks 'steps'", "phases"),
    ("like: student, phases: [{style: tense, steps: 3, lr: 1e-3}]", "style: 'tense'", "phases"),
    ("like: student, phases: [{style: terse, steps: 3, lr: 1e-3, shortest: 5}]", "shortest is 5", "has 4 at most"),
    ("like: student, phases: []", "at least 1 item", "phases"),
    ("like: student, shape: {width: 30, layers: 1, heads: 4, feedforward: 8}", "a width of 30 gives 4 heads", "shape"),
    ("like: student, world: algebra", "world: 'algebra'", "arithmetic-hard"),
    ("like: student, base: set", "'set' is a problem set", "a model is expected here"),
]


@pytest.mark.parametrize(("fields", "what", "also"), WRONG, ids=[what for _, what, _ in WRONG])
def test_a_wrong_form_names_its_place(fields: str, what: str, also: str, world: World) -> None:
    head = 'name: one\nlet:\n  set: {problems: {source: "lab:arithmetic", split: train, n: 2}}\n'
    say(world, f"{head}  model: {{pretrain: {{{fields}}}}}\n")
    with pytest.raises(MicotaError) as error:
        world.load()
    assert what in str(error.value) and also in str(error.value)
    assert "line 4" in str(error.value)


def test_a_window_that_no_document_fits_is_an_error(world: World) -> None:
    fields = f"{TOY.replace('200', '60')}, phases: [{{style: long, steps: 3, lr: 1e-3, batch: 4, shortest: 4}}]"
    say(world, f"name: one\nlet:\n  model: {{pretrain: {{{fields}}}}}\n")
    with pytest.raises(StageFailed, match="of the style 'long' fits the window of 60 tokens"):
        world.run()


def test_a_base_with_another_tokenizer_is_an_error(world: World) -> None:
    folder = world.folder / "other"
    folder.mkdir()
    for path in (world.folder / "models" / "student").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][-1], "id": 28, "content": " Wait "})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    say(world, f"name: one\nlet:\n  model: {{pretrain: {{base: ./other, phases: [{LAST}]}}}}\n")
    with pytest.raises(StageFailed, match=r"does not have the lab's tokenizer[\s\S]*made with world: arithmetic"):
        world.run()


def test_the_world_has_one_harder_config(world: World, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    say(world, MODELS.replace("config: hard", "config: harder"))
    monkeypatch.setattr("sys.argv", ["micota", "run", str(world.recipe_file), "--store", str(world.folder / "store")])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().err
    assert "lab:arithmetic has no config 'harder'" in said and "config: hard" in said


LONG = "name: long\nlet:\n  model: {pretrain: {SHAPE, phases: [{style: mixed, steps: 60, lr: 1e-3, batch: 32}]}}\n"
PROFILES = {
    "inside": "jobs: 1\npretrain: {checkpoint_every: 5}\n",
    "behind": "pretrain: {checkpoint_every: 5, prefix: env}\n",
}


class Runs:
    """A folder with the recipe and a machine profile; runs of it are processes of their own."""

    def __init__(self, folder: Path, profile: str) -> None:
        self.folder, self.store = folder, folder / "store"
        (folder / "recipe.yaml").write_text(LONG.replace("SHAPE", TOY))
        (folder / "machine.yaml").write_text(PROFILES[profile])

    def start(self) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "micota",
            "run",
            "recipe.yaml",
            "--machine",
            "machine.yaml",
            "--store",
            "store",
        ]
        return subprocess.Popen(
            command, cwd=self.folder, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def interrupt(self, when: Callable[[], bool], number: signal.Signals) -> int:
        process = self.start()
        while not when() and process.poll() is None:
            time.sleep(0.001)
        assert process.poll() is None, process.communicate()[0]
        process.send_signal(number)
        process.communicate(timeout=100)
        return process.returncode

    def finish(self) -> tuple[dict[str, Any], bytes]:
        """Run to the end; the facts and the weights."""
        process = self.start()
        said, _ = process.communicate(timeout=200)
        assert process.returncode == 0, said
        folder = next(self.store.glob("artifacts/pretrain-*"))
        facts = json.loads((folder / "manifest.json").read_text())["facts"]
        return facts, (folder / "files" / "model.safetensors").read_bytes()

    def checkpoint(self) -> Path | None:
        return next(self.store.glob("making/pretrain-*/scratch/checkpoint.pt"), None)

    def steps(self) -> int:
        path = self.checkpoint()
        assert path
        return int(torch.load(path)["facts"]["steps"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes]:
    return Runs(tmp_path_factory.mktemp("undisturbed"), "inside").finish()


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_killed_it_goes_on_to_the_same_bits_and_facts(
    profile: str, undisturbed: tuple[dict[str, Any], bytes], tmp_path: Path
) -> None:
    place = Runs(tmp_path, profile)
    assert place.interrupt(lambda: place.checkpoint() is not None, signal.SIGKILL) == -signal.SIGKILL
    assert 5 <= place.steps() < 60
    assert place.finish() == undisturbed


@pytest.mark.slow
def test_a_request_to_stop_is_heard_at_the_next_step(undisturbed: tuple[dict[str, Any], bytes], tmp_path: Path) -> None:
    place = Runs(tmp_path, "behind")
    assert place.interrupt(lambda: place.checkpoint() is not None, signal.SIGTERM) == 143
    assert 5 <= place.steps() < 60
    assert not list(place.store.glob("artifacts/pretrain-*/manifest.json"))
    assert place.finish() == undisturbed
