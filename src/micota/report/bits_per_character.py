"""Table 4: bits per character of each data set under each model, that is how foreign its responses are to it."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from micota.recipe.labels import learnt_from
from micota.report import paper
from micota.report.cells import Row, count, number
from micota.report.graded_answers import ROLES, TOKENS, GradedAnswers
from micota.report.page import Cell, Table
from micota.specs import Bpc
from micota.stats import Sums, mean, sd

FORM = ".3f"
HEAD = ("Data", "Model", "Bits", "sd over seeds", "Seeds", "Nats", "Bits per byte", "Bits, mean of rows")
_VARIABLE = re.compile(r"(\w+)=(.*?)(?=,\w+=|$)", re.S)


@dataclass(frozen=True)
class Measure:
    """One measure of the recipe: a data set, in the role of the arm that learns it, under a model."""

    data: str
    role: str
    model: str
    variables: Mapping[str, str]
    seed: str | None
    spec: Bpc
    facts: Mapping[str, Any]

    @property
    def title(self) -> str:
        """The role that the data set teaches, with the recipe's word for it."""
        return f"{ROLES[self.role]}: {self.data}" if self.role in ROLES else self.data

    @property
    def sums(self) -> tuple[float, float, float]:
        """Nats, characters, bytes of all its responses."""
        characters = self.facts["characters"]
        nats = characters * self.facts["nats_per_character"]
        bits_per_byte = self.facts["bits_per_byte"]
        return nats, characters, nats / math.log(2) / bits_per_byte if bits_per_byte else math.nan


def measures(results: GradedAnswers) -> list[Measure]:
    """Every measure that the recipe asks for; `facts` are empty where it is missing."""
    roles = taught(results)
    found = []
    for name, spec in results.recipe.measures.items():
        data, model = _split(name.removeprefix("bpc:"), results.recipe.names)
        (word, one), (under, two) = _variables(data), _variables(model)
        variables = {**two, **one}
        seed = variables.pop("seed", None)
        role, facts = roles.get(spec.data.digest, word), results.facts(spec)
        found.append(Measure(_shown(word, one), role, _shown(under, two), variables, seed, spec, facts))
    return found


def taught(results: GradedAnswers) -> dict[str, str]:
    """The role of each data set by its digest: that of the arm that learns from it."""
    roles: dict[str, str] = {}
    for label, spec in results.recipe.names.items():
        arm = label.partition("[")[0].removesuffix(TOKENS)
        if arm in ROLES and (learnt := learnt_from(spec)):
            roles.setdefault(learnt.digest, arm)
    return roles


def tables(results: GradedAnswers) -> tuple[Table, ...]:
    """Table 4 in bits per character, and the same in other units."""
    found = measures(results)
    if not found:
        return ()
    models = list(dict.fromkeys(one.model for one in found))
    cells = _cells(found)
    rows = []
    for data in dict.fromkeys(data for data, _ in cells):
        role = next(one.role for one in found if one.title == data)
        bits = [_bits(cells[data, model]) if (data, model) in cells else Cell("") for model in models]
        rows.append((Cell(data), *bits, Cell(paper.bits(role))))
    caption = (
        "Sum of the nats of the responses, given their prompts, over the sum of their characters (code points), in "
        "bits; several seeds are summed together. Lower is nearer to what the model would write itself; lowest is "
        "not best to learn from. The paper's row stands beside, under its own models of these sizes."
    )
    head = ("Data", *models, f"Paper: {' / '.join(paper.SIZES.values())}")
    first = Table("table4", "Table 4: bits per character", head, tuple(rows), caption)
    return first, _units(cells)


def sums_by_problem(results: GradedAnswers, found: list[Measure]) -> Sums:
    """(bits, characters) of each problem, over all of its responses; {} where the rows are missing."""
    sums: defaultdict[str, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for one in found:
        for row in results.rows(one.spec):
            bits, characters = sums[row["key"]]
            sums[row["key"]] = (bits + row["nats"] / math.log(2), characters + row["characters"])
    return dict(sums)


def bits_per_character(found: list[Measure]) -> float:
    """Of all responses of several measures together; nan where there are none."""
    there = [one.sums for one in found if one.facts]
    characters = sum(size for _, size, _ in there)
    return sum(nats for nats, _, _ in there) / characters / math.log(2) if characters else math.nan


def _units(cells: Mapping[tuple[str, str], list[Measure]]) -> Table:
    rows = []
    for (data, model), found in cells.items():
        there = [one for one in found if one.facts]
        several = sd([bits_per_character([one]) for one in there])
        seeds = str(len(there)) if len(there) == len(found) else f"{len(there)} of {len(found)}"
        nats = sum(one.sums[0] for one in there) / math.log(2)
        size = sum(one.sums[2] for one in there)
        row: Row = (
            *(Cell(data), Cell(model), _bits(found), number(several, ".4f"), Cell(seeds)),
            number(bits_per_character(found) * math.log(2), FORM),
            number(nats / size if size else math.nan, FORM),
            number(_mean_of_rows(there), FORM),
            count(sum(one.facts["rows"] for one in there) if there else None),
            count(sum(one.facts["characters"] for one in there) if there else None),
        )
        rows.append(row)
    head = (*HEAD, "Responses", "Characters")
    caption = "Per character, but for bits per byte of UTF-8. The mean of rows counts each response once."
    return Table("table4b", "Bits per character in other units", head, tuple(rows), caption, words=2)


def _mean_of_rows(there: list[Measure]) -> float:
    name = "bits_per_character_mean_of_rows"
    rows = sum(one.facts["rows"] for one in there)
    return sum(one.facts["rows"] * one.facts[name] for one in there) / rows if rows else mean([])


def _bits(found: list[Measure]) -> Cell:
    return number(bits_per_character(found), FORM)


def _cells(found: list[Measure]) -> dict[tuple[str, str], list[Measure]]:
    """The measures of each data set under each model, all seeds together."""
    cells: defaultdict[tuple[str, str], list[Measure]] = defaultdict(list)
    for one in found:
        cells[one.title, one.model].append(one)
    return dict(cells)


def _split(name: str, labels: Mapping[str, Any]) -> tuple[str, str]:
    """The labels of the data set and of the model in `DATA@MODEL`; either may hold an @ of its own."""
    fit = [label for label in labels if name.startswith(f"{label}@")]
    data = max(fit, key=len) if fit else name.partition("@")[0]
    return data, name[len(data) + 1 :]


def _shown(word: str, variables: Mapping[str, str]) -> str:
    """The word with the variables that make separate rows: all but the seed."""
    values = [value for name, value in variables.items() if name != "seed"]
    return f"{word} ({', '.join(values)})" if values else word


def _variables(label: str) -> tuple[str, dict[str, str]]:
    """`half-cot[student=A,seed=0]` as the word and its variables."""
    word, inside, rest = label.partition("[")
    return word, dict(_VARIABLE.findall(rest.removesuffix("]"))) if inside else {}
