"""`micota grade --judge`: a model of a recipe, or any other, reads each row's answer beside its reference answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from micota import yaml_tree
from micota.atomic import write_text
from micota.cli.grade import Judging
from micota.cli.rows_to_grade import Asked
from micota.cli.single_recipes import word
from micota.errors import MicotaError
from micota.grading import Grade, Verdict, judge_verdict
from micota.recipe import recipe as recipes
from micota.recipe.constructors import generate, problems
from micota.recipe.inquiry_constructors import judge
from micota.recipe.shipped import known
from micota.specs import Inquiry, Judge, Verify, asked_to_judge, sha, walk
from micota.workspace import Workspace

FIELDS = ("sampling", "precision", "trust_remote_code")


def judging(ws: Workspace, given: str, sets: Sequence[str]) -> Judging:
    """What gives the verdicts of the judge that was named."""
    return partial(judged, ws, judge_of(given, sets, ws.store.root))


def judge_of(given: str, sets: Sequence[str], store: Path) -> Judge:
    """The judge that a recipe has in `by`, or a model as one; `sets` override values of the recipe, or its fields."""
    if known(given) is None:
        fields: dict[str, Any] = {}
        for one in sets:
            yaml_tree.override(fields, one)
        return judge(word(given, store), **fields)
    recipe = recipes.load(given, sets)
    replies = {one.judged.digest: one.judged for one in walk(*recipe.targets) if isinstance(one, Verify) and one.judged}
    found = []
    for reply in replies.values():
        assert isinstance(reply.problems, Inquiry)
        prompt = reply.prompt.changed(template=reply.problems.template)
        found.append(judge(reply.model, prompt, **{name: getattr(reply, name) for name in FIELDS}))
    if len(set(found)) != 1:
        what = f"the recipe '{recipe.name}' has {len(set(found)) or 'no'} judges"
        raise MicotaError(what, fix="name a recipe with one, as in `by: {judge: {model: NAME}}`, or a model")
    return found[0]


def judged(ws: Workspace, by: Judge, rows: Sequence[Asked]) -> list[Grade]:
    """The verdicts in the judge's replies, which the pool keeps; a text that several rows give is asked once."""
    template = by.prompt.template
    texts = [asked_to_judge(template, one.problem, one.reference, one.item.response) for one in rows]
    texts = [text and text.encode("utf-8", "replace").decode() for text in texts]  # a file keeps no lone surrogates
    wanted = dict.fromkeys(text for text in texts if text is not None)
    replies: dict[str, Grade] = {}
    if wanted:
        lines = [json.dumps({"problem": text, "answer": "a verdict"}) + "\n" for text in wanted]
        path = ws.store.root / "alone" / f"judged-{sha(lines)}.jsonl"
        write_text(path, "".join(lines))
        asked = by.prompt.changed(template="{problem}")
        answers = generate(by.model, problems(path), prompt=asked, **{name: getattr(by, name) for name in FIELDS})
        made = ws.make(answers)
        if made.facts.get("fake"):
            ws.console.print("warning: the judge's replies are FAKE", highlight=False)
        replies = {row["problem"]: judge_verdict(row["response"]) for row in made.rows()}
    none = Grade(Verdict.no_answer, None, "nothing follows the thought")
    return [none if text is None else replies[text] for text in texts]
