"""A finding of the checks: which model, what is wrong, strings that show it, why it matters, what to change.

`messages.yaml` has the words of all findings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from micota import yaml_tree
from micota.errors import MicotaError

CONTEXT = 60  # characters shown on either side of a difference
Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One mistake. An error stops a run before anything is made; a warning is shown."""

    rule: str
    """The rule's short name, such as `end` or `system`."""
    model: str
    what: str
    why: str
    fix: str
    evidence: tuple[tuple[str, str], ...] = ()
    """(label, text): what is there, and what should be."""
    severity: Severity = "error"

    def error(self) -> MicotaError:
        """The finding as an exception, with the strings that show it."""
        width = max((len(label) for label, _ in self.evidence), default=0)
        lines = [f"  {label:<{width}}  «{visible(text)}»" for label, text in self.evidence]
        return MicotaError("\n".join([f"{self.model}: {self.what}", *lines]), why=self.why, fix=self.fix)

    def __str__(self) -> str:
        return f"{self.severity}: {self.error()}"


@cache
def messages() -> dict[str, dict[str, str]]:
    """The words of each finding: `rule` (else its own name), `what`, `why`, `fix`, and `severity` (else error)."""
    path = Path(__file__).with_name("messages.yaml")
    words: dict[str, dict[str, str]] = yaml_tree.read(path.read_text(encoding="utf-8"), path.name).value
    return words


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that stop a run."""
    return [finding for finding in findings if finding.severity == "error"]


def raise_first(findings: Iterable[Finding]) -> None:
    """Raise the first error as a MicotaError, if there is one."""
    for finding in errors(findings):
        raise finding.error()


def distinct(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once, errors first."""
    unique = {(finding.rule, finding.model, finding.what): finding for finding in findings}
    return sorted(unique.values(), key=lambda finding: finding.severity)


def visible(text: str) -> str:
    """The text on one line, with its line ends and tabs spelled out."""
    return text.replace("\\n", "\\\\n").replace("\n", "\\n").replace("\t", "\\t")


def difference(first: str, second: str) -> tuple[str, str]:
    """Two texts around the place where they first differ."""
    shorter = min(len(first), len(second))
    at = next((i for i in range(shorter) if first[i] != second[i]), shorter)
    return _window(first, at), _window(second, at)


def beginning(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= 2 * CONTEXT else text[: 2 * CONTEXT] + "…"


def ending(text: str) -> str:
    """The end of a long text."""
    return text if len(text) <= 2 * CONTEXT else "…" + text[-2 * CONTEXT :]


def _window(text: str, at: int) -> str:
    low, high = max(0, at - CONTEXT), at + CONTEXT
    return ("…" if low else "") + text[low:high] + ("…" if high < len(text) else "")
