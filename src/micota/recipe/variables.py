"""The variables of a recipe: `for` gives their values, and `$student` stands for each of them in turn.

A value may be a mapping with a name: `{name: 3B, model: Qwen/Qwen2.5-3B-Instruct, batch: 128}`. Then `$student` is its
name and `$student.batch` its field. A field that depends on another variable has a value for each of that one's names:
`batch: {3B: 128, 1.5B: 96}`.

`$$student` is the text `$student`. In free text (prompts, system messages, stop strings) a `$` before what is no
variable is a dollar: `Solve for $x$`.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from micota.errors import MicotaError, suggestion
from micota.yaml_tree import Path, Tree

MENTIONED = re.compile(r"(\$?)\$(\w+)(?:\.(\w+))?")
TEXTS = ("prompt", "template", "system", "stop")  # the fields of free text
COMBINATIONS = 10_000
Values = Mapping[str, Any]
"""One combination: the value of each variable, of a mapping its name."""


class Variables:
    """What `for` says. Every mistake in it, and in a mention of it, is one error that names its line."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._names: dict[str, list[Any]] = {}
        self._fields: dict[str, dict[str, dict[str, Any]]] = {}
        for variable, entries in tree.value.get("for", {}).items():
            self._read(variable, entries)
        self._keys = {(v, field): self._key(v, field) for v in self._fields for field in self._known(v)}

    def unused(self, mentions: str) -> Iterator[tuple[str, str]]:
        """The variables that a text of all other sections mentions nowhere, each with its place."""
        named = {found[2] for found in MENTIONED.finditer(mentions)}
        keys = {other for (variable, _), other in self._keys.items() if other and variable in named}
        for variable in self._names.keys() - named - keys:
            yield variable, self._tree.where(("for", variable))

    def combinations(self) -> list[Values]:
        """Every value of every variable with every other, in the order in which they stand."""
        if (count := math.prod(map(len, self._names.values()))) > COMBINATIONS:
            what = f"`for` makes {count:,} combinations; {COMBINATIONS:,} are possible"
            raise self._wrong(what, ("for",), "split the recipe, or leave values out")
        return [dict(zip(self._names, values, strict=True)) for values in itertools.product(*self._names.values())]

    def mentioned(self, word: str, place: Path, text: bool = False) -> Iterator[str]:
        """The variables that a word depends on; `text` says that it is free text."""
        for found in MENTIONED.finditer(word):
            if found[1] or self._is_text(found, text):
                continue
            variable, field = self._meant(found, place)
            yield variable
            if other := self._keys.get((variable, field)):
                yield other

    def expand(self, value: Any, values: Values, place: Path, text: bool = False) -> Any:
        """The value with every mention replaced. A word that is nothing but a mention becomes what it stands for."""
        if isinstance(value, str):
            whole = MENTIONED.fullmatch(value)
            stands = partial(self._stands_for, values=values, place=place, text=text)
            return stands(whole) if whole else MENTIONED.sub(lambda found: str(stands(found)), value)
        if isinstance(value, dict):
            return {key: self.expand(item, values, place, text or key in TEXTS) for key, item in value.items()}
        return [self.expand(item, values, place, text) for item in value] if isinstance(value, list) else value

    def _stands_for(self, found: re.Match[str], values: Values, place: Path, text: bool) -> Any:
        if self._is_text(found, text):
            return found[0]
        if found[1]:
            return found[0][1:]
        variable, field = self._meant(found, place)
        value = values[variable]
        if field:
            value = self._fields[variable][value][field]
            return value[values[str(self._keys[variable, field])]] if isinstance(value, dict) else value
        return f"{value}.{found[3]}" if found[3] else value  # `./data-$seed.jsonl`: a plain value has no fields

    def _is_text(self, found: re.Match[str], text: bool) -> bool:
        """Whether a dollar is one of free text: before what is no variable, nor nearly one."""
        return text and found[2] not in self._names and not difflib.get_close_matches(found[2], self._names)

    def _meant(self, found: re.Match[str], place: Path) -> tuple[str, str]:
        """The variable and the field that are mentioned; "" for a variable without fields."""
        variable, field = found[2], found[3] or ""
        if variable not in self._names:
            fix = f"{suggestion(variable, self._names)}; $${variable} is the text ${variable}"
            raise self._wrong(f"unknown variable '${variable}'", place, fix)
        if variable not in self._fields:
            return variable, ""
        if field and field not in self._known(variable):
            fix = suggestion(field, self._known(variable))
            raise self._wrong(f"the values of '{variable}' have no '{field}'", place, fix)
        return variable, field

    def _known(self, variable: str) -> list[str]:
        return list(next(iter(self._fields[variable].values())))

    def _read(self, variable: str, entries: Any) -> None:
        """Take up one variable: a list of plain values, or of mappings that have a name and the same fields."""
        place = ("for", variable)
        if not isinstance(entries, list) or not entries:
            raise self._wrong(f"'{variable}' is no list of values", place, f"{variable}: [FIRST, SECOND]")
        if not any(isinstance(entry, dict) for entry in entries):
            self._names[variable] = entries
            return
        first = entries[0]
        for i, entry in enumerate(entries):
            if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
                fix = f"{variable}: [{{name: FIRST, model: ...}}, ...]"
                raise self._wrong(f"a value of '{variable}' has no name", (*place, i), fix)
            if entry.keys() != first.keys():
                odd = min(entry.keys() ^ first.keys())
                what = f"'{odd}' stands in some values of '{variable}' only"
                raise self._wrong(what, (*place, i), f"give each of them {odd}")
        self._names[variable] = [entry["name"] for entry in entries]
        self._fields[variable] = {entry["name"]: entry for entry in entries}
        if len(self._fields[variable]) < len(entries):
            raise self._wrong(f"two values of '{variable}' have the same name", place, "rename one of them")

    def _key(self, variable: str, field: str) -> str | None:
        """The variable that a field depends on: the one whose names are the keys of its values."""
        keyed = [entry[field] for entry in self._fields[variable].values() if isinstance(entry[field], dict)]
        if not keyed:
            return None
        for other, names in self._names.items():
            if other != variable and all(set(one) == {str(name) for name in names} for one in keyed):
                return other
        what = f"'{field}' is a mapping, but not from the names of another variable"
        raise self._wrong(what, ("for", variable), f"{field}: VALUE, or {field}: {{NAME: VALUE, ...}} for all names")

    def _wrong(self, what: str, place: Path, fix: str | None = None) -> MicotaError:
        return MicotaError(what, where=self._tree.where(place), fix=fix)


def escaped(value: Any, text: bool = False) -> Any:
    """The value written so that `expand` without variables gives it back."""
    if isinstance(value, str) and not text:
        return MENTIONED.sub(r"$\g<0>", value)
    if isinstance(value, dict):
        return {key: escaped(item, text or key in TEXTS) for key, item in value.items()}
    return [escaped(item, text) for item in value] if isinstance(value, list) else value
