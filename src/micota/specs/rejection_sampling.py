"""The rule of `until: verified`: another sample of the problems that have no verified answer yet, round after round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from micota.specs.spec import Choice, Spec

if TYPE_CHECKING:
    from micota.specs.kinds import Generate, RejectionSampling, Verify


def next_round(spec: RejectionSampling, results: Mapping[str, Mapping[str, Any]]) -> tuple[Spec, ...] | Choice:
    """The verdicts that are wanted next; once no problem is left, or the last round is done, what they keep."""
    left: list[int] = []
    graded: Verify | None = None
    for number in range(spec.at_most):
        graded = _round(spec, number, graded)
        if graded.digest not in results:
            return (graded,)
        facts = results[graded.digest]
        left.append(int(facts.get("unsolved", facts["rows"])))  # verdicts of an older version do not say
        if not left[-1]:
            break
    assert graded is not None
    from micota.specs.kinds import Select

    kept = Select(completions=graded.completions, verdicts=graded, duplicates=spec.duplicates)
    return Choice(kept, f"{len(left)} rounds, {left[-1]} problems without a verified answer", {"left": left})


def _round(spec: RejectionSampling, number: int, before: Verify | None) -> Verify:
    """The verdicts on all samples up to one number."""
    from micota.specs.kinds import Verify

    first: Generate = spec.completions
    fields = {name: getattr(first, name) for name in type(first).model_fields}
    answers = type(first)(**{**fields, "n": number + 1, "unless": before}) if before else first
    return Verify(problems=first.problems, completions=answers, by=spec.by, grader=spec.grader)
