"""What can be found wrong with a recipe before anything is made: columns, templates, weights."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable
from pathlib import Path

from micota.errors import MicotaError
from micota.specs import Dial, Generate, Problems, Source, Spec, Train, Verify, walk
from micota.stages import problems
from micota.store import Store


def check(targets: Iterable[Spec], store: Store | None = None) -> list[str]:
    """Check every spec that is not done; returns one line for each thing that was looked at, raises the first fault."""
    wanted = list(targets)
    looked = _probes(wanted)
    for spec in walk(*wanted):
        if store is not None and store.manifest(spec):
            continue
        if isinstance(spec, Problems):
            looked.append(_problems(spec))
        elif isinstance(spec, Generate) and spec.prompt.mode == "chat":
            looked += _template(spec.model, "generation")
        elif isinstance(spec, Train):
            looked += _template(spec.base, "training")
    return list(dict.fromkeys(looked))


def _probes(targets: list[Spec]) -> list[str]:
    """A dial tries its candidates on problems that no evaluation asks: a choice made on those would flatter itself."""
    asked = [spec.problems for spec in targets if isinstance(spec, Verify)]
    dials = [spec for spec in walk(*targets) if isinstance(spec, Dial)]
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
    with contextlib.closing(problems.read(spec)) as rows:
        first = next(rows, None)
    if first is None:
        raise MicotaError(f"{spec.source.ref} has no rows", fix="check the file and the split")
    return f"{spec.source.ref}: a problem reads {first['problem'][:60]!r}, its answer {str(first['answer'])[:20]!r}"


def _template(model: Spec, purpose: str) -> list[str]:
    """A local model has a chat template, which both generation and training use."""
    if not isinstance(model, Source) or model.path is None:
        return []
    folder = Path(model.path)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    if not (config.get("chat_template") or (folder / "chat_template.jinja").is_file()):
        raise MicotaError(
            f"the tokenizer of {model.ref} has no chat template",
            where=str(folder),
            why=f"{purpose} goes through the model's chat template",
            fix="add chat_template.jinja to the folder, or generate with `prompt: {mode: raw}`",
        )
    return [f"{model.ref}: chat template found"]
