"""The reference of recipes, benchmarks and machine profiles as Markdown, out of the specs' and profiles' own fields."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from micota import machine
from micota.benchmarks import BENCHMARKS, Benchmark
from micota.errors import MicotaError, suggestion
from micota.machine.cluster import EnginesOnRay, RayConfig, TrainingOnRay
from micota.machine.slurm import Container, JobConfig, SlurmConfig
from micota.recipe.constructors import FORMS
from micota.recipe.schema import Schema, definitions, references, results, summary
from micota.specs import Data, FrozenModel, Model, ProblemSet, Spec

WORDS = {
    "Model": "a model",
    "Data": "training data",
    "ProblemSet": "a problem set",
    "Problems": "a problem set",
    "Generate": "answers",
    "Verify": "verdicts",
    "Source": "a Hub id, a path or `lab:NAME`",
    "Spec": "a model or data",
    "any": "anything",
    "string": "text",
    "boolean": "true or false",
    "integer": "whole number",
    "number": "number",
    "object": "a mapping",
}
"""What types are called, by the classes of specs and by the types of a JSON schema."""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
SECTIONS = {
    "RecipeSections": "sections",
    "EvaluateSection": "evaluate",
    "MeasureSection": "measure",
    "BpcSection": "bpc",
}


def recipe_reference(kind: str | None = None) -> str:
    """The reference of all sections, forms, groups of fields and benchmarks; with `kind`, one of them.

    Raises MicotaError for an unknown one.
    """
    defs = definitions()
    names = _names(defs)
    parts = {names[name]: _part(names[name], name, schema, names) for name, schema in _ordered(defs, names)}
    parts["benchmarks"] = _benchmarks()
    if kind is None:
        return "\n\n".join(parts.values()) + "\n"
    if kind not in parts:
        raise MicotaError(f"the reference has no '{kind}'", fix=suggestion(kind, parts))
    return parts[kind] + "\n"


def machine_reference() -> str:
    """The reference of machine profiles: their own fields, and those of each kind of stage."""
    classes: dict[type[FrozenModel], list[str]] = {machine.MachineProfile: ["profile"]}
    stages: dict[str, type[FrozenModel]] = {**machine.SECTIONS, "servers": machine.ServerConfig}
    for stage, config in stages.items():
        classes.setdefault(config, []).append(f"`{stage}`")
    classes |= {EnginesOnRay: ["`ray-engines`"], TrainingOnRay: ["`ray-training`"], RayConfig: ["`ray-stage`"]}
    classes |= {SlurmConfig: ["`slurm`"], JobConfig: ["`head`"], Container: ["`container`"]}
    names = {cls.__name__: titles[0].strip("`") for cls, titles in classes.items()}
    parts = []
    for cls, titles in classes.items():
        schema = cls.model_json_schema()
        fields = {
            key: one
            for key, one in schema["properties"].items()
            if cls is not machine.MachineProfile or key not in machine.SECTIONS
        }
        parts.append(_text(", ".join(titles), summary(cls), _table({**schema, "properties": fields}, names)))
    return "\n\n".join(parts) + "\n"


def _names(defs: dict[str, Schema]) -> dict[str, str]:
    """What each definition is called: a form by its kind, a group of fields by the first key that holds one."""
    names = {kind: kind for kind in FORMS} | SECTIONS
    for schema in defs.values():
        for key, field in schema.get("properties", {}).items():
            for group in references(field):
                if group in defs:
                    names.setdefault(group, key)
    return names


def _ordered(defs: dict[str, Schema], names: dict[str, str]) -> Iterable[tuple[str, Schema]]:
    """Sections, then forms, then groups of fields."""
    return ((name, defs[name]) for name in sorted(names, key=[*SECTIONS, *FORMS, *defs].index))


def _part(title: str, name: str, schema: Schema, names: dict[str, str]) -> str:
    about = str(schema.get("description", ""))
    if name in FORMS:
        sorts = {word for word in (_sort(cls) for cls in results(FORMS[name])) if word}
        about += "".join(f"\n\nStands for {word}." for word in sorted(sorts))
    return _text(title if name == "RecipeSections" else f"`{title}`", about, _table(schema, names))


def _sort(cls: type[Spec]) -> str:
    return next(
        (WORDS[one.__name__] for one in (Model, Data, ProblemSet) if issubclass(cls, one)), WORDS.get(cls.__name__, "")
    )


def _text(title: str, about: str, body: str) -> str:
    return f"## {title[0].upper() + title[1:]}\n\n{about}\n\n{body}"


def _table(schema: Schema, names: dict[str, str]) -> str:
    """The fields of a definition: key, type, default, meaning."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    required = schema.get("required", ())
    for key, field in schema["properties"].items():
        default = "required" if key in required else _default(field.get("default"))
        lines.append(f"| `{key}` | {type_words(field, names)} | {default} | {field.get('description', '')} |")
    return "\n".join(lines)


def _default(value: Any) -> str:
    if value is None or value in ([], {}):
        return "–"
    if isinstance(value, dict):
        return "its defaults"
    plain = isinstance(value, str) and "\n" not in value
    return f"`{value if plain else json.dumps(value).replace('e-0', 'e-')}`"


def type_words(schema: Schema, names: dict[str, str]) -> str:
    """A field's type in words: `number > 0`, `a model`, `one of ...`."""
    if ref := schema.get("$ref"):
        name = ref.rpartition("/")[2]
        return WORDS.get(name) or f"keys of [{names[name]}](#{names[name]})"
    if "anyOf" in schema:
        parts = [type_words(one, names) for one in schema["anyOf"] if one.get("type") != "null"]
        several = len(parts) == 2 and parts[1] == f"a list of {_several(parts[0])}"
        return f"{parts[0]}, or a list" if several else " or ".join(parts)
    if "enum" in schema:
        return "one of " + ", ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "prefixItems" in schema:
        return "`[low, high]`"
    if schema.get("type") == "array":
        return f"a list of {_several(type_words(schema['items'], names))}"
    if isinstance(inner := schema.get("additionalProperties"), dict):
        return f"a mapping of names to {_several(type_words(inner, names))}"
    bounds = [f"{sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema]
    return " ".join([WORDS[schema.get("type", "any")], ", ".join(bounds)]).strip()


def _several(word: str) -> str:
    plural = {"a model": "models", "a problem set": "problem sets", "text": "texts", "a mapping": "mappings"}
    plural |= {"number": "numbers", "anything": "values", "a model or data": "models and data"}
    return plural.get(word, word.replace("a list", "lists"))


def _benchmarks() -> str:
    about = "The problem sets that `data` of an evaluation knows by name, with how they are asked."
    return _text("benchmarks", about, "\n".join(line for one in BENCHMARKS.values() for line in _benchmark(one)))


def _benchmark(one: Benchmark) -> Iterator[str]:
    place = ", ".join(filter(None, [one.config and f"configuration `{one.config}`", f"split `{one.split}`"]))
    yield f"- **{one.name}**: `{one.source}`, {place}; {one.n:,} problems"
    options = [one.choices] if isinstance(one.choices, str) else one.choices or ()
    more = f"; options: {', '.join(f'`{name}`' for name in options)}" if options else ""
    shuffled = "" if one.shuffle is None else f", shuffled by seed {one.shuffle}"
    yield f"    - columns: `{one.problem}` and `{one.answer}`{more}{shuffled}"
    yield f"    - prompt: `{json.dumps(one.prompt)}`"
    yield f"    - limit: {one.max_tokens:,} tokens; stop strings: " + (
        ", ".join(f"`{stop}`" for stop in one.stop) or "none"
    )
