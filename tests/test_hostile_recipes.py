"""Recipes and overrides from strangers or with slips of the pen: one message with the line, at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conftest import RECIPE, World

from micota import yaml_tree
from micota.errors import MicotaError
from micota.recipe.recipe import Recipe
from micota.store.resolution import local

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
import isolated
import recipes as hostile

ANCHORS = "\n".join(["a0: &a0 [x,x,x,x]", *(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9))])
NOT_YAML = {
    "nine levels of anchors": (ANCHORS, "more than 100,000 values", "line 6"),
    "an anchor in itself": ("name: t\nlet: &a {x: *a}\n", "inside what it repeats", "line 2"),
    "an anchor in its list": ("name: t\nlet: {x: &a [*a]}\n", "inside what it repeats", "line 2"),
    "open brackets": ("name: t\nlet: {x: " + "[" * 100_000, "64 brackets", "line 2"),
    "closed brackets": ("let: " + "[" * 900 + "]" * 900, "64 brackets", "line 1"),
    "open braces": ("{a: " * 3_000, "64 brackets", "line 1"),
    "indentation": ("let:\n" + "".join(" " * i + "a:\n" for i in range(1, 500)), "levels", "line 66"),
    "a number of 5,000 digits": ("a: 1\nn: " + "9" * 5_000, "too large", "line 2"),
    "a number of 20 digits": ("a: 1\nn: -" + "9" * 20, "too large", "line 2"),
    "a hexadecimal number": ("n: 0x" + "f" * 6_000, "too large", "line 1"),
    "a float beyond floats": ("n: 1e400", "too large", "line 1"),
    "a tag": ("name: t\nsystem: !note be brief", "the tag !note", "line 2"),
    "a tag of Python": ("name: !!python/object/apply:os.system [ls]", "the tag", "line 1"),
    "two documents": ("name: t\n---\nname: u\n", "second document", "line 2"),
    "NUL": ("name: t\na: \0\n", "not YAML", "line 2"),
    "an escape": ("name: t\n\nlet: \x1b[31m\n", "not YAML", "line 3"),
    "a key that is a list": ("name: t\n? [a, b]\n: 1\n", "a key must be a word", "line 2"),
}


@pytest.mark.parametrize("name", NOT_YAML)
def test_yaml_without_bounds_is_refused_with_its_line(name: str) -> None:
    text, *says = NOT_YAML[name]
    with pytest.raises(MicotaError) as refused:
        yaml_tree.read(text, "t.yaml")
    assert [part for part in says if part not in str(refused.value)] == [], refused.value
    assert len(str(refused.value)) < 400


NO_SOURCE = {
    "lab:" + "x" * 3_000: "no model 'lab:xxx",
    "lab:.": "no model 'lab:.'",
    "lab:../data": "no model 'lab:../data'",
    "./" + "a/" * 3_000: "is no path",
}
NO_GRADER = ("x" * 3_000 + ":f", "x." * 2_000 + "x:f", "..:f", "é b:f", "/etc/passwd:f", "a\0b:f")


@pytest.mark.parametrize("source", NO_SOURCE, ids=lambda source: source[:12])
def test_a_name_that_no_file_system_takes_is_refused(source: str) -> None:
    with pytest.raises(MicotaError, match=NO_SOURCE[source]) as refused:
        local(source, "model", Path())
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("word", NO_GRADER, ids=lambda word: word[:12].replace("\0", "NUL"))
def test_a_grader_that_no_module_can_be_named_is_refused(word: str) -> None:
    with pytest.raises(MicotaError, match="no name of a module") as refused:
        local(word, "grader", Path())
    assert len(str(refused.value)) < 400


def test_an_anchor_gives_each_place_a_value_of_its_own() -> None:
    tree = yaml_tree.read("a: &x {b: [1]}\nc: *x\n", "t").value
    yaml_tree.override(tree, "c.b.0=2")
    assert tree == {"a": {"b": [1]}, "c": {"b": [2]}}


ENCODED = {"latin-1": ("name: é", "latin-1"), "utf-16": ("name: x", "utf-16"), "long": ("x" * 2**21, "utf-8")}


@pytest.mark.parametrize("name", ENCODED)
def test_a_file_that_is_no_recipe_is_named(name: str, tmp_path: Path) -> None:
    text, encoding = ENCODED[name]
    (tmp_path / "odd.yaml").write_bytes(text.encode(encoding))
    with pytest.raises(MicotaError, match=r"odd\.yaml is (not in UTF-8|larger than 1 MB)"):
        Recipe.load(tmp_path / "odd.yaml")


BAD_NAMES = (
    *(".", "..", ".x", "../x", "", " ", "a\0b", "a\nb", "\x1b]0;t\x07", "\u202egnp", "n" * 300, "é" * 150, "/" * 150),
)


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize("place", ["name", "let", "arms"])
def test_a_name_that_is_none_is_refused_at_its_line(name: str, place: str, world: World) -> None:
    quoted = json.dumps(name, ensure_ascii=not name.isprintable())
    changes = {
        "name": ("name: small", f"name: {quoted}", "line 2, name"),
        "let": ("train-set", quoted, "line 7, let"),
        "arms": ("micota:", f"{quoted}:", "line 19, arms"),
    }
    old, new, where = changes[place]
    world.recipe_file.write_text(RECIPE.replace(old, new))
    with pytest.raises(MicotaError, match="is no name") as refused:
        world.load()
    assert where in str(refused.value)
    assert str(refused.value).replace("\n", "").isprintable()
    with pytest.raises(MicotaError, match="is no name"):
        Recipe({"a": "lab:student"}, name=name) if place == "name" else Recipe({name: "lab:student"})


def test_labels_of_variables_are_names_too_and_two_names_are_two_files(world: World) -> None:
    matrix = RECIPE.replace("arms:", f"for: {{seed: [{'x' * 199}]}}\narms:")
    world.recipe_file.write_text(matrix)
    world.load()  # what mentions no variable has no label of it
    world.recipe_file.write_text(matrix.replace("strong: {train: {", "strong: {train: {system: $seed, "))
    with pytest.raises(MicotaError, match="is no name") as refused:
        world.load()
    assert "arms.strong" in str(refused.value)
    world.recipe_file.write_text(RECIPE.replace("teacher: ./", "a--b: ./models/ta\n  a/b: ./models/ta\n  teacher: ./"))
    with pytest.raises(MicotaError, match="'a--b' and 'a/b' are one file name"):
        world.load()


@pytest.mark.parametrize("path", ["./" + "x" * 300, "./a\0b", "~nobody/x", "./" + "x/" * 3_000], ids=ascii)
def test_a_path_that_no_file_system_has_is_refused_at_its_line(path: str, world: World) -> None:
    world.recipe_file.write_text(RECIPE.replace("./models/teacher", json.dumps(path)))
    with pytest.raises(MicotaError, match=r"is no path|there is no folder") as refused:
        world.load()
    assert "let.teacher" in str(refused.value)


SHAPES = {
    "evaluate: [1]": "'evaluate.0' is no mapping",
    "evaluate: [null]": "'evaluate.0' is no mapping",
    "evaluate: 3": "'evaluate' is no mapping",
    "evaluate: {models: arms, data: [test-set]}": "'evaluate' needs a list of models",
    "measure: {bpc: 3}": "'bpc' is no mapping",
    "measure: {bpc: [x]}": "'bpc.0' is no mapping",
    "measure: {bpc: {models: [student]}}": "'measure' needs a list of data",
    "measure: []": "'measure' is no mapping",
    "defaults: {train: }": "'train' is no mapping",
    "defaults: {train: 1}": "'train' is no mapping",
    "for: {x: [1], y: {z: 1}}": "'y' is no list of values",
    "for: {a: &a [0,1,2,3,4,5,6,7,8,9], b: *a, c: *a, d: *a, e: *a}": "100,000 combinations",
    "let: 3": "'let' is no mapping",
    "arms: null": "'arms' is no mapping",
    "name: [a]": "is no name",
    "arms: {x: {name: [a], train: {}}}": "is no name",
}


@pytest.mark.parametrize("line", SHAPES)
def test_a_section_of_another_shape_is_refused_with_its_line(line: str, world: World) -> None:
    world.write("odd.yaml", f"name: t\n{line}\n" if not line.startswith("name") else line)
    with pytest.raises(MicotaError, match=SHAPES[line]) as refused:
        world.load(name="odd.yaml")
    assert f"odd.yaml, line {1 if line.startswith('name') else 2}" in str(refused.value)


@pytest.mark.parametrize(
    ("prompt", "read"),
    [
        ("Solve for $x$: {problem}", "Solve for $x$: {problem}"),
        ("{problem} $$x$$", "{problem} $$x$$"),
        ("{problem} costs $5 or $", "{problem} costs $5 or $"),
        ("{problem} with seed $seed", "{problem} with seed 7"),
        ("{problem} with $$seed", "{problem} with $seed"),
    ],
)
def test_a_dollar_in_a_prompt_is_a_dollar_unless_a_variable_follows(prompt: str, read: str, world: World) -> None:
    text = RECIPE.replace("name: small", "name: small\nfor: {seed: [7]}")
    world.recipe_file.write_text(text.replace('  prompt: "{problem}"', f"  prompt: '{prompt}'"))
    recipe = world.load()
    assert recipe.evaluations[0].spec.completions.prompt.template == read
    again = recipe.save(world.folder / "again.yaml")
    assert Recipe.load(again).evaluations[0].spec.digest == recipe.evaluations[0].spec.digest


@pytest.mark.parametrize(("where", "says"), [("prompt: '{problem} $sed'", "$$sed"), ("data: ['$x']", "$$x")])
def test_a_misspelt_variable_is_no_text(where: str, says: str, world: World) -> None:
    world.write("m.yaml", f"name: m\nfor: {{seed: [7]}}\nevaluate: {{models: ['lab:ta'], data: [math500], {where}}}\n"
                .replace("data: [math500], data", "data"))  # fmt: skip
    with pytest.raises(MicotaError, match="unknown variable") as refused:
        world.load(name="m.yaml")
    assert says in str(refused.value)


SETS: dict[str, Any] = {
    "prompt.system=Write it after #### at the end.": ("prompt", {"system": "Write it after #### at the end."}),
    "a=Be brief # not long": ("a", "Be brief # not long"),
    "a=!note be brief": ("a", "!note be brief"),
    "a=&x be brief": ("a", "&x be brief"),
    "a=*x": ("a", "*x"),
    "a={problem}": ("a", "{problem}"),
    "a={problem}: {answer}": ("a", "{problem}: {answer}"),
    "a=[draft] {problem}": ("a", "[draft] {problem}"),
    "a='yes' or \"no\"": ("a", "'yes' or \"no\""),
    "a='yes' # no": ("a", "'yes' # no"),
    "a='yes', 'no'": ("a", "'yes', 'no'"),
    "a=key: value": ("a", "key: value"),
    "a=- x": ("a", "- x"),
    "a= x\n y ": ("a", " x\n y "),
    "a=\U0001f600": ("a", "\U0001f600"),
    "a='3'": ("a", "3"),
    "a=3": ("a", 3),
    "a=2e-5": ("a", 2e-5),
    "a=true": ("a", True),
    "a=": ("a", None),
    "a=~": ("a", None),
    "a=[0.3, 0.9]": ("a", [0.3, 0.9]),
    "a={temperature: 0.6, stop: ['#']}": ("a", {"temperature": 0.6, "stop": ["#"]}),
    "a={}": ("a", {}),
    "lora.rank=8": ("lora", {"rank": 8}),
    "empty.rank=8": ("empty", {"rank": 8}),
    "qwen2.5.lr=1": ("qwen2.5", {"lr": 1}),
    "list.1=z": ("list", ["x", "z"]),
}  # fmt: skip


@pytest.mark.parametrize("text", SETS, ids=ascii)
def test_an_override_is_a_text_as_it_stands_or_yaml_in_brackets(text: str) -> None:
    tree: dict[str, Any] = {"empty": None, "qwen2.5": {"lr": 0}, "list": ["x", "y"]}
    yaml_tree.override(tree, text)
    place, value = SETS[text]
    assert tree[place] == value


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("evaluate.data.1=math", "evaluate.data is a list of 1, without '1'"),
        ("evaluate.data.-1=math", "without '-1'"),
        ("evaluate.data.²=math", "without '²'"),
        ("let.ta-lung.train.lr=1", "did you mean 'ta-long'"),
        ("let.ta-long.trian.lr=1", "did you mean 'train'"),
        ("arms.instruct.train.lr=1", "has no fields"),
        ("let.ta-long.train.lr.x=1", "lr: Input should be a valid number"),
        ("evaluate.n=" + "9" * 400, "too large"),
        ("evaluate", "sets nothing"),
        ("=1", "sets nothing"),
        ("evalute.n=4", "unknown key 'evalute'"),
        ("defaults.trian.lr=4", "unknown kind 'trian'"),
    ],
)
def test_an_override_without_a_place_says_what_is_there(text: str, says: str, world: World) -> None:
    with pytest.raises(MicotaError) as refused:
        world.load(text)
    assert says in str(refused.value)
    assert len(str(refused.value)) < 900


def test_fields_that_a_form_leaves_out_and_sections_that_are_lists_can_be_set(world: World) -> None:
    assert world.load("let.ta-long.train.lora.rank=8").named("ta-long").lora.rank == 8  # type: ignore[attr-defined]
    world.recipe_file.write_text(RECIPE.replace("evaluate:\n  models", "evaluate:\n- models").replace("\n  ", "\n  "))
    with pytest.raises(MicotaError, match="evaluate is a list of 1, without 'data'"):
        world.load("evaluate.data=[aime24]")
    assert world.load("evaluate.0.data=[aime24]").evaluations[0].data == "aime24"


def test_hostile_recipes_end_in_messages() -> None:
    ends, wrong = isolated.faults(hostile.cases(40, Random(7)))
    assert wrong == []
    assert ends["refused"] > 20
