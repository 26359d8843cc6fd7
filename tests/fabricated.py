"""A store filled by hand: every artifact of a recipe with figures that are made up, in no time and without a model."""

from __future__ import annotations

import random
from typing import Any

from micota.recipe.labels import everything
from micota.recipe.recipe import Recipe
from micota.specs import (  # fmt: skip
    Bpc,
    Choice,
    Generate,
    LengthDial,
    Merge,
    MergeSearch,
    Mix,
    Problems,
    Select,
    Source,
    Spec,
    Train,
    Verify,
)
from micota.specs import dial_policy as choosing
from micota.store.artifacts import Result, Store
from micota.store.pool import Writer
from micota.store.records import Completion, read_rows, text_key, write_rows

MADE = {"seconds": 1.5, "micota": "0.1.0"}
LONG, MIDDLE, SHORT = 200, 100, 40


class Fabricated:
    """Fills a store; `problems` and `texts` are what problems and responses say."""

    def __init__(self, store: Store, problems: list[str], texts: list[str], gold: str = "7") -> None:
        self.store, self._problems, self._texts, self._gold = store, problems, texts, gold

    def fill(self, recipe: Recipe, without: tuple[str, ...] = ()) -> None:
        """Finish everything but the named kinds and what depends on nothing else than them."""
        specs = [spec for spec in everything(recipe) if not isinstance(spec, Source) and spec.kind not in without]
        for spec in specs:
            if not isinstance(spec, LengthDial):
                self._finish(spec)
        for spec in specs:
            if isinstance(spec, LengthDial):
                self._choose(spec)
        for spec in specs:  # what stands on a dial's choice has its inputs only now
            if isinstance(spec, Generate) and isinstance(spec.model, LengthDial):
                self._finish(spec)

    def _finish(self, spec: Spec) -> None:
        self.store.recover(spec)
        made = getattr(self, f"make_{spec.kind}", lambda spec, dice: Result())(spec, random.Random(spec.digest))
        self.store.finish(spec, made, MADE)

    def _choose(self, spec: LengthDial) -> None:
        asked = spec.next({})
        assert isinstance(asked, tuple)
        results = {one.digest: manifest.facts for one in asked if (manifest := self.store.manifest(one))}
        chosen = spec.next(results)
        if isinstance(chosen, Choice):
            self._finish(chosen.spec)
            other = self.store.manifest(chosen.spec)
            assert other is not None
            self.store.link(spec, other, chosen.why, chosen.facts)

    def _rows(self, spec: Spec) -> list[dict[str, Any]]:
        manifest = self.store.manifest(spec)
        return read_rows(self.store.files(manifest) / "rows.jsonl") if manifest else []

    def _write(self, spec: Spec, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        write_rows(self.store.work(spec) / "out" / "rows.jsonl", rows)
        return rows

    def _asked(self, spec: Problems) -> list[dict[str, Any]]:
        texts = [f"{text} ({spec.split}, {spec.seed}, {spec.skip})" for text in self._problems[: spec.n]]
        return [{"key": text_key(text), "problem": text, "answer": self._gold} for text in texts]

    def make_problems(self, spec: Problems, dice: random.Random) -> Result:
        rows = self._write(spec, self._asked(spec))
        return Result({"problems": len(rows), "duplicates": 0, "conflicting": 0})

    def make_generate(self, spec: Generate, dice: random.Random) -> Result:
        pool = spec.pool(str(self.store.content(spec.model)))
        rows, answers = [], []
        for problem in self._asked(spec.problems):
            tokens = max(8, round(_length(spec.model) * dice.uniform(0.7, 1.3)))
            text = dice.choice(self._texts)
            answer = Completion(problem["key"], 0, problem["problem"], text, "stop", 9, tokens, "fabricated")
            answers.append(answer)
            rows.append({"key": answer.key, "sample": 0, "sha": answer.sha, "tokens": tokens, "finish": "stop"})
        with Writer(self.store.pool_folder(pool), {"model": spec.model.digest}) as writer:
            writer.write(answers)
        self._write(spec, rows)
        lengths = [row["tokens"] for row in rows]
        facts = {"rows": len(rows), "generated": len(rows), "reused": 0, "truncated": 0}
        return Result({**facts, "tokens": sum(lengths), "mean_tokens": sum(lengths) / len(rows)}, [pool])

    def make_verify(self, spec: Verify, dice: random.Random) -> Result:
        rows = []
        for row in self._rows(spec.completions):
            right = dice.random() < _skill(spec.completions.model)
            verdict = {"verdict": "correct" if right else "wrong", "answer": "7", "reason": "made up"}
            rows.append({**{k: row[k] for k in ("key", "sample", "tokens")}, **verdict, "truncated": False})
        self._write(spec, rows)
        counts = {word: sum(row["verdict"] == word for row in rows) for word in ("correct", "wrong")}
        return Result({"rows": len(rows), "mean_tokens": _mean(rows), "verdicts": counts})

    def make_search(self, spec: MergeSearch, dice: random.Random) -> Result:
        rows = []
        for setting in choosing.grid(spec.ranges, spec.steps):
            model = spec.candidate(setting)
            share, loss = _length(model) / LONG, 0.95 - _skill(model)
            row = {"tokens": _length(model), "accuracy": _skill(model), "share": share, "loss": loss}
            ends = {"share_low": share - 0.02, "share_high": share + 0.02}
            rows.append(
                {
                    **setting,
                    **row,
                    **ends,
                    "loss_low": loss - 0.03,
                    "loss_high": loss + 0.03,
                    "truncated": 0.0,
                    "looped": 0.0,
                }
            )
        return Result({"dial": rows, "reference": {"tokens": LONG, "accuracy": 0.95}, "target": spec.length or 0.5})

    def make_merge(self, spec: Merge, dice: random.Random) -> Result:
        layers = {str(i): 1.0 + i / 7 for i in range(4)}
        models = {str(i): {"norm": 2.5, "kept": 0.7, "layers": layers} for i in range(len(spec.models))}
        return Result({"parameters": 9, "models": models, "sign_conflicts": None, "cosines": []})

    def make_select(self, spec: Select, dice: random.Random) -> Result:
        rows = self._rows(spec.completions)
        self._write(spec, [{k: row[k] for k in ("key", "sample", "sha")} for row in rows])
        facts = {"answers": len(rows), "kept": len(rows), "mean_tokens": _mean(rows), "dropped": {"wrong": 0}}
        return Result(facts, self._pools(spec.completions))

    def make_mix(self, spec: Mix, dice: random.Random) -> Result:
        rows = [row for part in spec.parts for row in self._rows(part.data)]
        self._write(spec, rows)
        facts = {"rows": len(rows), "parts": [len(self._rows(part.data)) for part in spec.parts]}
        return Result(facts, [pool for part in spec.parts for pool in self._pools(part.data)])

    def _pools(self, spec: Spec) -> list[str]:
        manifest = self.store.manifest(spec)
        return list(manifest.pools) if manifest else []

    def make_train(self, spec: Train, dice: random.Random) -> Result:
        steps = 90 if spec.target_tokens else 60
        loss = [(i + 1, round(1.2 / (1 + i / 3) * dice.uniform(0.8, 1.25) + 0.01, 5)) for i in range(steps)]
        facts = {"examples": 40, "dropped": {}, "steps": steps, "tokens": 5000, "target_tokens": 4000}
        return Result({**facts, "learnt_tokens": 9000, "loss": loss, "final_loss": loss[-1][1]})

    def make_bpc(self, spec: Bpc, dice: random.Random) -> Result:
        rows = [
            {"key": row["key"], "sample": row["sample"], "nats": dice.uniform(4, 9), "tokens": 50, "characters": 90,
             "bytes": 92} for row in self._rows(spec.data)
        ]  # fmt: skip
        self._write(spec, rows)
        nats, bits = sum(row["nats"] for row in rows) / (90 * len(rows)), 1.4427
        facts = {"rows": len(rows), "tokens": 50 * len(rows), "characters": 90 * len(rows), "nats_per_character": nats}
        other = {"bits_per_byte": nats * bits * 90 / 92, "bits_per_character_mean_of_rows": nats * bits}
        return Result({**facts, "bits_per_character": nats * bits, **other})


def _mean(rows: list[dict[str, Any]]) -> float:
    return sum(row.get("tokens", LONG) for row in rows) / max(1, len(rows))


def _length(model: Spec) -> float:
    """A student answers as long as what it learnt, a merge in between."""
    if isinstance(model, Train):
        parts = [part.data for part in model.data.parts] if isinstance(model.data, Mix) else [model.data]
        writers = [part.completions.model for part in parts if isinstance(part, Select)]
        return 0.95 * sum(map(_length, writers)) / len(writers)
    if isinstance(model, Merge):
        return SHORT + (LONG - SHORT) * model.weights[0] ** 2
    if isinstance(model, Source):
        return LONG if "teacher" in model.ref else SHORT
    return MIDDLE


def _skill(model: Spec) -> float:
    """Large models know everything; a student learns best from chains of middle length."""
    if isinstance(model, Source):
        return 0.4 if "student" in model.ref else 0.97
    if isinstance(model, Train) and "student" in str(model.base):
        return 0.75 - abs(_length(model) - MIDDLE) / 200
    return 0.95 if not isinstance(model, Merge) else 1.0 - 0.08 * model.weights[0]
