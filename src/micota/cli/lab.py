"""`micota lab pretrain`: make the lab's models from nothing, with a bar for each."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

from micota.errors import MicotaError, suggestion
from micota.lab.designs import DESIGNS, GOES_ON, SHIPPED, design, rest
from micota.specs import Pretrain, Source
from micota.store.resolution import content_hash
from micota.training.pretraining import Report, pretrain


def _show(bars: Progress, row: TaskID, name: str, done: int, total: int, note: str) -> None:
    bars.update(row, completed=done, total=total, description=f"{name} {note}")


def pretrain_all(console: Console, out: Path, only: str | None, seed: int) -> None:
    """Pre-train one design, or those of the shipped models, into folders below `out`."""
    if only is not None and only not in DESIGNS:
        raise MicotaError(f"the lab has no model '{only}'", fix=suggestion(only, DESIGNS))
    for name in [only] if only else SHIPPED:
        with Progress(console=console) as bars:
            row = bars.add_task(name, total=None)
            make(_wanted(out, name, seed), out / name, partial(_show, bars, row, name))
        console.print(f"{name}: {out / name}")


def _wanted(out: Path, name: str, seed: int) -> Pretrain:
    """A design; one that goes on from a model that lies finished in `out` does so, with the same bits."""
    begun = out / GOES_ON.get(name, "")
    if name not in GOES_ON or not finished(begun):
        return design(name, seed=seed)
    source = Source(ref=str(begun), revision=content_hash(begun), path=str(begun))
    return rest(name, source, seed)


def finished(out: Path) -> bool:
    return (out / "model.safetensors").exists() and not (out / "checkpoint.pt").exists()


def make(spec: Pretrain, out: Path, report: Report | None = None, every: int = 100) -> None:
    """Make the model in the folder `out`, or go on with it; a finished folder is left alone.

    The checkpoint is written beside the model's files and removed at the end.
    """
    checkpoint = out / "checkpoint.pt"
    if finished(out):
        return
    out.mkdir(parents=True, exist_ok=True)
    base = Path(spec.base.path) if isinstance(spec.base, Source) and spec.base.path else None
    pretrain(spec, out, checkpoint, base, report=report, every=every)
    checkpoint.unlink()
