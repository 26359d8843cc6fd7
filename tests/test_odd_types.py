"""Python calls with values of a wrong type: each ends in an error of micota's own, with words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import micota as mc
from micota.errors import MicotaError

ODD: list[Any] = [5, [], {}, "x", 2.5, True, object(), {"a": 1}, [1], len, b"x", Path("x"), float("nan"), None]
SUMS = mc.problems("lab:arithmetic", split="train", n=4)
CHAINS = mc.distill("lab:ta", SUMS)
MERGED: dict[str, Any] = {"method": "task_arithmetic"}
WEIGHTS = {"weight": (0.1, 0.9), "target": mc.length(0.5, of="lab:ta")}
ARMS = {"a": "lab:ta"}


def spec_fields(make: Callable[..., Any], *given: Any, fields: str) -> dict[str, Callable[[Any], Any]]:
    return {f"{make.__name__} {name}": lambda odd, name=name: make(*given, **{name: odd}) for name in fields.split()}  # type: ignore[misc]


CALLS: dict[str, Callable[[Any], Any]] = {
    **spec_fields(mc.problems, "lab:arithmetic", fields="against decontaminate benchmark n skip split"),
    **spec_fields(mc.rows, "lab:arithmetic", fields="prompt messages system duplicates"),
    **spec_fields(mc.generate, "lab:ta", SUMS, fields="sampling prompt n precision trust_remote_code"),
    **spec_fields(mc.distill, "lab:ta", SUMS, fields="sampling prompt by until at_most keep max_tokens"),
    **spec_fields(mc.train, "lab:ta", CHAINS, fields="lr lora epochs seed batch system"),
    **spec_fields(mc.measure, "lab:ta", CHAINS, fields="precision"),
    **spec_fields(mc.Recipe, ARMS, fields="evaluate measure let name"),
    "problems": mc.problems,
    "rows": mc.rows,
    "verify": mc.verify,
    "pretrain": mc.pretrain,
    "mix": mc.mix,
    "mix parts": lambda odd: mc.mix(parts=odd),
    "mix share": lambda odd: mc.mix((CHAINS, odd)),
    "mix data": lambda odd: mc.mix((odd, 1.0)),
    "generate model": lambda odd: mc.generate(odd, SUMS),
    "generate problems": lambda odd: mc.generate("lab:ta", odd),
    "train base": lambda odd: mc.train(odd, CHAINS),
    "train data": lambda odd: mc.train("lab:ta", odd),
    "merge models": lambda odd: mc.merge("lab:ta", odd, weight=0.5, **MERGED),
    "merge weight": lambda odd: mc.merge("lab:ta", ["lab:ta"], weight=odd, **MERGED),
    "merge method": lambda odd: mc.merge("lab:ta", ["lab:ta"], weight=0.5, method=odd),
    "dial target": lambda odd: mc.dial("lab:ta", ["lab:ta"], odd, SUMS, weight=(0.1, 0.9), **MERGED),
    "dial probe": lambda odd: mc.dial("lab:ta", ["lab:ta"], probe=odd, **WEIGHTS, **MERGED),
    "length share": lambda odd: mc.length(odd, of="lab:ta"),
    "length of": lambda odd: mc.length(0.5, of=odd),
    "take": SUMS.take,
    "Recipe": mc.Recipe,
    "Recipe let value": lambda odd: mc.Recipe(ARMS, let={"x": odd}),
    "Recipe section": lambda odd: mc.Recipe(ARMS, evaluate=[odd]),
    "Recipe data": lambda odd: mc.Recipe(ARMS, evaluate={"data": odd}),
    "Recipe models": lambda odd: mc.Recipe(ARMS, evaluate={"data": ["math500"], "models": odd}),
    "Recipe by": lambda odd: mc.Recipe(ARMS, evaluate={"data": ["math500"], "by": odd}),
    "Recipe measure models": lambda odd: mc.Recipe(ARMS, measure={"a": odd}),
    "load": mc.load,
    "load sets": lambda odd: mc.load("lab-mini", odd),
    "Workspace store": lambda odd: mc.Workspace(odd),
    "Workspace machine": lambda odd: mc.Workspace("store", machine=odd),
    "plan": lambda odd: mc.Workspace("store").plan(odd),
    "make": lambda odd: mc.Workspace("store").make(odd),
    "evaluate": lambda odd: mc.Workspace("store").evaluate(odd, ["math500"]),
    "evaluate data": lambda odd: mc.Workspace("store").evaluate(ARMS, odd),
    "artifact": lambda odd: mc.Workspace("store").artifact(odd),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_value_of_a_wrong_type_is_an_error_with_words(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = 0
    for odd in ODD:
        if name in ("make", "evaluate") and odd in ({}, {"a": 1}):
            continue
        try:
            CALLS[name](odd)
        except MicotaError as error:
            assert len(str(error)) > 8
            refused += 1
    assert refused >= 5
