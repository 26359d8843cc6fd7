"""What the linter says: which model, what is wrong, the two strings that show it, why it matters, what to change."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from micota.errors import MicotaError

AROUND = 60  # characters shown on either side of a difference


@dataclass(frozen=True)
class Finding:
    """One fault. An error stops a run before anything is made; a warning is shown."""

    check: str
    """The rule's short name, such as `end` or `system`."""
    model: str
    what: str
    why: str
    fix: str
    shown: tuple[tuple[str, str], ...] = ()
    """(label, text): what is there, and what should be."""
    severity: Literal["error", "warning"] = "error"

    @property
    def head(self) -> str:
        """The first lines: the fault and the strings that show it."""
        width = max((len(label) for label, _ in self.shown), default=0)
        return "\n".join(
            [f"{self.model}: {self.what}", *(f"  {label:<{width}}  «{visible(text)}»" for label, text in self.shown)]
        )

    def error(self) -> MicotaError:
        return MicotaError(self.head, why=self.why, fix=self.fix)

    def __str__(self) -> str:
        return f"{self.severity}: {self.error()}"


def errors(findings: Iterable[Finding]) -> list[Finding]:
    return [one for one in findings if one.severity == "error"]


def raise_first(findings: Iterable[Finding]) -> None:
    """Raise the first error as a MicotaError, if there is one."""
    for one in errors(findings):
        raise one.error()


def visible(text: str) -> str:
    """The text on one line."""
    return text.replace("\\n", "\\\\n").replace("\n", "\\n").replace("\t", "\\t")


def difference(one: str, two: str) -> tuple[str, str]:
    """The two texts around the place where they first differ."""
    shorter = min(len(one), len(two))
    at = next((i for i in range(shorter) if one[i] != two[i]), shorter)
    return _window(one, at), _window(two, at)


def beginning(text: str) -> str:
    return text if len(text) <= 2 * AROUND else text[: 2 * AROUND] + "…"


def ending(text: str) -> str:
    return text if len(text) <= 2 * AROUND else "…" + text[-2 * AROUND :]


def _window(text: str, at: int) -> str:
    low, high = max(0, at - AROUND), at + AROUND
    return ("…" if low else "") + text[low:high] + ("…" if high < len(text) else "")
