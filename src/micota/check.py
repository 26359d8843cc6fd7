"""What can be found wrong with a recipe before anything is made: columns, templates, weights."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path

from micota.errors import MicotaError
from micota.specs import Generate, Problems, Source, Spec, Train, walk
from micota.stages import problems
from micota.store import Store


def check(targets: Iterable[Spec], store: Store | None = None) -> list[str]:
    """Check every spec that is not done; returns one line for each thing that was looked at, raises the first fault."""
    looked = []
    for spec in walk(*targets):
        if store is not None and store.manifest(spec):
            continue
        if isinstance(spec, Problems):
            looked.append(_problems(spec))
        elif isinstance(spec, Generate) and spec.prompt.mode == "chat":
            looked += _template(spec.model, "generation")
        elif isinstance(spec, Train):
            looked += _template(spec.base, "training")
    return list(dict.fromkeys(looked))


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
