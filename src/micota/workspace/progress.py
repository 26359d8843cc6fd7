"""What a run looks like on the terminal: a bar for each running stage, a line for each finished one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from micota.specs import Spec


class Bars:
    """Shows stages by their names in the recipe. Where the output is no terminal, lines only."""

    def __init__(self, console: Console, labels: Mapping[str, str]) -> None:
        self._console, self._labels = console, labels
        self._rows: dict[str, tuple[TaskID, Path]] = {}
        self._said: set[str] = set()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[note]}"),
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
        row = self._progress.add_task(self._name(spec), total=None, count="", rate="", note="")
        self._rows[spec.digest] = (row, work / "progress.json")
        if not self._console.is_terminal:
            self._console.print(f"  begin  {self._name(spec)}", highlight=False)

    def finished(self, spec: Spec, seconds: float, facts: Mapping[str, Any]) -> None:
        self._drop(spec)
        shown = ", ".join(f"{k} {_short(v)}" for k, v in facts.items() if isinstance(v, int | float))
        self._console.print(f"[green]  done[/]   {self._name(spec)} [dim]({seconds:.1f} s) {shown}[/]", highlight=False)

    def failed(self, spec: Spec, message: str) -> None:
        self._drop(spec)
        self._console.print(f"[red]  failed[/] {self._name(spec)}", highlight=False)

    def waiting(self, spec: Spec, whom: str) -> None:
        if spec.digest not in self._said:
            self._said.add(spec.digest)
            self._console.print(f"[yellow]  wait[/]   {self._name(spec)}: {whom} is making it", highlight=False)

    def tick(self) -> None:
        for row, path in self._rows.values():
            try:
                at = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            count = f"{_short(at['done'])}/{_short(at['total'])} {at['unit']}"
            task = next(task for task in self._progress.tasks if task.id == row)
            rate = f"{at['done'] / task.elapsed:.1f}/s" if task.elapsed and at["done"] else ""
            self._progress.update(row, completed=at["done"], total=at["total"], count=count, rate=rate, note=at["note"])

    def _drop(self, spec: Spec) -> None:
        if spec.digest in self._rows:
            self._progress.remove_task(self._rows.pop(spec.digest)[0])

    def _name(self, spec: Spec) -> str:
        return escape(f"{spec.kind:9}{self._labels.get(spec.digest, spec.digest)}")


def _short(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or float(value).is_integer() else f"{value:.3g}"
