"""Mistakes of a model's files beside its tokenizer: weights, adapters, and generation settings that are not used."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from micota import pretrained
from micota.checks.finding import Finding
from micota.errors import MicotaError
from micota.merging.model_files import GENERATION, read_object

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
