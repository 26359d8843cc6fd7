"""Table 4: bits per character of each data set under each model, that is how unusual its responses are to it."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from micota.report import paper
from micota.report.cells import Row, number, table
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import heading
from micota.report.page import Table
from micota.report.roles import role_of, taught, title_of
from micota.specs import Bpc
from micota.stats import Sums

_VARIABLE = re.compile(r"(\w+)=(.*?)(?=,\w+=|$)", re.S)


@dataclass(frozen=True)
class Measure:
    """One measure of the recipe: a data set, with the title and the role of the arm that learns it, under a model."""

    title: str
    role: str
    model: str
    variables: Mapping[str, str]
    seed: str | None
    spec: Bpc
    facts: Mapping[str, Any]


def measures(results: GradedAnswers) -> list[Measure]:
    """Every measure that the recipe asks for; `facts` are empty where it is missing."""
    recipe, arms = results.recipe, taught(results.recipe)
    every = []
    for name, spec in results.recipe.measures.items():
        data, model = _split(name.removeprefix("bpc:"), results.recipe.names)
        (word, data_variables), (under, model_variables) = _variables(data), _variables(model)
        variables = {**model_variables, **data_variables}
        seed = variables.pop("seed", None)
        arm, facts, data = arms.get(spec.data.digest), results.facts(spec), _varied(word, data_variables)
        title = f"{title_of(recipe, arm)}: {data}" if arm else data
        role = role_of(recipe, arm or "")
        every.append(Measure(title, role, _varied(under, model_variables), variables, seed, spec, facts))
    return every


def bits(results: GradedAnswers) -> tuple[Table, ...]:
    """Table 4: a row for each data set, a column for each model; several seeds are summed together."""
    every = measures(results)
    under = {measure.model: measure.spec.model for measure in every}
    rows = []
    for title, role in {measure.title: measure.role for measure in reversed(every)}.items():
        cells: dict[str, object] = {"Data": title}
        for model in under:
            inside = [measure for measure in every if (measure.title, measure.model) == (title, model)]
            cells[model] = number(bits_per_character(inside), ".3f") if inside else ""
        rows.append(Row({**cells, "Paper": paper.bits(role, [*under.values()])}))
    return table("table4" if results.recipe.roles else "bits", reversed(rows))


def learnability(results: GradedAnswers) -> tuple[Table, ...]:
    """A row for each data set under each model of which more than bits per character was measured."""
    heads = {"Rank-surprisal ratio": "rank_surprisal_ratio", "Local log-probability": "local_log_probability"}
    heads |= {"Beyond the context": "beyond_context"}
    rows = []
    for measure in measures(results):
        if measure.facts.keys() & {*heads.values()}:
            seed = f" (seed {measure.seed})" if measure.seed else ""
            values = {head: number(measure.facts.get(fact, math.nan), ".3f") for head, fact in heads.items()}
            rows.append(Row({"Data": measure.title + seed, "Model": measure.model, **values}))
    return table("learnability", rows, words=2)


def sums_by_problem(results: GradedAnswers, selected: list[Measure]) -> Sums:
    """(bits, characters) of each problem, over all of its responses; {} where the rows are missing."""
    sums: defaultdict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for measure in selected:
        for row in results.rows(measure.spec):
            total, characters = sums[row["key"]]
            sums[row["key"]] = (total + row["nats"] / math.log(2), characters + row["characters"])
    return dict(sums)


def bits_per_character(selected: list[Measure]) -> float:
    """Of all responses of several measures together; nan where there are none."""
    facts = [measure.facts for measure in selected if measure.facts]
    characters = sum(measure["characters"] for measure in facts)
    nats = sum(measure["characters"] * measure["nats_per_character"] for measure in facts)
    return nats / characters / math.log(2) if characters else math.nan


def _split(name: str, labels: Mapping[str, Any]) -> tuple[str, str]:
    """The labels of the data set and of the model in `DATA@MODEL`; either may hold an @ of its own."""
    fitting = [label for label in labels if name.startswith(f"{label}@")]
    data = max(fitting, key=len) if fitting else name.partition("@")[0]
    return data, name[len(data) + 1 :]


def _varied(word: str, variables: Mapping[str, str]) -> str:
    """The word with the variables that make separate rows: all but the seed."""
    values = heading({name: value for name, value in variables.items() if name != "seed"})
    return f"{word} ({values})" if values else word


def _variables(label: str) -> tuple[str, dict[str, str]]:
    """`half-cot[student=A,seed=0]` as the word and its variables."""
    word, inside, rest = label.partition("[")
    return word, dict(_VARIABLE.findall(rest.removesuffix("]"))) if inside else {}
