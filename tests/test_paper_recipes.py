"""The paper's recipes: its hyper-parameters, what they share, and its own figures beside each arm."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import RECIPE, World

from micota.errors import MicotaError
from micota.recipe import recipe as recipes
from micota.recipe.recipe import Recipe
from micota.report import distillation_gains as pivotal
from micota.report import page_sections as tables
from micota.report.results import Results
from micota.run.plan import survey
from micota.specs import Mix, Spec, Train
from micota.store.artifacts import Store

SETTINGS = {  # batch, peak rate, epochs: section 6.2 of the paper
    ("paper/tables2-4", "7B"): (32, 1e-5, 2),
    ("paper/tables2-4", "3B"): (128, 2e-5, 3),
    ("paper/tables2-4", "1.5B"): (96, 2e-5, 3),
    ("paper/table1", "3B,teacher=R1-Distill"): (128, 2e-5, 3),
    ("paper/table1", "1.5B,teacher=R1-Distill"): (96, 2e-5, 3),
    ("paper/table1", "3B,teacher=QwQ"): (32, 1e-5, 2),
    ("paper/table1", "1.5B,teacher=QwQ"): (32, 1e-5, 2),
    ("paper/qwq", "7B"): (32, 1e-5, 2),
    ("paper/qwq", "3B"): (32, 1e-5, 2),
    ("paper/qwq", "1.5B"): (32, 1e-5, 2),
}


def training(recipe: Recipe, name: str) -> Train:
    spec = recipe.named(name)
    assert isinstance(spec, Train)
    return spec


@pytest.mark.parametrize(("name", "student"), SETTINGS)
def test_each_student_is_trained_with_the_settings_of_the_paper(name: str, student: str) -> None:
    recipe = recipes.load(name)
    for arm in {"strong", "half", "micota"} & set(recipe.titles):
        spec = training(recipe, f"{arm}[student={student}]")
        assert (spec.batch, spec.lr, spec.epochs) == SETTINGS[name, student]
        assert (spec.schedule, spec.weight_decay, spec.cutoff) == ("cosine", 0.01, 16_384)
    assistants = [spec for label, spec in recipe.names.items() if label.startswith("ta-long")]
    assert {(one.batch, one.lr, one.epochs) for one in assistants if isinstance(one, Train)} == {(32, 1e-5, 2)}
    if "mix_long" in recipe.titles:
        mixed, spec = recipe.named("mixed"), training(recipe, f"mix_long[student={student}]")
        assert isinstance(mixed, Mix)
        assert [part.share for part in mixed.parts] == [0.2, 0.8]
        assert (spec.cutoff, spec.lr, spec.epochs) == (4096, 1e-5, 2)


def shared(one: dict[str, Spec], two: dict[str, Spec], names: dict[str, str]) -> None:
    for here, there in names.items():
        assert one[here].digest == two[there].digest, here


def test_the_recipes_share_every_artifact_that_they_can() -> None:
    table1, main = recipes.load("paper/table1"), recipes.load("paper/tables2-4")
    other, qwq = recipes.load("paper/tables2-4-two-vectors"), recipes.load("paper/qwq")
    both = {f"{arm}[student={s},teacher=R1-Distill]": f"{arm}[student={s}]"
            for arm in ("strong", "half") for s in ("3B", "1.5B")}  # fmt: skip
    data = {f"{name}[teacher=R1-Distill]": name for name in ("long-cot", "ta-long", "half-cot", "teacher")}
    shared(table1.names, main.names, {"math12k": "math12k", "ta-base": "ta-base", **data, **both})
    one_of_qwq = {name.replace("R1-Distill", "QwQ"): there for name, there in (data | both).items()}
    shared(table1.names, qwq.names, one_of_qwq)
    shared(
        qwq.names, main.names, {"mixed": "mixed", "long-cot": "qwq-cot", "mix_long[student=7B]": "mix_long[student=7B]"}
    )
    different = {name for name in main.names if main.names[name].digest != other.names[name].digest}
    assert different == {"ta-mid", "mid-cot", *(f"micota[student={s}]" for s in ("7B", "3B", "1.5B"))}
    wanted = {one.spec.digest for one in table1.evaluations if "QwQ" not in one.model}
    assert wanted <= {one.spec.digest for one in main.evaluations}


def test_the_plan_for_three_students_has_each_shared_stage_once(tmp_path: Path) -> None:
    recipe = recipes.load("paper/tables2-4")
    states = survey(Store(tmp_path), recipe.targets)
    assert len({state.spec.digest for state in states}) == len(states)
    assert len([state for state in states if isinstance(state.spec, Train)]) == 1 + 4 * 3
    for name in ("long-cot", "ta-long", "half-cot", "ta-mid", "mid-cot", "mixed", "qwq-cot", "short-cot"):
        assert [s.word for s in states if s.spec.digest == recipe.named(name).digest] == ["new"], name


def test_the_papers_own_figures_stand_beside_each_arm_and_delta(tmp_path: Path) -> None:
    found = {s.title: s for s in tables.sections(Results(recipes.load("paper/tables2-4"), Store(tmp_path)))}
    rows = [[cell.text for cell in row] for row in found[tables.MAIN].items[0].rows]  # type: ignore[union-attr]
    heads = [row[0] for row in rows if len(row) == 1]
    assert heads == ["7B", "3B", "1.5B", "For all"]
    beside = {(row[0], row[-1]) for row in rows if len(row) > 1}
    assert {("MiCoTA", "49.4"), ("Mix-Long", "41.7"), ("Strong Teacher CoT", "21.3"), ("Teacher", "72.8")} <= beside
    assert {("Assistant, merged", "56.4"), ("Assistant after fine-tuning", "54.9")} <= beside
    (table,) = pivotal.changes(Results(recipes.load("paper/table1"), Store(tmp_path)))
    deltas = {row[0].text + row[-1].text for row in table.rows if len(row) > 1}
    assert {"Assistant: teacher CoT+3.7", "Assistant: teacher CoT+2.1", "Student: teacher CoT-7.4"} <= deltas
    assert {"Student: assistant CoT-4.7", "Student: assistant CoT-5.7", "Student: teacher CoT-9.0"} <= deltas


NAMED = (
    "for: {student: [{name: small, model: ./models/student, batch: 4}, {name: large, model: ./models/ta, batch: 8}]}"
)
TURNED = RECIPE.replace("arms:", NAMED + "\narms:", 1).replace(
    "{base: student,", "{base: $student.model, batch: $student.batch,"
)


def test_the_values_of_a_variable_may_have_names_and_fields(world: World) -> None:
    world.recipe_file.write_text(TURNED)
    recipe = world.load()
    assert [training(recipe, f"strong[student={name}]").batch for name in ("small", "large")] == [4, 8]
    assert training(recipe, "strong[student=large]").base == recipe.named("ta")
    assert "ta-long" in recipe.names


def test_a_field_may_depend_on_another_variable(world: World) -> None:
    by = "for: {seed: [{name: a, batch: {small: 2, large: 1}}, {name: b, batch: 4}], "
    text = TURNED.replace("for: {", by, 1).replace("batch: $student.batch", "batch: $seed.batch")
    world.recipe_file.write_text(text)
    recipe = world.load()
    names = [f"strong[seed={seed},student={student}]" for seed in "ab" for student in ("small", "large")]
    assert [training(recipe, name).batch for name in names] == [2, 1, 4, 4]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("$student.batch", "$student.bach", "have no 'bach'.*did you mean 'batch'"),
        ("$student.batch", "$studnt.batch", "unknown variable '\\$studnt'.*did you mean 'student'"),
        ("batch: 8", "bach: 8", "'bach' stands in some values of 'student' only"),
        ("name: large, model: ./models/ta", "model: ./models/ta", "a value of 'student' has no name"),
        ("name: large", "name: small", "two values of 'student' have the same name"),
        ("batch: 8", "batch: {a: 8}", "'batch' is a mapping, but not from the names of another variable"),
        ("models: [arms]", 'models: [arms, "$studen"]', "unknown variable '\\$studen'"),
    ],
)
def test_a_wrong_variable_is_one_error_that_names_its_place(world: World, old: str, new: str, says: str) -> None:
    world.recipe_file.write_text(TURNED.replace(old, new, 1))
    with pytest.raises(MicotaError, match=f"(?s){says}") as caught:
        world.load()
    assert "line" in str(caught.value)
