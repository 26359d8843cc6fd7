"""The recipes of `micota generate`, `distill`, `train` and `measure`: one step, written beside what it makes.

The same command goes on after an interruption and executes nothing once it is done; the recipe is one to grow from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from micota import yaml_tree
from micota.atomic import read_json, write_text, written_path
from micota.benchmarks import BENCHMARKS
from micota.errors import MicotaError
from micota.export.folder import RECORD
from micota.specs import Spec
from micota.store.resolution import is_literal

HEAD = "# Written by a command of micota, which writes it anew: copy it to change it.\n"
NAMES = {"generate": "answers", "distill": "distilled", "train": "trained"}
"""What the one expression of each kind is called."""


def single(path: Path, name: str, kind: str, fields: Mapping[str, Any], sets: Iterable[str]) -> str:
    """Write the recipe of one form to a file; returns the name of what it makes. Empty fields are left out.

    `sets` override fields: `lr=2e-5`, `data.rows.prompt=question`.
    """
    tree = {key: value for key, value in fields.items() if value is not None}
    for one in sets:
        yaml_tree.override(tree, one)
    tree = {key: value for key, value in tree.items() if value != {}}
    if kind == "measure":
        let = {"model": tree.pop("model"), "data": tree.pop("data")}
        measured = {"models": ["model"], "data": ["data"], **tree}
        _write(path, {"name": name, "let": let, "measure": {"bpc": measured}})
        return "bpc:data@model"
    _write(path, {"name": name, "let": {NAMES[kind]: {kind: tree}}})
    return NAMES[kind]


def problem_set(given: str, limit: int | None, **fields: str | None) -> Any:
    """The expression of problems: their word alone, or with the part and the columns that were chosen of them."""
    part = {name: value for name, value in {**fields, "n": limit}.items() if value is not None}
    if not part:
        return word(given)
    if given in BENCHMARKS:
        b = BENCHMARKS[given]
        own = {"source": b.source, "benchmark": given, "config": b.config, "split": b.split}
        return {"problems": {name: value for name, value in {**own, **part}.items() if value is not None}}
    return {"problems": {"source": word(given), **part}}


def rows(source: str, **fields: str | None) -> dict[str, Any]:
    """The expression of training data made elsewhere."""
    return {"rows": {"source": word(source), **{name: value for name, value in fields.items() if value is not None}}}


def sampling(temperature: float | None, max_tokens: int | None) -> dict[str, float]:
    """The sampling's fields that were given."""
    fields = {"temperature": temperature, "max_tokens": max_tokens}
    return {key: value for key, value in fields.items() if value is not None}


def word(given: str, store: Path | None = None) -> str:
    """A path as one that means the same in the recipe's folder, and so is a model that the store has under a name
    (`lab-mini/micota`); any other word as it is."""
    path = written_path(given)
    there = path.exists() or (is_literal(given) and given.startswith((".", "/", "~")))
    if not there and store and "/" in given and os.path.isdir(made := store / "names" / given / "files"):
        return os.path.realpath(made)
    return os.path.abspath(path) if there else given


def check_file(out: Path, inputs: Iterable[str | Path], own: bytes = b"") -> None:
    """Before anything is made: `out` is no input, and a file that is there begins as what the command writes."""
    if out.is_dir():
        raise MicotaError(f"{out} is a folder", why="the rows go into a file", fix="give --out the name of a file")
    if not out.exists():
        return
    read = any(path.exists() and path.samefile(out) for path in (Path(one).expanduser() for one in inputs))
    if read or (own not in out.read_bytes()[:1000] and out.stat().st_size):
        what = f"{out} is {'what is read' if read else 'a file of your own'}"
        raise MicotaError(what, why="it would be overwritten", fix="give --out another name")


def check_place(out: Path, spec: Spec) -> None:
    """Before hours are spent: `out` is free, or holds what the same command made."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if read_json(out / RECORD).get("artifact") != spec.id:
        why = "what it holds would be lost: it was not made by this command with these settings"
        raise MicotaError(f"{out} is there already", why=why, fix="name another folder")


def _write(path: Path, recipe: dict[str, Any]) -> None:
    """A recipe whose sections stand on a line each; a recipe of the user's own is never overwritten."""
    if path.exists() and not path.read_text(encoding="utf-8").startswith(HEAD):
        fix = "give --out another name, or rename that file"
        raise MicotaError(f"{path} is a file of your own", why="this command writes its recipe there", fix=fix)
    write_text(path, HEAD + "".join(f"{key}: {json.dumps(value)}\n" for key, value in recipe.items()))
