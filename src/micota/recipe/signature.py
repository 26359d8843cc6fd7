"""How a constructor gets its signature and its help from the specs that it builds, and its mistakes from pydantic."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from micota.errors import MicotaError, suggestion
from micota.specs import Data, FrozenModel, Model, ProblemSet, Spec

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", bound=FrozenModel)
SORTS: dict[type[Spec], str] = {Model: "a model", Data: "training data", ProblemSet: "a problem set"}
"""What the kinds of the three sorts are called in messages."""


INNER = ("bpc", "filter", "inquiry", "redraw")
"""Kinds that no form has the name of."""


class FieldError(MicotaError):
    """A mistake in a field of a constructor; `loc` is the path of the field below the call."""

    def __init__(self, what: str, loc: tuple[str | int, ...] = (), fix: str | None = None) -> None:
        super().__init__(what, fix=fix)
        self.loc = loc


def constructor(
    *made: type[FrozenModel], hidden: tuple[str, ...] = (), extra: tuple[str, ...] = ()
) -> Callable[[F], F]:
    """Give a function that takes `**fields` the keyword parameters, with defaults and help, of what it makes.

    `hidden` are fields that the function sets itself, `extra` other spellings that it takes. Unknown and missing
    parameters are FieldErrors.
    """

    def decorate(function: F) -> F:
        own = inspect.signature(function).parameters
        fields = {
            name: info
            for cls in made
            for name, info in cls.model_fields.items()
            if name not in hidden and name not in own
        }
        open_ended = any(one.kind is one.VAR_KEYWORD for one in own.values())
        parameters = [one for one in own.values() if one.kind is not one.VAR_KEYWORD]
        parameters += [_keyword(name, info) for name, info in fields.items()] if open_ended else []
        known = {*(one.name for one in parameters), *extra}

        @functools.wraps(function)
        def checked(*args: Any, **kwargs: Any) -> Any:
            for name in kwargs:
                if name not in known:
                    raise FieldError(f"{function.__name__}: unknown field '{name}'", (name,), suggestion(name, known))
            try:
                return function(*args, **kwargs)
            except FieldError as error:
                kind, colon, rest = error.what.partition(": ")
                if kind in INNER:  # as the user calls it
                    error.what = f"{function.__name__}{colon}{rest}"
                raise

        checked.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        checked.built = made  # type: ignore[attr-defined]
        checked.types = {name: field_type(info) for cls in made for name, info in cls.model_fields.items()}  # type: ignore[attr-defined]
        checked.extra = extra  # type: ignore[attr-defined]
        checked.parameters = {one.name: one for one in parameters}  # type: ignore[attr-defined]
        checked.__doc__ = _help(inspect.getdoc(function) or "", fields if open_ended else {})
        return checked  # type: ignore[return-value]

    return decorate


def build(make: type[T], **fields: Any) -> T:
    """Make a spec or a value; what pydantic refuses becomes a FieldError that names the field."""
    try:
        return make(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        loc = tuple(part for part in first["loc"] if isinstance(part, str | int) and part not in ("tuple", "float"))
        name = str(next((part for part in reversed(loc) if isinstance(part, str)), ""))
        if first["type"] == "missing":
            raise FieldError(f"'{_word(loc[:-1]) or _kind(make)}' lacks '{name}'", loc[:-1]) from None
        if first["type"] == "extra_forbidden":
            raise FieldError(f"unknown key '{name}'", loc, suggestion(name, _known(make, loc))) from None
        if first["type"] == "model_type":
            raise FieldError(_wrongfield_type(make, loc, first["input"]), loc) from None
        shown = "" if isinstance(first["input"], dict | FrozenModel) else f": {first['input']!r}"
        message = first["msg"].removeprefix("Value error, ")
        raise FieldError(f"{name or _kind(make)}{shown}: {message}", loc) from None


def _kind(make: type[FrozenModel]) -> str:
    return str(getattr(make, "kind", make.__name__.lower()))


def _word(loc: tuple[str | int, ...]) -> str:
    return str(next((part for part in reversed(loc) if isinstance(part, str)), ""))


def _known(make: type[FrozenModel], loc: tuple[str | int, ...]) -> list[str]:
    """The fields that stand where an unknown one was given."""
    for part in loc[:-1]:
        if isinstance(part, str) and (inner := field_type(make.model_fields[part])) is not None:
            make = inner
    return list(make.model_fields)


def _wrongfield_type(make: type[FrozenModel], loc: tuple[str | int, ...], value: Any) -> str:
    wanted = field_type(make.model_fields[str(loc[0])]) if loc else None
    sort = next((word for cls, word in SORTS.items() if wanted and issubclass(wanted, cls)), "a mapping of fields")
    return f"{_word(loc)} is {describe(value)}; {sort} is expected here"


def describe(value: Any) -> str:
    """What a value is, in words: `a problem set`, `a generate`, `'text'`."""
    if isinstance(value, Spec):
        return next((word for cls, word in SORTS.items() if isinstance(value, cls)), f"a {value.kind}")
    return repr(value)


def field_type(info: FieldInfo) -> type[FrozenModel] | None:
    """The class of specs or values that a field holds, alone, optional or in a tuple; None for plain fields."""
    todo = [info.annotation]
    while todo:
        annotation = todo.pop()
        if isinstance(annotation, type) and not get_args(annotation):
            if issubclass(annotation, FrozenModel):
                return annotation
        else:
            todo += get_args(annotation)
    return None


def _keyword(name: str, info: FieldInfo) -> inspect.Parameter:
    default = inspect.Parameter.empty if info.is_required() else info.default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=info.annotation)


def _help(text: str, fields: dict[str, FieldInfo]) -> str:
    lines = [f"- `{name}`: {info.description}" for name, info in fields.items() if info.description]
    return "\n".join([text, "", "Fields:", "", *lines]) if lines else text
