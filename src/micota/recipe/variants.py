"""The names of recipes that `--set` has changed: `lab-mini+micota.lr=1e-3`, one name for equal changes.

A name says the differences between the recipe as it is written and as it is run, so neither the order of overrides nor
the spelling of values matters, and what changes nothing is left out; another order of arms or variables is a change.
What no folder takes, or is long, is cut, and a hash of the whole keeps it apart from its like.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from micota.recipe.constructors import FORMS
from micota.recipe.sections import RecipeSections, keys
from micota.store.records import text_key
from micota.yaml_tree import Path, scalar

LONGEST = 120  # characters of a name; a longer one counts its changes
PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,40}")
WORD = re.compile(r"[A-Za-z0-9_-]+")
UNSET = object()
Tree = Mapping[str, Any]


def variant_name(name: str, written: Tree, changed: Tree) -> str:
    """The name of a recipe after its overrides."""
    changes = [*_changes(written, changed, ()), *_orders(written, changed)]
    words = sorted(f"{_place(path, written, changed)}={value}" for path, value in changes)
    whole = "+".join([name, *words])
    if not words or len(whole.encode()) <= LONGEST:
        return whole
    return f"{name}+{len(words)}-changes~{text_key(whole)[:8]}"


def overrides_of(words: Iterable[str], written: Tree) -> Iterator[str]:
    """The overrides that the parts of a name stand for: `micota.lr=1e-3` is `arms.micota.train.lr=1e-3`."""
    for word in words:
        place, equals, value = word.partition("=")
        name, _, rest = place.partition(".")
        yield ".".join(filter(None, [*_beginning(name, bool(rest), written), rest])) + equals + value


def _beginning(name: str, inside: bool, written: Tree) -> list[str]:
    """The full path of what a name in a place stands for; `inside` says that the place goes on behind it."""
    if name in keys(RecipeSections):
        return [name]
    section = next((one for one in ("let", "arms", "for") if name in _section(written, one)), "defaults")
    expression = _section(written, section).get(name)
    forms = [key for key in expression if key in FORMS] if isinstance(expression, Mapping) else []
    return [section, name, *(forms[:1] if inside and section in ("let", "arms") else ())]


def _changes(written: Any, changed: Any, path: Path) -> Iterator[tuple[Path, str]]:
    """The places where two trees differ, with the words for what stands there in the second."""
    if isinstance(written, Mapping) and isinstance(changed, Mapping):
        for key in {**written, **changed}:
            yield from _changes(written.get(key, UNSET), changed.get(key, UNSET), (*path, key))
    elif isinstance(written, list) and isinstance(changed, list) and len(written) == len(changed):
        for i, both in enumerate(zip(written, changed, strict=True)):
            yield from _changes(*both, (*path, i))
    elif _text(written) != _text(changed):
        yield path, _text(changed)


def _orders(written: Tree, changed: Tree) -> Iterator[tuple[Path, str]]:
    """Arms and variables in another order than written, with new ones behind: tables and labels follow it."""
    for name in ("arms", "for"):
        before, after = list(_section(written, name)), list(_section(changed, name))
        usual = [key for key in before if key in after] + sorted((key for key in after if key not in before), key=str)
        if after != usual:
            yield (name,), _hashed("order", json.dumps(after))


def _place(path: Path, written: Tree, changed: Tree) -> str:
    """A path without its section and form, where no other path could be meant."""
    owners = Counter([*keys(RecipeSections), *FORMS])
    for section in ("let", "arms", "for"):
        owners.update({*_section(written, section), *_section(changed, section)})
    parts = [str(part) for part in _short(path, owners)]
    place = ".".join(parts)
    return place if all(map(WORD.fullmatch, parts)) else _hashed(place, json.dumps(parts))


def _section(tree: Tree, name: str) -> Tree:
    section = tree.get(name)
    return section if isinstance(section, Mapping) else {}


def _short(path: Path, owners: Mapping[Any, int]) -> Path:
    section, *rest = path
    if not rest or owners[rest[0]] != 1 or section not in ("let", "arms", "for", "defaults"):
        return path
    if section in ("for", "defaults") or len(rest) == 1:
        return tuple(rest)
    return (rest[0], *rest[2:]) if len(rest) > 2 and rest[1] in FORMS else path


def _text(value: Any) -> str:
    """A value as a word that a file name can have; equal for equal values, however they are spelt."""
    if value is UNSET:
        return _hashed("unset", "")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, str):
        return value if PLAIN.fullmatch(value) and _is_text(value) else _hashed(value, json.dumps(value))
    canonical = json.dumps(value, sort_keys=True)
    return _hashed(canonical, canonical)


def _is_text(value: str) -> bool:
    """Whether an unquoted text is read back as a text, and not as a number or a word of YAML."""
    try:
        return isinstance(scalar(value), str)
    except ValueError:
        return False


def number(value: float) -> str:
    """The shortest of `0.001` and `1e-3` for a number; a whole one has no point."""
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return str(int(value))
    if value != value or value in (float("inf"), -float("inf")):
        return str(value)
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    first, rest = str(digits[0]), "".join(map(str, digits[1:]))
    power = int(exponent) + len(rest)
    short = f"{'-' * sign}{first}{'.' * bool(rest)}{rest}e{power}"
    return min(format(Decimal(repr(value)), "f"), short, key=len)


def piece(name: str) -> str:
    """A name as one piece of a path; a name that has to change keeps apart from its like by a hash."""
    plain = re.sub(r"[^A-Za-z0-9_.+=~-]+", "-", name[:60]).strip(".-")
    return plain if plain == name != "" else f"{plain or 'x'}-{text_key(name)[:8]}"


def _hashed(text: str, whole: str) -> str:
    """The beginning of a text, and the hash of what it stands for."""
    plain = re.sub(r"[^A-Za-z0-9_.]+", "-", text[:24]).strip(".-")
    return f"{plain}~{text_key(whole)[:8]}"
