"""Sixty faults of many kinds, planted in published chat templates and in examples made for them: each is found.

`data/planted.yaml` has them; `test_checks_templates.py` says that the templates as they are have no error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import yaml
from families import DATA
from test_checks_templates import FOLDER, MARKER, published
from tokenizers import normalizers, processors

from micota import checks
from micota.chat import end_id, example
from micota.specs import Prompt, Sampling

PLANTED: dict[str, dict[str, Any]] = yaml.safe_load((DATA / "planted.yaml").read_text())
ROWS = [
    (f"What is {n}+{n + 1}?", f"<think>\nI add {n} and {n + 1}.\n</think>\n\nIt is \\boxed{{{2 * n + 1}}}.")
    for n in range(4)
]
IGNORED = -100
CONTENT = """{%- set ns = namespace(m=[]) -%}{%- for x in messages -%}
{%- set ns.m = ns.m + [dict(x, content=(x.content FILTER) if x.role == 'ROLE' else x.content)] -%}
{%- endfor -%}{%- set messages = ns.m -%}"""
Row = dict[str, Any]


@cache
def ends(name: str) -> tuple[str, str]:
    """The token with which a published template ends an answer, and the one of a base model."""
    model = published(name)
    return model.names(model.eos[:1]), "<|endoftext|>" if "<|endoftext|>" not in model.names(model.eos) else "<base>"


def changed(fault: dict[str, Any], text: str, end: str) -> str:
    """A chat template with a fault of its text."""
    if "content" in fault:
        change = fault["content"] if fault["content"][0] in ".[" else f" {fault['content']}"
        text = CONTENT.replace(" FILTER", change).replace("ROLE", fault.get("role", "user")) + text
    if "after" in fault:
        expression = fault["after"].replace("END", repr(end))
        text = f"{{% set out %}}{text}{{% endset %}}{{{{ {expression} }}}}"
    return fault.get("before", "") + text


def plant(name: str, fault: dict[str, Any]) -> checks.Subject:
    """A published template's model with a fault."""
    end, base = ends(name)
    call = {"<own>": end, "<base>": base}
    options: dict[str, Any] = {
        key: [call.get(token, token) for token in fault[key]] for key in ("special", "split", "strips") if key in fault
    }
    if "own" in fault:
        options["eos"] = fault["own"]
    if fault.get("tags") or "special" in fault:
        options["tags"] = True
    if fault.get("tokenizer") == "without_markers":
        options["split"] = MARKER.findall((FOLDER / f"{name}.jinja").read_text())
    stops = [call.get(stop, stop) for stop in fault.get("stops", [end])]
    text = changed(fault, (FOLDER / f"{name}.jinja").read_text(), end)
    model = published(name, text, stops=[stop for stop in stops if isinstance(stop, str)], **options)
    CHANGES.get(fault.get("tokenizer", ""), lambda _: None)(model.tokenizer)
    ids = [*model.eos, *(stop for stop in stops if isinstance(stop, int))]
    return checks.Subject.of(
        name, model.tokenizer, {"eos_token_id": ids}, {"vocab_size": fault.get("rows", len(model.tokenizer))}
    )


def adds(template: str) -> Callable[[Any], None]:
    """A tokenizer that puts a token of its own before or behind every text."""

    def change(tok: Any) -> None:
        token = tok.bos_token if template.startswith("B") else tok.eos_token
        single = template.replace("B", token).replace("E", token)
        ids = [(token, tok.convert_tokens_to_ids(token))]
        tok.backend_tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)

    return change


def adds_begin(tok: Any) -> None:
    adds("B $A")(tok)
    tok.init_kwargs["add_bos_token"] = True


def lowers(tok: Any) -> None:
    tok.backend_tokenizer.normalizer = normalizers.Lowercase()


CHANGES: dict[str, Callable[[Any], None]] = {"adds_begin": adds_begin, "adds_end": adds("$A E"), "lowers": lowers}


def ours(model: checks.Subject, response: Callable[[str], str] = str) -> list[Row]:
    """Examples as micota makes them, of other responses."""
    end = end_id(model.tokenizer, list(model.eos))
    return [example(model.tokenizer, problem, response(text), None, end) for problem, text in ROWS]


def behind(model: checks.Subject, prompts: Callable[[str], str]) -> list[Row]:
    """Examples whose response stands behind another prompt."""
    end = end_id(model.tokenizer, list(model.eos))
    made = [(model.ids(prompts(problem)), [*model.ids(text), end]) for problem, text in ROWS]
    return [{"input_ids": before + target, "labels": [IGNORED] * len(before) + target} for before, target in made]


def two_in_a_row(model: checks.Subject) -> list[Row]:
    rows = ours(model)
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return [{name: first[name] + second[name] for name in first} for first, second in pairs]


def end_in_problem(model: checks.Subject) -> list[Row]:
    end = ends(model.name)[0]
    return behind(model, lambda problem: model.prompt(f"{problem} And what does {end} mean?"))


def end_in_response(model: checks.Subject) -> list[Row]:
    return ours(model, lambda text: text.replace("I add", f"I add {ends(model.name)[0]}, then"))


def turn_in_response(model: checks.Subject) -> list[Row]:
    after = model.around_answer
    turn = model.between_turns.removeprefix(after[1] if after else "")
    return ours(model, lambda text: f"{text}\n{turn}What is 3+4?")


def empty_thought(model: checks.Subject) -> list[Row]:
    return ours(model, lambda text: f"<think>\n\n</think>\n\n{text}")


def no_answer(model: checks.Subject) -> list[Row]:
    return ours(model, lambda text: text.partition("</think>")[0] + "</think>\n")


def other_tags(model: checks.Subject) -> list[Row]:
    return ours(model, lambda text: text.replace("think>", "thinking>"))


def second_thought(model: checks.Subject) -> list[Row]:
    return ours(model, lambda text: f"{text}\n<think>\nIs it?\n</think>\nYes.")


def other_mode(model: checks.Subject) -> list[Row]:
    return behind(
        model, lambda text: model.conversation(("user", text), add_generation_prompt=True, enable_thinking=False)
    )


def not_begun(model: checks.Subject) -> list[Row]:
    return behind(model, lambda problem: model.prompt(problem).replace(model.tokenizer.bos_token, ""))


def begun_twice(model: checks.Subject) -> list[Row]:
    return behind(model, lambda problem: model.tokenizer.bos_token + model.prompt(problem))


def cut_from_left(model: checks.Subject) -> list[Row]:
    return behind(model, lambda problem: model.prompt(problem)[-len(model.prompt("")) :])


def other_family(model: checks.Subject) -> list[Row]:
    return behind(model, lambda problem: f"<|role|>human<|sep|>{problem}<|stop|><|role|>bot<|sep|>")


def no_generation_prompt(model: checks.Subject) -> list[Row]:
    return behind(model, lambda problem: model.conversation(("user", problem), add_generation_prompt=False))


def inverted(model: checks.Subject) -> list[Row]:
    rows = ours(model)
    for row in rows:
        pairs = zip(row["input_ids"], row["labels"], strict=True)
        row["labels"] = [IGNORED if label != IGNORED else token for token, label in pairs]
    return rows


def padding_masked(model: checks.Subject) -> list[Row]:
    model.tokenizer.pad_token = ends(model.name)[0]
    pad = model.tokenizer.pad_token_id
    return [row | {"labels": [IGNORED if one == pad else one for one in row["labels"]]} for row in ours(model)]


def findings(name: str, fault: dict[str, Any]) -> list[checks.Finding]:
    """What is found in one template's model or examples."""
    if "examples" in fault:
        model = published(name)
        return checks.check_examples(model, globals()[fault["examples"]](model))
    uses = [checks.Use("answers", Prompt(system=fault["system"]), Sampling(max_tokens=64))] if "system" in fault else []
    return checks.check_model(plant(name, fault), uses)


CASES = [(name, on) for name, fault in PLANTED.items() for on in fault["in"]]


@pytest.mark.parametrize(("name", "on"), CASES)
def test_a_planted_fault_is_found_with_the_right_words(name: str, on: str) -> None:
    fault = PLANTED[name]
    found = findings(on, fault)
    said = [one for one in found if one.rule == fault["rule"] and fault["says"] in one.what]
    assert said, [str(one) for one in found]
    assert said[0].why and said[0].fix and "$" not in said[0].what + said[0].fix


def test_there_are_sixty() -> None:
    assert len(PLANTED) == 60 and len(CASES) == 159
