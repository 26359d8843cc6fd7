"""The arms of a recipe beside what they are made of: printed names, the paper's roles, and the baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from micota.errors import suggestion
from micota.recipe.contents import Evaluation, NameRefused
from micota.specs import Pretrain, Spec

ROLES = ("instruct", "short", "strong", "half", "mix_long", "micota")
"""The arms of the paper; each of them with `_tokens` behind it is that arm matched in target tokens."""


@dataclass
class Arms:
    """The section `arms`: by their words expressions, names that are printed ("" for that of the role), and roles."""

    expressions: dict[str, Any] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    roles: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, section: Mapping[str, Any]) -> Arms:
        """Read expressions, `{name: TEXT, role: ROLE, FORM: {...}}`, and `{role: ROLE, model: WORD}`."""
        arms = cls()
        for word, value in section.items():
            about = {"name": "", "role": ""}
            if isinstance(value, Mapping) and len(value) > 1:
                about |= {key: value[key] for key in about.keys() & value.keys()}
                value = {key: item for key, item in value.items() if key not in about}
            for key, text in about.items():
                if not isinstance(text, int | float | str):
                    raise NameRefused(f"{text!r:.80} is no {key}", word, "give a text")
            arms.titles[word] = str(about["name"])
            arms.roles |= {word: str(about["role"])} if about["role"] else {}
            arms.expressions[word] = value["model"] if isinstance(value, Mapping) and set(value) == {"model"} else value
        check_roles(arms.roles, arms.expressions)
        return arms


def check_roles(roles: Mapping[str, str], arms: Iterable[str]) -> None:
    """Refuse a role that the paper does not have, one that two arms have, and one of something that is no arm."""
    known, words = [*ROLES, *(f"{role}_tokens" for role in ROLES)], list(arms)
    for word, role in roles.items():
        if role not in known:
            raise NameRefused(f"the paper has no role {role!r:.80}", word, suggestion(str(role), known))
        if (other := next(one for one in roles if roles[one] == role)) != word:
            raise NameRefused(f"'{other}' and '{word}' have one role, {role}", word, "give it to one of the two")
        if word not in words:
            raise NameRefused(f"'{word}', with the role {role}, is no arm", word, suggestion(word, words))


def baseline_of(baseline: str, arms: Mapping[str, Spec], evaluations: Iterable[Evaluation]) -> str:
    """The word of the model that others are compared with: the first arm that is not trained, else the first arm.

    `arms` maps the words of the arms to models. A baseline that is given must be evaluated.
    """
    if not baseline:
        untrained = (
            word
            for word, spec in arms.items()
            if spec.made_elsewhere or (isinstance(spec, Pretrain) and spec.base is None)
        )
        return next(untrained, next(iter(arms), ""))
    words = list(dict.fromkeys(one.role for one in evaluations))
    if baseline not in words:
        raise NameRefused(f"the baseline '{baseline}' is not evaluated", "baseline", suggestion(baseline, words))
    return baseline
