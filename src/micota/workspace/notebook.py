"""What a run looks like in a notebook: one area below the cell, written anew; no widgets are needed."""

from __future__ import annotations

import html
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console

from micota.specs import Spec
from micota.workspace.progress import Bars, Running

LINES = 12  # newest lines that stay visible
EVERY_S = 0.5
BAR = '<progress value="{completed}" max="{total}" style="width: 12em"></progress> {count} {rate} {note}'


class NotebookBars(Bars):
    """The newest lines about stages, and a bar for each running one."""

    def __init__(self, console: Console, labels: Mapping[str, str]) -> None:
        super().__init__(console, labels)
        self._lines: deque[str] = deque(maxlen=LINES)
        self._done, self._drawn = 0, 0.0

    def __enter__(self) -> NotebookBars:
        from IPython.display import HTML, display

        self._html = HTML
        self._area = display(HTML("<p>micota looks at the store</p>"), display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draw()

    def line(self, word: str, color: str, spec: Spec, rest: str = "") -> None:
        """Write one line about a stage; that it has begun is seen from its bar."""
        if word == "begin":
            return
        self._done += word == "done"
        self._lines.append(f'<b style="color: {color}">{word}</b> {html.escape(f"{self.name(spec)} {rest}")}')
        self._draw()

    def tick(self) -> None:
        """Show how far the running stages are, twice in a second."""
        if time.monotonic() - self._drawn > EVERY_S:
            self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        lines = [*self._lines, *(f"{html.escape(self.name(one.spec))} {_bar(one)}" for one in self.running.values())]
        head = f"{self._done} stages made" if self._done or lines else "everything is there already"
        self._area.update(self._html(f"<p>{head}</p><pre>{chr(10).join(lines)}</pre>"))


def _bar(stage: Running) -> str:
    at = {name: html.escape(str(value)) for name, value in stage.progress().items()}
    return BAR.format(**at) if at else "..."


def bars(console: Console, labels: Mapping[str, str]) -> Bars:
    """The bars that fit where the output goes."""
    return (NotebookBars if console.is_jupyter else Bars)(console, labels)
