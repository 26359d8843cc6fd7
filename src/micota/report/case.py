"""Figure 4: one problem answered by the half-size student and the MiCoTA student, side by side.

The problem is chosen by a rule, and the caption says how often the rule would hold the other way round.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from micota.report.graded_answers import Answers, Graded, GradedAnswers
from micota.report.model_rows import models, scorers
from micota.report.page import Case, Response
from micota.report.reflection import places

RIVALS = ("half", "strong")  # the paper's is the first; a recipe without it shows the second
MAKES = "`micota run` makes what is missing."


def case(results: GradedAnswers) -> Case | str | None:
    """The case, a line that says why there is none, or None where a recipe has nothing to compare."""
    pairs = list(_pairs(results))
    if not pairs:
        return None
    for rival, ours in pairs:
        if all(one.done and results.manifest(one.completions) for one in (rival, ours)):
            return _case(results, rival, ours)
    return (
        f"The case study is left out: the answers of {pairs[0][0].title} and {pairs[0][1].title} are missing. {MAKES}"
    )


def _pairs(results: GradedAnswers) -> Iterator[tuple[Answers, Answers]]:
    """Answers of the rival and of MiCoTA to the same problems, in the recipe's order."""
    arms = [one for model in models(results) if model.matched == "steps" for one in model.answers]
    role = next((role for role in RIVALS if any(one.role == role for one in arms)), None)
    for ours in (one for one in arms if one.role == "micota"):
        for rival in (one for one in arms if one.role == role):
            same = (rival.data, rival.group, rival.seed) == (ours.data, ours.group, ours.seed)
            if same and rival.graded.keys() & ours.graded.keys():
                yield rival, ours


def _case(results: GradedAnswers, rival: Answers, ours: Answers) -> Case:
    by = next(by for by in (*scorers(results), *ours.graded) if by in ours.graded and by in rival.graded)
    theirs, own = _first(rival, by), _first(ours, by)
    keys = sorted(theirs.keys() & own.keys())
    won = [key for key in keys if own[key].correct and not theirs[key].correct]
    lost = [key for key in keys if theirs[key].correct and not own[key].correct]
    key = (won or keys)[0]
    problem, gold = _problem(results, ours, key)
    rule = "which comes first by the hash of its text"
    if won:
        rule = f"the first, by the hash of its text, that {ours.title} answers correctly and {rival.title} does not"
    where = ", ".join(f"{word} {value}" for word, value in _where(ours))
    caption = (
        f"Chosen by rule: {rule}. Of {len(keys):,} problems there are {len(won):,} such, and {len(lost):,} the other "
        f"way round. {where}; verdicts by {by.replace('_', ' ')}; reflection words are marked."
    )
    sides = tuple(_response(results, one, found[key]) for one, found in ((rival, theirs), (ours, own)))
    return Case("figure4", "Figure 4: one problem, two students", problem, gold, sides, caption)


def _where(one: Answers) -> list[tuple[str, str]]:
    found = [("Problem set", one.data)]
    found += [("student", one.group)] if one.group else []
    return found + ([("seed", str(one.seed))] if one.seed is not None else [])


def _first(one: Answers, by: str) -> dict[str, Graded]:
    """The verdict on the first sample of each problem."""
    found: dict[str, Graded] = {}
    for row in one.graded[by]:
        if row.key not in found or row.sample < found[row.key].sample:
            found[row.key] = row
    return found


def _problem(results: GradedAnswers, one: Answers, key: str) -> tuple[str, str]:
    row = next((row for row in results.rows(one.completions.problems) if row["key"] == key), None)
    if row is None:
        return "(the problem's text was removed from the store)", "–"
    gold = row["answer"]
    return str(row["problem"]), gold if isinstance(gold, str) else json.dumps(gold)


def _response(results: GradedAnswers, one: Answers, graded: Graded) -> Response:
    manifest = results.manifest(one.completions)
    assert manifest is not None
    pool, key = results.store.pool(manifest.pools[0]), (graded.key, graded.sample)
    text = next(pool.read([key])).text if key in pool else "(the response was removed from its pool)"
    return Response(one.title, graded.verdict.replace("_", " "), graded.tokens, text, places(text))
