"""The graded answers that are there, in the roles that the paper gives them: what every table and figure reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from micota.recipe.labels import learnt_from
from micota.recipe.reader import Evaluation, Recipe
from micota.specs import Data, Generate, LengthDial, RejectionSampling, Select, Source, Spec, Train
from micota.store.artifacts import Manifest, Store
from micota.store.records import read_rows

ROLES = {
    "teacher": "Teacher",
    "ta": "Assistant before fine-tuning",
    "ta_long": "Assistant after fine-tuning",
    "ta_mid": "Assistant, merged",
    "instruct": "Instruct",
    "short": "Short SFT",
    "strong": "Strong Teacher CoT",
    "half": "Half-size CoT",
    "mix_long": "Mix-Long",
    "micota": "MiCoTA",
}
"""What each role is called; the first four belong to the procedure, the others are arms."""

TOKENS = "_tokens"  # an arm `strong_tokens` is the arm `strong`, matched in target tokens instead of steps


@dataclass(frozen=True)
class Graded:
    """The verdict on one answer."""

    key: str
    sample: int
    verdict: str
    tokens: int
    truncated: bool
    looped: bool = False

    @property
    def correct(self) -> bool:
        return self.verdict == "correct"


@dataclass(frozen=True)
class Answers:
    """One model's answers to one problem set, in one combination of variables.

    `role` is one of ROLES, or the recipe's word; `title` what is printed. `data` is the recipe's word for the problem
    set. `variables` are all that the model or the problem set depends on but the seed, `group` their values as text
    ("" without). `graded` has one tuple of verdicts for each scorer, in the recipe's order; it is empty where the
    evaluation is missing. `word` is the recipe's word for the model.
    """

    role: str
    title: str
    matched: str
    data: str
    group: str
    seed: Any
    model: Spec
    completions: Generate
    graded: Mapping[str, tuple[Graded, ...]]
    word: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    arm: bool = False

    @property
    def done(self) -> bool:
        return all(self.graded.values())


class Results:
    """What a recipe's evaluations came to, read once. Missing ones are there and say so."""

    def __init__(self, recipe: Recipe, store: Store) -> None:
        self.recipe, self.store = recipe, store

    @cached_property
    def answers(self) -> list[Answers]:
        """One for each model, problem set and combination of variables, in the recipe's order."""
        cells: dict[tuple[str, ...], list[Evaluation]] = {}
        for one in self.recipe.evaluations:
            cells.setdefault((one.model, one.data, *map(str, one.variables.values())), []).append(one)
        return [self._answers(ones) for ones in cells.values()]

    @cached_property
    def procedure(self) -> dict[str, str]:
        """The roles of the procedure by the digests of their models, read off what the arms learn from."""
        found: dict[str, str] = {}
        for label, spec in self.recipe.names.items():
            arm = label.partition("[")[0]
            source = _writer(learnt_from(spec))
            if source is None:
                continue
            if arm == "strong":
                found.setdefault(source.digest, "teacher")
            elif arm == "half":
                found |= _assistant(source)
            elif arm == "micota" and not isinstance(source, Source | Train):
                found |= {source.digest: "ta_mid"}
                if isinstance(source, LengthDial):
                    found |= _assistant(source.target.of)
                elif hasattr(source, "models"):
                    found |= _assistant(source.models[0])
        return found

    def manifest(self, spec: Spec) -> Manifest | None:
        """The manifest of a spec that is done and whose files are there."""
        manifest = None if isinstance(spec, Source) else self.store.manifest(spec)
        return manifest if manifest and self.store.whole(manifest) else None

    def facts(self, spec: Spec) -> dict[str, Any]:
        """The facts of a finished spec, also of one whose files were removed; {} of what is missing."""
        manifest = None if isinstance(spec, Source) else self.store.manifest(spec)
        return manifest.facts if manifest else {}

    def rows(self, spec: Spec) -> list[dict[str, Any]]:
        """The rows of a finished artifact; none of what is missing."""
        manifest = self.manifest(spec)
        return read_rows(self.store.files(manifest) / "rows.jsonl") if manifest else []

    def _answers(self, ones: list[Evaluation]) -> Answers:
        first = ones[0]
        spec = first.spec.completions
        word = first.role
        base, tokens, _ = word.partition(TOKENS)
        arm = base if tokens and base in ROLES else word
        role = arm if arm in ROLES else self.procedure.get(spec.model.digest, word)
        rest = {name: str(value) for name, value in first.variables.items() if name != "seed"}
        return Answers(
            role=role,
            title=self.recipe.arms.get(word) or ROLES.get(role, word),
            matched="tokens" if arm != word else "steps",
            data=first.data_word,
            group=", ".join(rest.values()),
            seed=first.variables.get("seed"),
            model=spec.model,
            completions=spec,
            graded={one.spec.by: tuple(_graded(row) for row in self.rows(one.spec)) for one in ones},
            word=word,
            variables=rest,
            arm=word in self.recipe.arms,
        )


def _graded(row: dict[str, Any]) -> Graded:
    return Graded(row["key"], row["sample"], row["verdict"], row["tokens"], row["truncated"], row.get("looped", False))


def _writer(learnt: Data | None) -> Spec | None:
    """The model that wrote what an arm learns; of a mixture none."""
    return learnt.completions.model if isinstance(learnt, Select | RejectionSampling) else None


def _assistant(long: Spec) -> dict[str, str]:
    """The assistant after fine-tuning, and before it."""
    before = {long.base.digest: "ta"} if isinstance(long, Train) else {}
    return before | {long.digest: "ta_long"}
