"""A recipe whose graded answers are written by hand, so that every figure of the report can be counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from conftest import World, with_roles

from micota.report import page_sections as tables
from micota.report.page import Cell, Section, Table
from micota.report.results import Results
from micota.specs import Spec
from micota.store.artifacts import Result, Store
from micota.store.manifest import Manifest
from micota.store.records import write_rows

LET = """
defaults:
  distil: {prompt: "{problem}", precision: float32, by: exact_match, sampling: {max_tokens: 12}}
  train: {precision: float32, batch: 4, cutoff: 64, max_steps: 2}
let:
  train-set: {problems: {source: ./train.jsonl}}
  test-set: {problems: {source: ./test.jsonl}}
  more-set: {problems: {source: ./test.jsonl, n: 2}}
  teacher: ./models/teacher
  ta: ./models/ta
  student: ./models/student
  long-cot: {distil: {from: teacher, data: train-set}}
  ta-long: {train: {base: ta, data: long-cot}}
  ta-mid: {merge: {base: ta, models: [ta-long], method: dare_ties, density: 0.7, weight: 0.5, rescale: l1}}
  half-cot: {distil: {from: ta-long, data: train-set}}
  mid-cot: {distil: {from: ta-mid, data: train-set}}
"""
ARMS = """
arms:
  instruct: student
  strong: {train: {base: student, data: long-cot, seed: SEED}}
  half: {train: {base: student, data: half-cot, seed: SEED}}
  micota: {train: {base: student, data: mid-cot, seed: SEED}}
"""
EVALUATE = """
evaluate:
  models: [arms, teacher, ta, ta-long, ta-mid]
  data: [test-set]
  prompt: "{problem}"
  by: [semantic, exact_match]
"""
SEEDED = with_roles("name: small\nfor: {seed: [0, 1, 2]}\n" + LET + ARMS.replace("SEED", "$seed") + EVALUATE)
NEUTRAL = "name: small\n" + LET + ARMS.replace("SEED", "0") + EVALUATE
PLAIN = with_roles(NEUTRAL)
BPC = "measure: {bpc: {models: [student], data: [long-cot, half-cot, mid-cot], precision: float32}}\n"

Verdicts = Mapping[str, Sequence[str]]
"""For each label of a model its verdicts, one letter a problem: c(orrect), w(rong), n(o answer), t(runcated)."""
WORDS = {"c": "correct", "w": "wrong", "n": "no_answer", "t": "no_answer"}


def results(world: World, recipe: str | None = None) -> Results:
    if recipe:
        world.recipe_file.write_text(recipe)
    return Results(world.load(), world.store)


def put(store: Store, spec: Spec, rows: list[dict[str, Any]], facts: Mapping[str, Any] = {}) -> Manifest:
    """Finish a spec by hand."""
    write_rows(store.recover(spec) / "out" / "rows.jsonl", rows)
    return store.finish(spec, Result(dict(facts)), {"seconds": 2.0})


def row(i: int, letter: str, tokens: int) -> dict[str, Any]:
    graded = {"verdict": WORDS[letter], "truncated": letter == "t", "tokens": tokens}
    return {"key": f"{i:04x}", "sample": 0, "answer": None, "reason": "by hand", **graded}


def grade(
    found: Results, said: Mapping[str, str], by: str | None = None, tokens: Mapping[str, int] | None = None
) -> None:
    """Write the verdicts of models by their labels; on one scorer, or the same on all."""
    for one in found.recipe.evaluations:
        if one.model in said and by in (None, one.spec.by):
            length = (tokens or {}).get(one.model, 10)
            rows = [row(i, letter, length + i % 2) for i, letter in enumerate(said[one.model])]
            put(found.store, one.spec, rows, {"rows": len(rows)})


def table(found: Results, key: str) -> Table:
    every = {item.key: item for section in tables.sections(found) for item in section.items if isinstance(item, Table)}
    return every[key]


def texts(shown: Table, name: str) -> list[str]:
    """The row that begins with a name."""
    return next([cell.text for cell in row] for row in shown.rows if row[0].text == name)


def cell(shown: Table, name: str, column: str) -> Cell:
    return next(row for row in shown.rows if row[0].text == name)[shown.head.index(column)]


def section(found: Results, title: str) -> Section | None:
    return next((one for one in tables.sections(found) if one.title == title), None)


FOUR = {"instruct": "ccww", "strong": "cwww", "half": "ccww", "micota": "cccw"}
