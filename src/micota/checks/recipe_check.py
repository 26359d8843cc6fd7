"""What can be found wrong with a recipe before anything is made: columns, templates, weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable

from micota import checks as lint
from micota.checks import recipe_models as models
from micota.data import problem_sets
from micota.errors import MicotaError
from micota.specs import Generate, LengthDial, Problems, Spec, Train, Verify, walk
from micota.store.artifacts import Store


def check(targets: Iterable[Spec], store: Store | None = None) -> list[str]:
    """One line for each thing that was looked at, warnings last; raises the first fault. What is done is left out."""
    looked, found = inspect(targets, store)
    lint.raise_first(found)
    return looked + [str(one) for one in found]


def inspect(targets: Iterable[Spec], store: Store | None = None) -> tuple[list[str], list[lint.Finding]]:
    """What was looked at, and what the linter has to say of the models; raises what is wrong with the data."""
    wanted = list(targets)
    looked = _probes(wanted)
    due = [spec for spec in walk(*wanted) if store is None or not store.manifest(spec)]
    looked += [_problems(spec) for spec in due if isinstance(spec, Problems)]
    lines, found = models.inspect([spec for spec in due if isinstance(spec, Generate | Train)])
    return list(dict.fromkeys(looked + lines)), found


def _probes(targets: list[Spec]) -> list[str]:
    """A dial tries its candidates on problems that no evaluation asks: a choice made on those would flatter itself."""
    asked = [spec.problems for spec in targets if isinstance(spec, Verify)]
    dials = [spec for spec in walk(*targets) if isinstance(spec, LengthDial)]
    for dial in dials:
        probe = dial.probe.problems
        for other in asked:
            if _shares_rows(probe, other):
                raise MicotaError(
                    f"a dial's probe problems are evaluated too: {probe.source.ref}, split {probe.split}",
                    why="weights that were chosen on the evaluation's problems would flatter the result",
                    fix="give `probe` problems of another split, or other rows of it with skip and n",
                )
    return [f"{len(dials)} dials: their probe problems are not those of the evaluation"] if dials and asked else []


def _shares_rows(one: Problems, two: Problems) -> bool:
    """Whether two problem sets take some of the same rows of the same source."""
    places = [(p.source.digest, p.config, p.split, p.seed) for p in (one, two)]
    ends = [math.inf if p.n is None else p.skip + p.n for p in (one, two)]
    return places[0] == places[1] and one.skip < ends[1] and two.skip < ends[0]


def _problems(spec: Problems) -> str:
    """A local problem set has the named columns and at least one row; one of the Hub is read when it is needed."""
    if spec.source.path is None and not spec.source.ref.startswith("lab:"):
        return f"{spec.source.ref}: columns '{spec.problem}' and '{spec.answer}' are looked at when it is read"
    with contextlib.closing(problem_sets.read(spec)) as rows:
        first = next(rows, None)
    if first is None:
        raise MicotaError(f"{spec.source.ref} has no rows", fix="check the file and the split")
    return f"{spec.source.ref}: a problem reads {first['problem'][:60]!r}, its answer {str(first['answer'])[:20]!r}"
