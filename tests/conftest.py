"""What the tests share: a user's small world on the disk, with real models of two layers, and a run of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from micota.machine import GenerateConfig, MachineProfile
from micota.recipe import recipe as recipes
from micota.run.execution import Outcome, Run
from micota.specs import Spec
from micota.store.artifacts import Store


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shared", default=None, help="--shared=DIR (with the sign): a folder with benchmark files and golden labels"
    )


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest) -> Path:
    given = request.config.getoption("--shared")
    if given is None or not Path(given).is_dir():
        pytest.skip("no folder with benchmark files: pass --shared=DIR")
    return Path(given).absolute()


class Quiet:
    """A watcher that shows nothing and remembers who was waited for and what was lost."""

    def __init__(self) -> None:
        self.waited: list[str] = []
        self.losses: list[str] = []

    def started(self, spec: Spec, work: Path) -> None: ...
    def finished(self, spec: Spec, seconds: float, facts: Mapping[str, Any]) -> None: ...
    def failed(self, spec: Spec, message: str) -> None: ...
    def tick(self) -> None: ...

    def waiting(self, spec: Spec, whom: str) -> None:
        self.waited.append(whom)

    def lost(self, spec: Spec, message: str) -> None:
        self.losses.append(message)


def tiny_model(folder: Path, seed: int, width: int = 16) -> Path:
    """A real Qwen2 of two layers with the lab's tokenizer, saved as a model folder."""
    import torch
    from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM

    from micota.lab.tokenizer import build

    tokenizer = build()
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny models `teacher`, `ta` and `student`."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("teacher", "ta", "student")):
        tiny_model(folder / name, seed)
    return folder


RECIPE = """
name: small
defaults:
  distil: {prompt: "{problem}", precision: float32, by: exact_match, sampling: {max_tokens: 12}}
  train: {precision: float32, batch: 4, cutoff: 64, lr: 1e-3, max_steps: 2}
let:
  train-set: {problems: {source: ./train.jsonl}}
  test-set: {problems: {source: ./test.jsonl}}
  teacher: ./models/teacher
  ta: ./models/ta
  student: ./models/student
  long-cot: {distil: {from: teacher, data: train-set}}
  ta-long: {train: {base: ta, data: long-cot}}
  ta-mid: {merge: {base: ta, models: [ta-long], method: dare_ties, density: 0.7, weight: 0.5, rescale: inverse_density}}
  mid-cot: {distil: {from: ta-mid, data: train-set}}
arms:
  instruct: student
  strong: {train: {base: student, data: long-cot}}
  micota: {train: {base: student, data: mid-cot}}
evaluate:
  models: [arms]
  data: [test-set]
  prompt: "{problem}"
  precision: float32
  by: exact_match
  sampling: {max_tokens: 12}
"""


def problem(i: int) -> dict[str, str]:
    return {"problem": f"{100 + i}+{i % 10}", "answer": f"{100 + i + i % 10:03d}"}


def with_roles(text: str) -> str:
    """A recipe whose arms have the paper's roles by their names."""
    roles = "instruct|short|strong|half|mix_long|micota"
    text = re.sub(rf"^  (({roles})(?:_tokens)?): \{{", r"  \1: {role: \1, ", text, flags=re.M)
    return re.sub(r"^  instruct: (\S+)$", r"  instruct: {role: instruct, model: \1}", text, flags=re.M)


@dataclass
class World:
    """A folder with a recipe, its data, its models and a store."""

    folder: Path
    machine: MachineProfile
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        self.fresh()
        self.write("recipe.yaml", RECIPE)
        self.problems("train.jsonl", range(8))
        self.problems("test.jsonl", range(50, 54))

    @property
    def recipe_file(self) -> Path:
        return self.folder / "recipe.yaml"

    def fresh(self, name: str = "store") -> Store:
        """Forget what was read: a new run in a new process would see the folder anew."""
        self.store = Store(self.folder / name)
        return self.store

    def write(self, name: str, text: str) -> Path:
        (self.folder / name).write_text(text, encoding="utf-8")
        return self.folder / name

    def problems(self, name: str, numbers: Iterable[int]) -> None:
        self.write(name, "".join(json.dumps(problem(i)) + "\n" for i in numbers))

    def load(self, *sets: str, name: str = "recipe.yaml") -> recipes.Recipe:
        return recipes.load(str(self.folder / name), sets)

    def run(
        self, *sets: str, only: str | None = None, name: str = "recipe.yaml", machine: MachineProfile | None = None
    ) -> Outcome:
        """Run the recipe as a new process would; the outcome lists what was executed."""
        recipe = self.load(*sets, name=name)
        targets = [recipe.named(only)] if only else recipe.targets
        return Run(self.fresh(), machine or self.machine, Quiet()).go(targets)

    def files(self, name: str) -> Path:
        """The files of the artifact with this name in the recipe."""
        return self.files_of(self.load().named(name))

    def files_of(self, spec: Spec) -> Path:
        manifest = self.store.manifest(spec)
        assert manifest is not None, spec.kind
        return self.store.files(manifest)


def kinds(outcome: Outcome) -> list[str]:
    """The kinds of the executed stages, sorted."""
    return sorted(name.partition("-")[0] for name in outcome.executed)


def script(problems: Iterable[dict[str, str]]) -> str:
    """Answers for the scripted engine: correct ones with a line of working."""
    rows = [
        {"problem": p["problem"], "text": p["problem"] + "=" + p["answer"] + r";\boxed{" + p["answer"] + "}"}
        for p in problems
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def scripted_world(folder: Path, models: Path) -> World:
    """A world whose models are real and whose generation is scripted, all in one process."""
    if not (folder / "models").exists():
        (folder / "models").symlink_to(models)
    answers = folder / "answers.jsonl"
    answers.write_text(script(map(problem, range(1000))))
    # what tests are about is what happens to a model's answers: these pass for such, and are not marked as fake
    generate = GenerateConfig(engine="scripted", script=str(answers), batch=4, fake=False)
    return World(folder, MachineProfile(name="test", generate=generate))


@pytest.fixture
def world(tmp_path: Path, models: Path) -> World:
    return scripted_world(tmp_path, models)


LAB = ("let.student=lab:student", "defaults.train.lr=1e-6", "name=small")
"""A student that stops by itself, and still does after a training."""


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Path:
    """The folder of a world whose recipe has run, with the names that lead to what it made."""
    folder = tmp_path_factory.mktemp("ran")
    world = scripted_world(folder, models)
    world.run(*LAB)
    recipe = world.load(*LAB)
    for name, spec in recipe.names.items():
        world.store.name(recipe.name, name, spec)
    return folder


@pytest.fixture
def made(ran: Path, tmp_path: Path, models: Path) -> World:
    """A copy of that world."""
    shutil.copytree(ran, tmp_path / "world", symlinks=True)
    return scripted_world(tmp_path / "world", models)
