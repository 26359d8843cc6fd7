"""What a run looks like on the terminal: a bar for each running stage, a line for each finished one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from micota.specs import Spec
from micota.store.task import reached

TEXTS = ("count", "rate", "note")


@dataclass
class Running:
    """A running stage: its spec, the file that says how far it is, and its row of the bars."""

    spec: Spec
    file: Path
    row: TaskID | None = None

    def progress(self) -> dict[str, Any]:
        """`completed` of `total`, `count` and `rate` as texts, and a `note`; {} as long as nothing is reported."""
        at = reached(self.file.parent)
        if at is None:
            return {}
        return {
            "completed": at.done,
            "total": at.total,
            "count": f"{_short(at.done)}/{_short(at.total)} {at.unit}",
            "rate": f"{at.rate:.1f}/s" if at.rate else "",
            "note": at.note,
        }


class Bars:
    """Shows stages by their names in the recipe. Where the output is no terminal, lines only."""

    def __init__(self, console: Console, labels: Mapping[str, str]) -> None:
        self._console, self._labels = console, labels
        self.running: dict[str, Running] = {}
        self._waiting: set[str] = set()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            *(TextColumn(f"{{task.fields[{name}]}}") for name in TEXTS),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    @property
    def live(self) -> bool:
        """Whether bars are shown: on a terminal."""
        return self._console.is_terminal

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def started(self, spec: Spec, work: Path) -> None:
        """A stage has begun; its work folder has the file that says how far it is."""
        row = self._progress.add_task(escape(self.name(spec)), total=None, count="", rate="", note="")
        self.running[spec.digest] = Running(spec, work / "progress.json", row)
        if not self.live:
            self.line("begin", "default", spec)

    def finished(self, spec: Spec, seconds: float, facts: Mapping[str, Any]) -> None:
        """A stage is done, with the facts of its artifact."""
        self._drop(spec)
        numbers = ", ".join(f"{k} {_short(v)}" for k, v in facts.items() if isinstance(v, int | float))
        self.line("done", "green", spec, f"({seconds:.1f} s) {numbers}")

    def failed(self, spec: Spec, message: str) -> None:
        """A stage has failed; the message is shown when the run ends."""
        self._drop(spec)
        self.line("failed", "red", spec)

    def waiting(self, spec: Spec, whom: str) -> None:
        """Another run makes a spec; said once."""
        if spec.digest not in self._waiting:
            self._waiting.add(spec.digest)
            self.line("wait", "yellow", spec, f"({whom} is making it)")

    def lost(self, spec: Spec, message: str) -> None:
        """Another run has taken a stage over."""
        self._drop(spec)
        self.line("lost", "yellow", spec, f"(paused or cut off for too long: {message})")

    def tick(self) -> None:
        """Show how far the running stages are."""
        for stage in self.running.values():
            if stage.row is not None and (at := stage.progress()):
                self._progress.update(stage.row, **at)

    def line(self, word: str, color: str, spec: Spec, rest: str = "") -> None:
        """Write one line about a stage."""
        text = f"[{color}]  {word:6}[/] {escape(self.name(spec))}" + (f" [dim]{escape(rest)}[/]" if rest else "")
        self._console.print(text, highlight=False, soft_wrap=not self.live)

    def name(self, spec: Spec) -> str:
        """Its kind, and what the recipe calls it."""
        return f"{spec.kind:9}{self._labels.get(spec.digest, spec.digest)}"

    def _drop(self, spec: Spec) -> None:
        stage = self.running.pop(spec.digest, None)
        if stage is not None and stage.row is not None:
            self._progress.remove_task(stage.row)


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or float(value).is_integer() else f"{value:.3g}"
