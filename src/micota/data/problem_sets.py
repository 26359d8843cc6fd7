"""The rows of a problem set: from the Hub, from a file or folder, or from the lab's generator."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

from micota.data.loading import table
from micota.data.multiple_choice import asked
from micota.errors import MicotaError
from micota.specs import Problems
from micota.store.records import text_key
from micota.store.resolution import LAB_WORLDS
from micota.worlds.workings import WORLDS, Split, World, problems

ABOUT = ("level", "subject")


def read(spec: Problems, cache: Path | None = None) -> Generator[dict[str, Any], None, None]:
    """The rows of a problem set in their own order, as {problem, answer}; a missing column is a MicotaError.

    Problems with options have these below the question, the letter of the right one as their answer, and `choices`.

    Columns `level` and `subject`, which MATH has, come with them: results can be told apart by them.

    `cache` is where `datasets` keeps its tables: a folder of its own, removed afterwards, unless one is given.
    """
    if cache is None:
        with tempfile.TemporaryDirectory() as folder:
            yield from read(spec, Path(folder))
        return
    if spec.source.ref in LAB_WORLDS:
        yield from _world(spec)
        return
    rows = table(spec.source, spec.config, spec.split, cache)
    for column in _columns(spec):
        if column not in rows.column_names:
            raise MicotaError(
                f"{spec.source.ref} has no column '{column}'; it has {', '.join(rows.column_names)}",
                fix="name the columns in the recipe, as in `problem: question`",
            )
    about = [name for name in ABOUT if name in rows.column_names]
    for number, row in enumerate(rows, 1):
        yield {**_row(spec, row, number), **{name: row[name] for name in about}}


def _columns(spec: Problems) -> list[str]:
    options = [spec.choices] if isinstance(spec.choices, str) else spec.choices or ()
    return [spec.problem, spec.answer, *options]


def _row(spec: Problems, row: Mapping[str, Any], number: int) -> dict[str, Any]:
    return asked(spec, row, number) if spec.choices else {"problem": row[spec.problem], "answer": row[spec.answer]}


def column_of(spec: Problems, column: str) -> dict[str, str]:
    """By the key of each problem what another column of its source says; {} without it or its source.

    Of the Hub's data sets only what was downloaded before is read.
    """
    if spec.source.ref in LAB_WORLDS:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            rows = table(spec.source, spec.config, spec.split, Path(folder), here=True)
            if not {*_columns(spec), column} <= set(rows.column_names):
                return {}
            pairs = ((_row(spec, row, number), row[column]) for number, row in enumerate(rows, 1))
            return {text_key(str(one["problem"])): str(value) for one, value in pairs if value is not None}
        except (MicotaError, OSError, ValueError):  # gone, or not downloaded: then nothing is parted by it
            return {}


def _world(spec: Problems) -> Iterable[dict[str, Any]]:
    if spec.n is None or spec.split not in ("train", "dev", "test"):
        raise MicotaError(
            f"{spec.source.ref} generates its problems: give their number and split",
            fix=f"{{problems: {{source: {spec.source.ref}, split: train, n: 600}}}}  (or dev, test)",
        )
    name = "-".join(filter(None, (spec.source.ref.removeprefix("lab:"), spec.config)))
    if name not in WORLDS:
        raise MicotaError(
            f"{spec.source.ref} has no config '{spec.config}'",
            fix="remove config; lab:arithmetic has harder problems: `config: hard`",
        )
    split: Split = spec.split  # type: ignore[assignment]
    world: World = name  # type: ignore[assignment]
    return problems(spec.skip + spec.n, spec.seed, split, world)
