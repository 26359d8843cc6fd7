"""Runs with `--set` have names of their own: by them they are found, and the plain recipe's names never move."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import LAB, World
from test_recipe import command

from micota import MicotaError, load
from micota.housekeeping.removal import removable
from micota.recipe.variants import LONGEST, number
from micota.specs import Train

RATE = "arms.micota.train.lr=1e-3"
NAMES = [
    ([], "lab-mini"),
    (["arms.micota.train.lr=2e-3"], "lab-mini+micota.lr=2e-3"),
    (["arms.micota.train.lr=0.002"], "lab-mini+micota.lr=2e-3"),
    (["arms.micota.train.lr=20.0e-4"], "lab-mini+micota.lr=2e-3"),
    (["arms.micota.train.lr=1e-3"], "lab-mini"),  # as it is written
    (["arms.micota.train.lr=5", "arms.micota.train.lr=2e-3"], "lab-mini+micota.lr=2e-3"),  # the last one counts
    (["let.ta-long.train.max_steps=9", "arms.micota.train.lr=2e-3"], "lab-mini+micota.lr=2e-3+ta-long.max_steps=9"),
    (["arms.micota.train.lr=2e-3", "let.ta-long.train.max_steps=9"], "lab-mini+micota.lr=2e-3+ta-long.max_steps=9"),
    (["let.ta-long.train.lr=1.0"], "lab-mini+ta-long.lr=1"),
    (["defaults.distill.sampling={max_tokens: 50}"], "lab-mini+distill.sampling.max_tokens=50"),
    (["evaluate.sampling.max_tokens=50"], "lab-mini+evaluate.sampling.max_tokens=50"),
    (["evaluate.sampling.top_p=.5"], "lab-mini+evaluate.sampling.top_p=0.5"),
    (["name=mine", "arms.micota.train.lr=2e-3"], "mine"),
    (["let.student=lab:ta"], "lab-mini+student=lab-ta~"),
    (["evaluate.prompt=Solve \u00e9 / $x: {problem}"], "lab-mini+evaluate.prompt=Solve-x-problem~"),
    (["arms.micota.name='1'"], "lab-mini+arms.micota.name=1~"),  # a text, which is not the number
    (["evaluate.data=[test-set, gsm8k]"], "lab-mini+evaluate.data=test-set-gsm8k~"),
]


@pytest.mark.parametrize(("sets", "name"), NAMES)
def test_a_name_says_what_was_changed(sets: list[str], name: str) -> None:
    found = load("lab-mini", sets).name
    assert found.startswith(name) and len(found) in (len(name), len(name) + 8)
    assert "/" not in found and len(found) <= LONGEST


def test_what_differs_has_another_name() -> None:
    sets = [
        ["let.ta-long.train.lr=1"],
        ["arms.strong.train.lr=1"],
        ["defaults.train.lr=1"],
        ["let.ta-long.train.seed=1"],
        ["arms.strong.train.seed=1"],
        ["evaluate.prompt=a/b {problem}"],
        ["evaluate.prompt=a?b {problem}"],
        ["evaluate.prompt=" + 300 * "a" + "{problem}"],
        ["evaluate.prompt=" + 299 * "a" + "b{problem}"],
        [f"let.{name}.distill.max_tokens=50" for name in ("long-cot", "mid-cot")],
        *([f"defaults.distill.{key}" for key in ("n=1", f"max_tokens={i}", "precision=bfloat16", "keep=all")]
          + ["arms.strong.train.weight_decay=0.1", "arms.micota.train.weight_decay=0.1"] for i in (77, 78)),
    ]  # fmt: skip
    names = [load("lab-mini", each).name for each in sets]
    assert len(set(names)) == len(names) and max(map(len, names)) <= LONGEST
    assert names[-1].startswith("lab-mini+6-changes~")


ARMS = ("b: {train: {base: lab:student, data: d}}", "a: lab:student", "c: lab:ta")


def test_the_order_of_arms_is_a_part_of_the_name(tmp_path: Path) -> None:
    """Tables, labels and the usual baseline follow it; what is only spelt in another order has the name of before."""
    (tmp_path / "x.yaml").write_text(
        'name: x\nlet: {p: {problems: {source: "lab:arithmetic"}}, d: {distill: {from: lab:ta, data: p}}}\n'
        f"for: {{seed: [0], size: [1]}}\narms: {{{', '.join(ARMS)}}}\n"
    )

    def name(*sets: str) -> str:
        return load(str(tmp_path / "x.yaml"), sets).name

    def arms(*places: int) -> str:
        return f"arms={{{', '.join(ARMS[i] for i in places)}}}"

    assert name(arms(0, 1, 2)) == name() == name("for={seed: [0], size: [1]}") == "x"
    orders = [name(arms(*places)) for places in ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))]
    orders.append(name("for={size: [1], seed: [0]}"))
    assert len(set(orders)) == 6 and all(one.startswith(("x+arms=order~", "x+for=order~")) for one in orders)
    new = [f"arms.{letter}=lab:student" for letter in "yxz"]
    assert name(new[0]) == "x+y=lab-student~" + name(new[0])[-8:]  # behind the others, as usual
    assert name(*new[:2]) != name(*new[1::-1]) and "+arms=order~" not in name(*new[1::-1])
    with pytest.raises(MicotaError, match="give x and its `--set` again"):
        load(str(tmp_path / orders[0].replace("x+", "x.yaml+", 1)))


def test_overrides_change_no_digest_but_what_they_change() -> None:
    plain, changed = load("lab-mini"), load("lab-mini", ["arms.micota.train.lr=2e-3"])
    differing = {name for name in plain.names if plain.names[name].digest != changed.names[name].digest}
    assert differing == {"micota"}


def test_a_recipe_is_found_by_the_name_of_its_variant() -> None:
    sets = ["defaults.train.batch=16", "let.ta-long.train.lr=2e-5", "evaluate.sampling.max_tokens=50"]
    named, changed = load(load("lab-mini", sets).name), load("lab-mini", sets)
    assert named.name == changed.name
    assert [one.digest for one in named.targets] == [one.digest for one in changed.targets]
    more = load(named.name, ["arms.micota.train.lr=2e-3"])
    assert more.name == load("lab-mini", [*sets, "arms.micota.train.lr=2e-3"]).name
    seeds = load("lab-seeds", ["for.seed=[7]"]).name
    with pytest.raises(MicotaError, match="give lab-seeds and its `--set` again"):
        load(seeds)
    with pytest.raises(MicotaError, match="lab-min\\+lr=1"):
        load("lab-min+lr=1")


def test_a_file_with_a_plus_in_its_name(world: World) -> None:
    world.write("c++.yaml", world.recipe_file.read_text().replace("name: small\n", ""))
    assert world.load(name="c++.yaml").name == "c++"
    assert world.load("arms.micota.train.lr=0.5", name="c++.yaml").name == "c+++micota.lr=0.5"
    assert load(str(world.folder / "c++.yaml+micota.lr=0.5")).name == "c+++micota.lr=0.5"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-3, "1e-3"), (2e-5, "2e-5"), (0.5, "0.5"), (0.01, "0.01"), (1.5e-5, "1.5e-5"), (1.0, "1"), (16000, "16000"),
     (-0.25, "-0.25"), (1e30, "1e30"), (0.0, "0"), (1e6, "1000000")],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text and float(text) == value


def test_commands_speak_of_the_run_that_was_meant(
    made: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A second run with another rate: each of the two keeps its names, report, models and what gc may take."""
    sets = [*LAB[:2], "arms.micota.train.lr=0.0005"]
    before = made.store.links()
    made.run(*sets)
    recipe = made.load(*sets)
    for name, spec in recipe.names.items():
        made.store.name(recipe.name, name, spec)
    assert recipe.name.startswith("small+") and "+micota.lr=5e-4+" in recipe.name
    assert {name: made.store.links()[name] for name in before} == before
    own = made.store.find(f"{recipe.name}/micota")
    assert own.fields["lr"] == 5e-4 and made.store.find("small/micota").id != own.id
    with pytest.raises(MicotaError, match="several recipes have a 'micota'"):
        made.store.find("micota")
    given = ["--store", str(made.folder / "store")]
    asked = [part for one in sets for part in ("--set", one)]
    assert command(monkeypatch, "show", f"{recipe.name}/micota", *given) == 0
    assert own.id in capsys.readouterr().out
    assert command(monkeypatch, "report", str(made.recipe_file), *asked, *given) == 0
    assert "micota.lr-5e-4" in capsys.readouterr().out.replace("=", "-")
    assert command(monkeypatch, "export", f"{recipe.name}/micota", str(tmp_path / "out"), *given) == 0
    assert own.id in capsys.readouterr().out
    gone = {one.id for one in removable(made.store, [recipe], everything=True)}
    assert own.id in gone and made.store.find("small/micota").id not in gone
    assert command(monkeypatch, "forget", f"{recipe.name}/micota", "--yes", *given) == 0
    assert made.fresh().find("small/micota")
    assert isinstance(recipe.named("micota"), Train)
