"""The models that a recipe asks and trains, as the linter looks at them: each once, with all its uses.

A model that is made has the tokenizer and the end tokens of another, which is looked at in its place: a trained one
those of its base, a merged or dialled one those of the first model that was merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from micota import checks as lint
from micota.errors import MicotaError
from micota.specs import Generate, LengthDial, Merge, Prompt, Source, Spec, Train
from micota.store.resolution import ENDPOINT, cached_tokenizer


def inspect(specs: Iterable[Generate | Train]) -> tuple[list[str], list[lint.Finding]]:
    """A line for each model, and the findings, errors first."""
    lines: list[str] = []
    found: list[lint.Finding] = []
    for source, trust, uses, asked in _models(specs):
        folder = None if source.ref.startswith(ENDPOINT) else cached_tokenizer(source)
        if folder is None:
            away = "it is behind a server" if source.ref.startswith(ENDPOINT) else "its tokenizer is not here yet"
            lines.append(f"{source.ref}: not looked at: {away}")
            continue
        subject = lint.read(source.ref, folder, trust)
        here = lint.look(subject, uses) + [one for pair in asked for one in lint.agree(subject, *pair)]
        lines.append(f"{source.ref}: {_said(here)}, as it is asked or trained in {len(uses)} ways")
        found += here
    return lines, sorted(dict.fromkeys(found), key=lambda one: one.severity)


def inspect_folder(folder: str) -> tuple[list[str], list[lint.Finding]]:
    """The same for a model folder alone."""
    if not (Path(folder) / "tokenizer_config.json").is_file():
        raise MicotaError(f"{folder} has no tokenizer_config.json", fix="give the folder that from_pretrained loads")
    found = lint.look(lint.read(folder, Path(folder)))
    return [f"{folder}: {_said(found)}"], found


def _said(found: list[lint.Finding]) -> str:
    return f"{len(found)} findings" if found else "template, end tokens and examples found right"


def _models(
    specs: Iterable[Generate | Train],
) -> Iterator[tuple[Source, bool, list[lint.Use], list[tuple[lint.Use, lint.Use]]]]:
    """Each source with whether its code is trusted, its uses, and the pairs of (training, asking) that must agree."""
    found: dict[str, tuple[Source, bool, list[lint.Use], list[tuple[lint.Use, lint.Use]]]] = {}
    for spec in specs:
        model = spec.model if isinstance(spec, Generate) else spec.base
        source = origin(model)
        if source is None:
            continue
        one = found.setdefault(source.digest, (source, spec.trust_remote_code, [], []))
        use = _use(spec)
        if use not in one[2]:
            one[2].append(use)
        one[3].extend((_use(train), use) for train in _trainings(model) if isinstance(spec, Generate))
    yield from found.values()


def _use(spec: Generate | Train) -> lint.Use:
    if isinstance(spec, Train):
        return lint.Use("training", Prompt(system=spec.system), cutoff=spec.cutoff)
    source = spec.problems.source
    return lint.Use(f"answers to {spec.problems.benchmark or source.ref}", spec.prompt, spec.sampling)


def origin(model: Spec) -> Source | None:
    """The source whose tokenizer a model has; None if that is yet to be made."""
    while isinstance(model, Train | Merge | LengthDial):
        model = model.base if isinstance(model, Train) else model.models[0]
    return model if isinstance(model, Source) else None


def _trainings(model: Spec) -> list[Train]:
    """The trainings that a model comes from, of its own and of what was merged into it."""
    if isinstance(model, Train):
        return [model]
    return [one for one in model.models if isinstance(one, Train)] if isinstance(model, Merge | LengthDial) else []
