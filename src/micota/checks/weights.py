"""Mistakes of a model's files beside its tokenizer: weights, adapters, and generation settings that are not used."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from micota import pretrained
from micota.checks.finding import Finding
from micota.errors import MicotaError
from micota.merging.compatibility import ModelFolder
from micota.merging.model_files import GENERATION, read_object
from micota.specs import Source
from micota.store.resolution import cached_tokenizer

UNSAID = (
    *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version", "do_sample"),
    *("max_length", "max_new_tokens", "use_cache", "cache_implementation", "trust_remote_code", "_from_model_config"),
)
"""Keys of a generation config that are read, or that every engine sets by itself."""
NEUTRAL: tuple[object, ...] = (None, False, 0, 1, "", [], {})


def check(
    name: str, folder: Path, targets: Collection[str] = (), trust: bool = False, needed: bool = True
) -> tuple[list[str], list[Finding]]:
    """Lines to be shown, and findings: weights beside the architecture, adapters' `targets` beside its modules.

    Where weights are not `needed`, a folder may be without them.
    """
    lines: list[str] = []
    try:
        lines += _unused(folder)
        if needed or any(folder.glob("*.safetensors")):
            fit = pretrained.inspect(folder, trust)
            fit.refuse()
            lines += fit.remarks()
        else:
            lines.append("no weights are here: only what lies beside them was checked")
        pretrained.check_targets(folder, sorted(targets), trust)
    except MicotaError as error:
        what = error.what if error.where in (None, str(folder)) else f"{error.what} ({error.where})"
        return [], [Finding("weights", name, what, error.why or "", error.fix or "")]
    return [f"{name}: {line}" for line in lines], []


def _unused(folder: Path) -> Iterator[str]:
    """What the folder asks of a sampler: engines would differ in it, so only a recipe can ask for it."""
    settings = {key: value for key, value in read_object(folder / GENERATION).items() if key not in UNSAID}
    asked = ", ".join(f"{key} {value}" for key, value in settings.items() if value not in NEUTRAL)
    if asked:
        yield f"not used of its {GENERATION}: {asked[:200]} (a recipe can ask for it: `sampling: {{top_p: 0.8}}`)"


def lost_by_training(base: Source | None, trained: Iterable[Source]) -> Iterator[Finding]:
    """Tensors of a merge's base that models lose when they are trained, and that a merge cannot do without."""
    here = cached_tokenizer(base) if base else None
    for source in dict.fromkeys(trained):
        folder = cached_tokenizer(source)
        if not (here and folder and all(any(one.glob("*.safetensors")) for one in (here, folder))):
            continue
        with contextlib.suppress(MicotaError):  # which has a finding of its own
            ours = ModelFolder(here)
            lost = [name for name in pretrained.inspect(folder).extra if name in ours.entries]
            if lost := [name for name in lost if not ours.is_extra(name)]:
                why = "transformers does not load it, so a training does not write it, and the merge would refuse that"
                fix = "take these tensors out of the base, if nothing needs them"
                yield Finding("merge", source.ref, f"no training keeps {pretrained.shortened(lost)}", why, fix)
