"""`micota distil`, `train` and `measure`: one step on a model and anybody's data, as a recipe that is written beside.

The same command goes on after an interruption and executes nothing once it is done; the recipe is one to grow from.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from micota import yaml_tree
from micota.atomic import atomic, read_json
from micota.cli.generate_rows import problem_set, word, write_beside
from micota.errors import MicotaError
from micota.export.folder import RECORD
from micota.specs import Spec
from micota.store.artifacts import Manifest, Store

TRAINED = "trained"
DISTILLED = "distilled"
MEASURED = "bpc:data@model"


def training(path: Path, name: str, model: str, data: dict[str, Any], sets: Iterable[str]) -> Path:
    """Write the recipe of a training; `sets` are those of its fields, `data.rows.prompt=question` included."""
    fields = {"base": word(model), "data": _rows(data)}
    for one in sets:
        yaml_tree.override(fields, one)
    return _write(path, {"name": name, "let": {TRAINED: {"train": fields}}})


def measurement(path: Path, name: str, model: str, data: dict[str, Any], sets: Iterable[str]) -> Path:
    """Write the recipe of the bits per character of data under a model."""
    fields: dict[str, Any] = {"model": word(model), "data": _rows(data)}
    for one in sets:
        yaml_tree.override(fields, one)
    let = {"model": fields.pop("model"), "data": fields.pop("data")}
    return _write(
        path, {"name": name, "let": let, "measure": {"bpc": {"models": ["model"], "data": ["data"], **fields}}}
    )


def distillation(
    path: Path, name: str, model: str, problems: str, asked: dict[str, Any], part: dict[str, Any], sets: Iterable[str]
) -> Path:
    """Write the recipe of a model's verified answers to problems; `part` says which of the problems."""
    said = {key: value for key, value in part.items() if value is not None}
    drawn = {key: value for key, value in asked.items() if value not in (None, {})}
    fields = {"from": word(model), "data": problem_set(problems, said), "prompt": {}, "sampling": {}, **drawn}
    for one in sets:
        yaml_tree.override(fields, one)
    distil = {key: value for key, value in fields.items() if value != {}}
    return _write(path, {"name": name, "let": {DISTILLED: {"distil": distil}}})


def _rows(data: dict[str, Any]) -> dict[str, Any]:
    said = {key: value for key, value in data.items() if value is not None}
    return {"rows": {**said, "source": word(str(data["source"]))}}


def _write(path: Path, recipe: dict[str, Any]) -> Path:
    """A recipe whose sections stand on a line each."""
    return write_beside(path, "".join(f"{key}: {json.dumps(value)}\n" for key, value in recipe.items()))


def check_place(out: Path, spec: Spec) -> None:
    """Before hours are spent: `out` is free, or holds what the same command made."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if read_json(out / RECORD).get("artifact") != spec.id:
        why = "what it holds would be lost: it was not made by this command with these settings"
        raise MicotaError(f"{out} is there already", why=why, fix="name another folder")


def write_measures(store: Store, manifest: Manifest, out: Path) -> None:
    """The rows of a measurement, written aside and renamed; only over rows of a measurement."""
    if out.exists() and b'"nats":' not in out.read_bytes()[:1000]:
        raise MicotaError(f"{out} is a file of your own", why="it would be overwritten", fix="give --out another name")
    with atomic(out) as temporary:
        shutil.copyfile(store.files(manifest) / "rows.jsonl", temporary)
