"""The reference of recipes and the JSON schema are made of the code that reads recipes, and say all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import micota.machine
from micota import yaml_tree
from micota.benchmarks import BENCHMARKS
from micota.cli import main as cli
from micota.errors import MicotaError
from micota.recipe import constructors, sections
from micota.recipe.recipe import shipped
from micota.recipe.reference import machine_reference, recipe_reference
from micota.specs import KINDS, FrozenModel

DOCS = Path(__file__).parents[1] / "docs"
SCHEMA = json.loads((DOCS / "recipe.schema.json").read_text(encoding="utf-8"))


def micota_(*words: str) -> None:
    cli.app(list(words), standalone_mode=False)


def described(cls: type[FrozenModel]) -> Iterator[type[FrozenModel]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from described(sub)


def mistakes(text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    return [error.message for error in validator.iter_errors(yaml_tree.read(text, "test").value)]


def test_every_field_of_specs_sections_and_profiles_has_a_description() -> None:
    assert {*KINDS.values(), micota.machine.MachineProfile, sections.RecipeSections} <= set(described(FrozenModel))
    bare = [
        f"{cls.__name__}.{name}"
        for cls in described(FrozenModel)
        if cls.__module__.startswith("micota.")
        for name, info in cls.model_fields.items()
        if not info.description
    ]
    assert bare == []


def test_the_generated_documents_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, DOCS / "generated.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", sorted(constructors.FORMS))
def test_the_reference_has_every_key_of_every_form(kind: str) -> None:
    text = recipe_reference(kind)
    call: Any = constructors.FORMS[kind]
    back = {name: word for word, name in constructors.ALIASES.get(kind, {}).items()}
    for name in (*call.parameters, *call.extra):
        assert f"| `{back.get(name, name)}` |" in text


def test_the_reference_has_every_section_benchmark_and_kind_of_stage() -> None:
    text = recipe_reference()
    for key in (*sections.keys(sections.RecipeSections), *sections.EVALUATE, *sections.keys(sections.BpcSection)):
        assert f"| `{key}` |" in text
    for one in BENCHMARKS.values():
        assert f"**{one.name}**: `{one.source}`" in text and json.dumps(one.prompt) in text
    assert all(f"`{stage}`" in machine_reference() for stage in micota.machine.SECTIONS)


def test_types_are_told_in_words() -> None:
    train, dial = recipe_reference("train"), recipe_reference("dial")
    assert "| `lr` | number > 0 | `1e-5` | peak learning rate |" in train
    assert "| `base` | a model | required |" in train
    assert "| `density` | number or `[low, high]` | `1.0` |" in dial
    assert "class" not in train + dial and "None" not in train + dial


def test_a_part_of_the_reference_that_is_not_there_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(MicotaError, match="did you mean 'train'"):
        recipe_reference("trian")


@pytest.mark.parametrize("name", sorted(shipped()))
def test_every_shipped_recipe_satisfies_the_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert mistakes(shipped()[name].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "arm: {a: x/y}",
        "arms: {a: {train: {base: x/y, data: d, lrr: 1}}}",
        "arms: {a: {train: {base: x/y, data: d, lr: fast}}}",
        "arms: {a: {train: {base: x/y, data: d, lr: 0}}}",
        "arms: {a: {train: {base: {distill: {from: x/y, data: d}}, data: d}}}",
        "arms: {a: {train: {base: x/y, data: d}, merge: {base: x/y}}}",
        "let: {a: {dial: {target: {length: 0.5}}}}",
        "evaluate: {models: [arms]}",
    ],
)
def test_the_schema_refuses_mistakes(text: str) -> None:
    assert mistakes(text)


@pytest.mark.parametrize(
    "text",
    [
        "let: {a: {mix: [{data: b, share: 0.2}, {data: c, share: 0.8}]}}",
        "let: {a: {distill: {from: x/y, data: d, prompt: '{problem}', sampling: {max_tokens: $limit}}}}",
        "arms: {a: {name: 'Model $size', train: {base: x/y, data: ./d.jsonl, lr: $student.lr, lora: {rank: 8}}}}",
        "arms: {a: {merge: {base: x/y, models: [a, $b], method: linear, weight: 1, lambda: 0.5}}}",
        "evaluate: [{models: [arms], data: [math500], by: semantic, n: 4}]",
    ],
)
def test_the_schema_accepts_what_the_reader_takes(text: str) -> None:
    assert mistakes(text) == []


def test_the_commands_print_version_lists_reference_and_yaml(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    micota_("--version")
    assert capsys.readouterr().out == f"micota {micota.__version__}\n"
    micota_("recipes")
    listed = capsys.readouterr().out
    assert all(name in listed for name in shipped()) and "MiCoTA on a laptop" in listed
    micota_("machines")
    assert "laptop" in (listed := capsys.readouterr().out) and "micota[deepspeed]" in listed
    micota_("machines", "ray")
    assert capsys.readouterr().out == (micota.machine.PROFILES / "ray.yaml").read_text(encoding="utf-8")
    micota_("show", "lab-mini", "--yaml")
    assert capsys.readouterr().out == shipped()["lab-mini"].read_text(encoding="utf-8")
    micota_("docs", "recipe")
    assert capsys.readouterr().out == recipe_reference()
    micota_("docs", "machine")
    assert capsys.readouterr().out == machine_reference()
    micota_("docs", "schema")
    assert json.loads(capsys.readouterr().out) == SCHEMA
