"""The JSON schema of recipes, out of constructors and the fields of specs: for editors and for the reference."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Annotated, Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo
from pydantic.json_schema import models_json_schema

from micota.recipe.arms import ROLES
from micota.recipe.constructors import ALIASES, FORMS
from micota.recipe.sections import SETTINGS, RecipeSections
from micota.specs import Data, Generate, Model, Problems, ProblemSet, Source, Spec, Verify

Schema = dict[str, Any]
SORTS: tuple[type[Spec], ...] = (Spec, Model, Data, ProblemSet, Problems, Generate, Verify, Source)
"""The classes that a field may ask for: where a schema refers to one of them, a recipe has a word or a form."""
JUDGED = {
    "type": "object",
    "properties": {"judge": {"$ref": "#/$defs/judge"}},
    "required": ["judge"],
    "additionalProperties": False,
}
"""A model that judges, where a grader may be named."""
VARIABLE = {"type": "string", "pattern": r"^\$\w+(\.\w+)?$", "description": "a variable of `for`"}


def recipe_schema() -> Schema:
    """The JSON schema of a recipe. What a recipe's names and variables stand for it leaves to `micota check`."""
    defs = definitions()
    defs |= {cls.__name__: _expression(cls) for cls in SORTS}
    for kind in FORMS:
        del defs[kind]["required"]  # `defaults` may have them
    defs["Prompt"] = {"anyOf": [{"type": "string"}, defs["Prompt"]]}
    top = defs.pop("RecipeSections")
    fields = {kind: {"$ref": f"#/$defs/{kind}"} for kind in FORMS}
    top["properties"]["defaults"] |= {"properties": fields, "additionalProperties": False}
    word, form = defs["Model"]["anyOf"]
    roles = [*ROLES, *(f"{role}_tokens" for role in ROLES)]
    about = {"name": {"type": "string"}, "role": {"type": "string", "enum": roles}, "model": word}
    named = {**form, "properties": {**about, **form["properties"]}, "maxProperties": 3}
    one_of = [{"required": [kind]} for kind in ("model", *form["properties"])]
    named |= {"oneOf": one_of, "anyOf": [{"required": ["name"]}, {"required": ["role"]}]}
    top["properties"]["arms"]["additionalProperties"] = {"anyOf": [word, form, named]}
    used: dict[str, Schema] = {}
    _collect(top, defs, used)
    adapted = {name: _with_variables(one) for name, one in sorted(used.items())}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A recipe of micota"}
    return {**head, **_with_variables(top), "$defs": {**adapted, "variable": VARIABLE}}


def definitions() -> dict[str, Schema]:
    """The schemas of all forms by kind, and of sections and groups of fields by class; specs are references."""
    models: list[type[BaseModel]] = [*(_form(kind) for kind in FORMS), RecipeSections]
    defs: dict[str, Schema] = models_json_schema([(model, "validation") for model in models])[1]["$defs"]
    defs["EvaluateSection"]["properties"] |= {name: defs["generate"]["properties"][name] for name in SETTINGS}
    for cls in _below(Spec):
        defs.pop(cls.__name__, None)
    for name in ("verify", "distill", "rewrite", "EvaluateSection"):
        by = defs[name]["properties"]["by"]
        kept = {key: by.pop(key) for key in ("description", "default") if key in by}
        several = [{"type": "array", "items": {"anyOf": [{"type": "string"}, JUDGED]}}] if name not in FORMS else []
        defs[name]["properties"]["by"] = {**kept, "anyOf": [{"type": "string"}, JUDGED, *several]}
    return defs


def results(call: Callable[..., Any]) -> tuple[type[Spec], ...]:
    """The classes of what a constructor gives."""
    made = get_type_hints(call)["return"]
    return get_args(made) or (made,)


def _form(kind: str) -> type[BaseModel]:
    """A pydantic model with the fields that a form takes, under the names that recipes have for them."""
    call: Any = FORMS[kind]
    words = {name: word for word, name in ALIASES.get(kind, {}).items()}
    hints = get_type_hints(call, include_extras=True)
    infos = {info.alias or name: info for cls in call.built for name, info in cls.model_fields.items()}
    annotated: Any = Annotated
    fields: dict[str, Any] = {}
    for name in (*call.parameters, *call.extra):
        info = infos.get(name) or FieldInfo.from_annotation(hints[name])
        parameter = call.parameters.get(name)
        default = info.default if parameter is None else parameter.default
        default = ... if default is inspect.Parameter.empty else default
        about = Field(default, description=info.description, alias=words.get(name, name))
        fields[f"field_{name}"] = annotated[(info.annotation, *info.metadata, about)]
    return create_model(kind, __config__=ConfigDict(extra="forbid"), __doc__=summary(call), **fields)


def summary(documented: Any) -> str:
    """What a docstring says before its examples and its list of fields."""
    return (inspect.getdoc(documented) or "").split("\nFields:")[0].split("\n>>>")[0].strip()


def _expression(cls: type[Spec]) -> Schema:
    """What may stand where a spec of a class is wanted: a word, or a form that gives one."""
    kinds = [kind for kind, call in FORMS.items() if all(issubclass(one, cls) for one in results(call))]
    fields: dict[str, Schema] = {kind: {"$ref": f"#/$defs/{kind}"} for kind in kinds}
    if "mix" in fields:
        fields["mix"] = {"anyOf": [fields["mix"], {"type": "array", "items": {"$ref": "#/$defs/MixtureComponent"}}]}
    form = {"type": "object", "properties": fields, "additionalProperties": False, "minProperties": 1}
    return {"anyOf": [{"type": "string"}, {**form, "maxProperties": 1}]} if kinds else {"type": "string"}


def _with_variables(node: Any) -> Any:
    """The same without pydantic's titles, and with `$NAME` for every value that is no mapping and no free text."""
    if isinstance(node, list):
        return [_with_variables(item) for item in node]
    if not isinstance(node, dict):
        return node
    there = {key: value for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    inner: Schema = {key: value if key == "default" else _with_variables(value) for key, value in there.items()}
    if "enum" in node or "const" in node or node.get("type") in ("integer", "number", "boolean", "array"):
        outer = {key: inner.pop(key) for key in ("description", "default") if key in inner}
        return {**outer, "anyOf": [inner, {"$ref": "#/$defs/variable"}]}
    return inner


def _collect(node: Any, defs: dict[str, Schema], used: dict[str, Schema]) -> None:
    """Put every definition that a schema refers to into `used`."""
    for name in references(node):
        if name not in used:
            used[name] = defs[name]
            _collect(defs[name], defs, used)


def references(node: Any) -> Iterator[str]:
    """The names of the definitions that a schema refers to."""
    if isinstance(node, dict):
        if isinstance(ref := node.get("$ref"), str):
            yield ref.rpartition("/")[2]
        node = list(node.values())
    for item in node if isinstance(node, list) else ():
        yield from references(item)


def _below(cls: type[Any]) -> Iterator[type[Any]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from _below(sub)
