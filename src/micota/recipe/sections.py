"""The sections of a recipe file and their keys. The reader refuses others; the reference and the schema list these."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from micota.errors import MicotaError
from micota.specs import FrozenModel, Model, Scoring, Spec
from micota.yaml_tree import Path, Tree

SETTINGS = ("prompt", "sampling", "n", "precision", "trust_remote_code")
"""The fields of `generate` that evaluations and distillation share."""


class EvaluateSection(FrozenModel):
    """Every model answers every problem set, and every grader grades the answers.

    A benchmark brings its own prompt, limit and stop strings, unless they are written here. `evaluate` may also be a
    list of such sections.
    """

    models: tuple[str, ...] = Field(description="names of models; `arms` stands for all arms")
    data: tuple[str, ...] = Field(description="names of problem sets and of benchmarks")
    by: str | tuple[str, ...] = Field(
        ("semantic", "exact_match"),
        description="a grader, or several; `choice` is the default where problems have choices",
    )


class BpcSection(Scoring):
    """Bits per character of the responses of every data set under every model (Eq. 3 of the paper), and what else says
    whether a model can learn from them."""

    models: tuple[str, ...] = Field((), description="names of models")
    data: tuple[str, ...] = Field((), description="names of training data")


class MeasureSection(FrozenModel):
    """What is measured without sampling."""

    bpc: BpcSection | tuple[BpcSection, ...] = Field((), description="bits per character; may be a list")


class RecipeSections(FrozenModel):
    """A recipe: the models to compare, what they are made of, and what they are evaluated on."""

    name: str | None = Field(None, description="the recipe's name in the store; by default that of its file")
    for_: dict[str, tuple[Any, ...]] = Field(
        {},
        alias="for",
        description="variables with their values, which may be mappings with a `name`; `$NAME` and `$NAME.FIELD` stand "
        "for them, and every combination is evaluated",
    )
    let: dict[str, Spec] = Field({}, description="models and data by name, for use in other places of the recipe")
    defaults: dict[str, dict[str, Any]] = Field({}, description="by form, the fields that it has where it is used")
    arms: dict[str, Model] = Field(
        {},
        description="the models to compare, by name; in `{name: TEXT, role: ROLE, FORM: {...}}` the first is the name "
        "in tables, the second the arm of the paper that it is; `{role: ROLE, model: WORD}` for a model without a form",
    )
    baseline: str | None = Field(
        None, description="the model that the others are compared with; by default the first arm that is not trained"
    )
    evaluate: EvaluateSection | tuple[EvaluateSection, ...] = Field(
        (), description="which models answer which problems"
    )
    measure: MeasureSection = Field(MeasureSection(), description="bits per character of data under models")


def keys(section: type[FrozenModel]) -> list[str]:
    """The keys of a section, as a recipe writes them."""
    return [info.alias or name for name, info in section.model_fields.items()]


EVALUATE = [*keys(EvaluateSection), *SETTINGS]
"""The keys of a section `evaluate`."""


def spelled(tree: Tree) -> Tree:
    """The tree with the older spelling of a form, `distil`, replaced; names of a recipe stay as they are."""

    def spell(value: Any, path: Path) -> Any:
        if isinstance(value, dict) and path[:1] != ("for",):
            if {"distil", "distill"} <= {key for key in value if _key(key, path) == "distill"}:
                raise MicotaError("'distil' and 'distill' are one form", where=tree.where(path), fix="keep one of them")
            return {_key(key, path): spell(item, (*path, key)) for key, item in value.items()}
        return [spell(item, (*path, i)) for i, item in enumerate(value)] if isinstance(value, list) else value

    lines = {
        tuple(_key(part, path[:i]) if isinstance(part, str) else part for i, part in enumerate(path)): line
        for path, line in tree.lines.items()
    }
    return Tree(spell(tree.value, ()), tree.name, lines)


def _key(key: str, path: Path) -> str:
    return "distill" if key == "distil" and path[:1] != ("for",) and (len(path) > 1 or path == ("defaults",)) else key
