"""What a recipe contains, once it is understood: names, evaluations, measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from micota.errors import MicotaError, suggestion
from micota.specs import Bpc, Model, Problems, Source, Spec, Verify
from micota.store.resolution import Lock

SCORERS = ("semantic", "exact_match")
LONGEST = 200  # bytes of a name: with what is put before it and behind it, it is the name of a file


@dataclass(frozen=True)
class Evaluation:
    """One cell of the tables: a model, in its role, on one problem set, under one scorer.

    `role` and `data_word` are the recipe's words; `model` and `data` the same with the variables they depend on.
    """

    role: str
    model: str
    data_word: str
    data: str
    variables: Mapping[str, Any]
    spec: Verify

    @property
    def problems(self) -> Problems:
        """The problem set."""
        assert isinstance(self.spec.problems, Problems)
        return self.spec.problems


@dataclass
class Contents:
    """A recipe understood.

    `names` has every label with its spec; labels carry the variables that they depend on. `titles` has the words of the
    arms with the names that are printed for them, "" for that of the role; `roles` the arms that are the paper's, with
    their roles; `baseline` the word of the model that the others are compared with; `lock` the commits of Hub ids.
    """

    name: str
    names: dict[str, Spec]
    evaluations: list[Evaluation]
    measures: dict[str, Bpc]
    titles: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)
    baseline: str = ""
    lock: Lock | None = None

    @property
    def arms(self) -> dict[str, Model]:
        """The arms by their labels: the words, with the variables that they depend on."""
        return {label: spec for label, spec in self.names.items() if self.is_arm(label) and isinstance(spec, Model)}

    def is_arm(self, label: str) -> bool:
        """Whether a label is that of an arm, alone or with the variables that it depends on."""
        return label in self.titles or label.partition("[")[0] in self.titles

    @property
    def targets(self) -> list[Spec]:
        """What a run is for: evaluations and measures; of a recipe without them, all its names."""
        wanted: list[Spec] = [*(one.spec for one in self.evaluations), *self.measures.values()]
        return wanted or [spec for spec in self.names.values() if not isinstance(spec, Source)]

    def named(self, name: str) -> Spec:
        """The spec of a label, of an evaluation (MODEL@DATA), or of a measure (bpc:DATA@MODEL)."""
        cells: dict[str, Spec] = {f"{e.model}@{e.data}": e.spec for e in reversed(self.evaluations)}
        labels = {**self.names, **cells, **self.measures}
        if name not in labels:
            raise MicotaError(f"the recipe '{self.name}' has no '{name}'", fix=suggestion(name, labels))
        return labels[name]

    def __repr__(self) -> str:
        arms = ", ".join(self.arms) or "no arms"
        return f"<Recipe {self.name}: {arms}; {len(self.names)} names, {len(self.evaluations)} evaluations>"


def check_evaluations(evaluations: Iterable[Evaluation]) -> None:
    """Refuse what a table would mix: one model on one problem set asked in two ways, or one word for two sets."""
    cells: dict[tuple[str, str, str], str] = {}
    sets: dict[str, str] = {}
    for one in evaluations:
        if sets.setdefault(one.data, one.spec.problems.digest) != one.spec.problems.digest:
            fix = "give one of them another name"
            raise MicotaError(f"two problem sets are called '{one.data}'", where="evaluate", fix=fix)
        if cells.setdefault((one.model, one.data, one.spec.by), one.spec.digest) != one.spec.digest:
            fix = "give the model or the problem set a second name for the second way"
            what = f"'{one.model}' is evaluated on '{one.data}' in two ways"
            raise MicotaError(what, where="evaluate", why="a table would mix them", fix=fix)


def graders(section: Mapping[str, Any], problems: Problems) -> list[Any]:
    """The graders of problems in a section `evaluate`: those of `by`, one or several, else `choice` for problems with
    options and both scorers for others; none is a MicotaError."""
    by = section.get("by", "choice" if problems.choices else SCORERS)
    several = list(by) if isinstance(by, list | tuple) else [by]
    if not several:
        raise MicotaError("evaluate names no grader", where="evaluate: by", fix="leave `by` out for both scorers")
    return several


def check_names(names: Iterable[Any]) -> None:
    """Refuse a name that does not do for a table, a link and a file, and two that would be one link."""
    links: dict[str, str] = {}
    for name in names:
        if not _printable(name) or name.startswith(".") or len((link := name.replace("/", "--")).encode()) > LONGEST:
            fix = f"give a printable text of 1 to {LONGEST} bytes without a dot before it"
            raise NameRefused(f"{name!r:.80} is no name", name, fix)
        if (other := links.setdefault(link, name)) != name:
            raise NameRefused(f"'{other}' and '{name}' are one file name", name, "rename one of the two")


class NameRefused(MicotaError):
    """A name that cannot be used; `name` is the name."""

    def __init__(self, what: str, name: Any, fix: str) -> None:
        super().__init__(what, fix=fix)
        self.name = name


def _printable(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip()) and name.isprintable()


def folder_name(name: Any) -> str:
    """The name of a recipe, which must do for a folder; else a MicotaError."""
    check_names([name])
    if "/" in name:
        raise NameRefused(f"'{name}' is no name for a folder", name, "leave out the slash")
    return str(name)
