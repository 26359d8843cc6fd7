"""Real problem sets end to end: a lab model answers some of MATH and of each benchmark, and the report shows it."""

from __future__ import annotations

from pathlib import Path

from conftest import Quiet, kinds

from micota.benchmarks import PAPER
from micota.machine import GenerateConfig, MachineProfile
from micota.recipe import recipe as recipes
from micota.report.files import write
from micota.run.execution import Run
from micota.specs import Verify
from micota.store.artifacts import Store

EACH = 3


def recipe_of(data: Path) -> str:
    """A recipe that asks the lab's student 20 problems of MATH and a few of each benchmark, as the paper asks."""
    sets = [f"  {name}: {{problems: {{source: {data}/{name}.jsonl, benchmark: {name}, n: {EACH}}}}}" for name in PAPER]
    names = ", ".join(["math", *PAPER])
    return "\n".join(
        [
            "name: real",
            "let:",
            f"  math: {{problems: {{source: {data}/math12k.jsonl, n: 20}}}}",
            *sets,
            "arms: {instruct: lab:student}",
            f"evaluate: {{models: [arms], data: [{names}], precision: float32, sampling: {{max_tokens: 40}}}}",
        ]
    )


def test_a_lab_model_answers_real_problems(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "real.yaml").write_text(recipe_of(shared / "data"))
    recipe = recipes.load(str(tmp_path / "real.yaml"))
    store = Store(tmp_path / "store")
    machine = MachineProfile(name="test", generate=GenerateConfig(batch=20))
    outcome = Run(store, machine, Quiet()).go(recipe.targets)
    assert kinds(outcome).count("generate") == kinds(outcome).count("problems") == 1 + len(PAPER)
    for one in recipe.evaluations:
        manifest = store.manifest(one.spec)
        assert isinstance(one.spec, Verify) and manifest is not None
        assert manifest.facts["rows"] == (20 if one.data == "math" else EACH)
        assert set(manifest.facts["verdicts"]) <= {"correct", "wrong", "no_answer", "unverifiable"}
    assert Run(store, machine, Quiet()).go(recipe.targets).executed == []
    page = write(recipe, store).read_text(encoding="utf-8")
    assert all(name in page for name in ("math", *PAPER))
