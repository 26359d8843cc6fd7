"""Hostile recipes and overrides, each read, planned and written: `python tests/fuzz/recipes.py 300 --seed 1`."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from isolated import Case, main

from micota.recipe import recipe as recipes
from micota.run.plan import survey
from micota.store.artifacts import Store

BASE: dict[str, Any] = {
    "name": "hostile",
    "for": {"seed": [0, 1], "size": [{"name": "s", "batch": 2}, {"name": "m", "batch": 4}]},
    "defaults": {"distill": {"prompt": "{problem}", "precision": "float32", "sampling": {"max_tokens": 8}}},
    "let": {
        "sums": {"problems": {"source": "lab:arithmetic", "split": "train", "n": 8}},
        "long": {"distill": {"from": "lab:teacher", "data": "sums", "by": "exact_match"}},
        "ta-long": {"train": {"base": "lab:ta", "data": "long", "seed": "$seed", "lora": {"rank": 4}}},
        "ta-mid": {"merge": {"base": "lab:ta", "models": ["ta-long"], "method": "task_arithmetic", "weight": 0.5}},
        "both": {"mix": [{"data": "long", "share": 0.5}, {"data": {"rows": {"source": "./rows.jsonl"}}, "share": 0.5}]},
    },
    "arms": {
        "instruct": "lab:student",
        "strong": {"name": "Long", "train": {"base": "lab:student", "data": "both", "batch": "$size.batch"}},
    },
    "evaluate": {"models": ["arms", "ta-mid"], "data": ["sums"], "prompt": "{problem}", "sampling": {"max_tokens": 8}},
    "measure": {"bpc": {"models": ["ta-mid"], "data": ["long"]}},
}
VALUES: list[Any] = [
    *(
        None,
        True,
        "",
        " ",
        0,
        -1,
        1,
        3,
        10**18,
        10**30,
        0.5,
        -0.0,
        1e308,
        float("nan"),
        float("inf"),
        [],
        {},
        [[]],
        [None],
    ),
    *(
        [1],
        {"": {}},
        {"x": None},
        {"x": {"y": {"z": 1}}},
        "$seed",
        "$nobody",
        "$size.nothing",
        "$$seed",
        "$",
        "lab:nobody",
    ),
    *(
        "./rows.jsonl",
        "./absent.jsonl",
        "../../..",
        "/",
        "/dev/zero",
        "/proc/self/mem",
        "~",
        "endpoint:",
        "a/b",
        "a:b",
        "mod:",
        "lab:" + "x" * 300,
        "lab:../data",
        "endpoint:" + "x" * 5000,
        "x" * 300 + ":f",
        "..:f",
    ),
    *("..", ".", "-rf", "*", "x" * 300, "é" * 150, "a\0b", "a\nb", "\x1b]0;t\x07", "\u202egnp", "[red]x[/red]", "[/]"),
    *(
        "{problem}",
        "{problem} $$x$$ $y$ $sead",
        "<script>",
        "99999999999999999999",
        "1e999",
        "0x" + "f" * 5000,
        "9" * 5000,
    ),
    *(
        "sums",
        "long",
        "ta-long",
        "arms",
        "math500",
        "semantic",
        "verified",
        "dare_ties",
        "float32",
        "none",
        "C:\\x",
        "%s",
    ),
]
TEXTS = [
    *(
        "[" * 100_000,
        "{x: " * 2_000,
        "- " * 5_000,
        "? " * 2_000,
        "&a [*a]",
        "&b {x: *b}",
        "*nobody",
        "!!python/name:os.system x",
    ),
    *(
        "!tag x",
        "!!binary aGk=",
        "\x00",
        "\x1b[31m",
        "\ufeff",
        "\u2028",
        "\x85",
        "\t",
        "--- ",
        "\n---\na: 1\n",
        "<<: ",
        "'",
        '"',
    ),
    *("|\n", ">", "%YAML 9.9\n", "%TAG ! x\n", "\r", "\ud800", "#", ": ", ",", "}", "]", "9" * 5_000, "0o" + "7" * 400),
]


def cases(count: int, random: Random) -> Iterator[Case]:
    """Recipes of four kinds in turn."""
    for number in range(count):
        kind = ("values", "keys", "text", "sets")[number % 4]
        tree, sets = copy.deepcopy(BASE), []
        if kind == "sets":
            sets = [f"{_dotted(tree, random)}={_said(random)}" for _ in range(random.randint(1, 3))]
        elif kind in ("values", "keys"):
            for _ in range(random.randint(1, 2)):
                _change(tree, random, kind == "keys")
        data = _text(tree, random) if kind == "text" else json.dumps(tree).encode()
        yield f"{kind} {number}", lambda folder, data=data, sets=sets: _read(folder, data, sets)  # type: ignore[misc]
    yield "nine levels of anchors", lambda folder: _read(folder, _anchors(), [])


def _anchors() -> bytes:
    levels = ["a0: &a0 [x,x,x,x,x,x,x,x,x]", *(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9))]
    return "\n".join(levels).encode()


def _read(folder: Path, data: bytes, sets: list[str]) -> None:
    (folder / "rows.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    (folder / "hostile.yaml").write_bytes(data)
    recipe = recipes.load(str(folder / "hostile.yaml"), sets)
    survey(Store(folder / "store"), recipe.targets)
    recipe.save(folder / "again.yaml")


def _places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from _places(value, (*path, key))


def _dotted(tree: Any, random: Random) -> str:
    place = [str(part) for part in random.choice(list(_places(tree)))]
    return ".".join(
        random.choice([place, [*place, random.choice(["x", "0", "-1", "²", "name", "lr", ""])], place[:-1] or ["x"]])
    )


def _said(random: Random) -> str:
    value = random.choice(VALUES)
    return random.choice([str(value), json.dumps(value), random.choice(TEXTS)])[:9_000]


def _change(tree: Any, random: Random, keys: bool) -> None:
    *parents, last = random.choice(list(_places(tree)))
    for part in parents:
        tree = tree[part]
    if keys and isinstance(tree, dict):
        tree[str(random.choice(VALUES))] = tree.pop(last)
    else:
        tree[last] = copy.deepcopy(random.choice(VALUES))


def _text(tree: Any, random: Random) -> bytes:
    text = "".join(f"{key}: {json.dumps(value)}\n" for key, value in tree.items())
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(text))
        text = text[:at] + random.choice(["", random.choice(TEXTS)]) + text[at + random.choice([0, 1, 9, 200]) :]
    encoding, errors = random.choice(
        [("utf-8", "replace"), ("utf-8", "surrogatepass"), ("utf-16", "replace"), ("latin-1", "replace")]
    )
    return text.encode(encoding, errors)


if __name__ == "__main__":
    main(cases, 300)
