"""The linter: silent on healthy models and examples, and finds what was planted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from families import DATA, FAMILIES, ours, place, subject, template, the

from micota import checks
from micota.checks.finding import messages
from micota.checks.limits import PLAIN, THINKING
from micota.checks.recipes import compare_prompts
from micota.specs import Prompt, Sampling

FAULTS: dict[str, dict[str, Any]] = yaml.safe_load((DATA / "faults.yaml").read_text())


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> checks.Subject:
    return subject(request.param, place(request.param, request))


def test_a_healthy_model_is_passed_over_in_silence(family: checks.Subject) -> None:
    assert checks.check_model(family) == []
    uses = [
        checks.Use("training", cutoff=1024),
        checks.Use("answers", sampling=Sampling(stop=("Problem:",), max_tokens=64)),
    ]
    assert checks.check_model(family, uses) == []


@pytest.mark.parametrize("known", [True, False])
def test_healthy_examples_are_passed_over_in_silence(family: checks.Subject, known: bool) -> None:
    assert checks.check_examples(family, ours(family, known), cutoff=1024) == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_planted_in_a_model_is_found(name: str, request: pytest.FixtureRequest) -> None:
    fault = dict(FAULTS[name])
    base, check, says = (fault.pop(key) for key in ("family", "check", "says"))
    shared = place(base, request)
    if "old" in fault:
        old = fault.pop("old")
        assert old in template(base, shared)
        fault["template"] = template(base, shared).replace(old, fault.pop("new"))
    found = the(checks.check_model(subject(base, shared, **fault)), check, says)
    assert found.evidence or check in ("template", "end", "rows")


SYSTEM = [
    ("qwen2.5-instruct", "the same", "the same", None),
    ("qwen2.5-instruct", "Be brief.", None, "another system message"),
    ("llama-3", None, "Think.", "another system message"),
]


@pytest.mark.parametrize(("name", "training", "asking", "says"), SYSTEM)
def test_a_model_is_asked_with_the_system_message_it_was_trained_with(
    name: str, training: str | None, asking: str | None, says: str | None, shared: Path
) -> None:
    model = subject(name, shared)
    one, two = checks.Use("training", Prompt(system=training), cutoff=9), checks.Use("answers", Prompt(system=asking))
    found = list(compare_prompts(model, one, two))
    if says is None:
        assert found == []
        return
    finding = the(found, "system", says)
    assert len({text for _, text in finding.evidence}) == 2


def test_a_model_trained_by_its_template_and_asked_raw_is_warned_of() -> None:
    asked = checks.Use("answers", Prompt(mode="raw"))
    found = the(
        list(compare_prompts(subject("inst"), checks.Use("training", cutoff=9), asked)), "mode", "generates without it"
    )
    assert found.severity == "warning"


@pytest.mark.parametrize(("name", "says"), [("turns", "refuses"), ("inst", "refuses"), ("dropping", "leaves")])
def test_a_system_message_that_the_template_does_not_take_is_found(name: str, says: str) -> None:
    text = template("inst").replace("{{ raise_exception('Only user and assistant roles are supported!') }}", "")
    model = subject("inst", template=text) if name == "dropping" else subject(name)
    the(checks.check_model(model, [checks.Use("answers", Prompt(system="Be brief."))]), "system", says)
    assert checks.check_model(model, [checks.Use("answers")]) == []


STOPS = [
    (("Problem:",), False, None),
    (("Q:", "</s>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>user<|end_header_id|>"), False, None),
    (("<|eot_id|>",), False, None),
    (("Problem:",), True, "ends a thought"),
    (("\n\n",), False, "ends an answer"),
    (("\\boxed",), False, "ends an answer"),
    (("</think>",), False, "is a thought tag"),
    (("<|eot_id|>\n",), False, "can never be seen"),
    (("Problem:", "<|start_header_id|>user"), False, "can never be seen"),
]


@pytest.mark.parametrize(("stops", "in_thought", "says"), STOPS)
def test_stop_strings_that_fire_too_early_or_never(stops: tuple[str, ...], in_thought: bool, says: str | None) -> None:
    sampling = Sampling(stop=stops, stop_in_thought=in_thought, max_tokens=64)
    found = checks.check_model(subject("headers"), [checks.Use("answers", sampling=sampling)])
    if says is None:
        assert found == []
    else:
        the(found, "stop", says)


def test_an_end_that_is_named_as_a_stop_string_ends_generation() -> None:
    model = subject("headers", stops=["<|end_of_text|>"])
    assert (
        checks.check_model(model, [checks.Use("answers", sampling=Sampling(stop=("<|eot_id|>",), max_tokens=64))]) == []
    )
    assert checks.check_model(model, [checks.Use("answers", sampling=Sampling(max_tokens=64))]) != []


def test_what_is_asked_raw_needs_no_template() -> None:
    raw = [checks.Use("answers", Prompt(mode="raw"), Sampling(max_tokens=64))]
    assert checks.check_model(subject("chatml-default", template=None), raw) == []
    assert checks.check_model(subject("chatml-default", stops=["<|endoftext|>"], eos="<|endoftext|>"), raw) == []


def test_more_tokens_than_positions_are_warned_of() -> None:
    model = subject("inst", context=512)
    uses = [checks.Use("answers", sampling=Sampling(max_tokens=600)), checks.Use("training", cutoff=700)]
    assert [(one.rule, one.severity) for one in checks.check_model(model, uses)] == [("context", "warning")] * 2


def test_a_row_that_only_another_token_lacks_is_warned_of() -> None:
    model = subject("qwen2.5-instruct", template=template("chatml-default"))
    model.tokenizer.add_tokens(["<unused>"])
    assert (
        checks.check_model(
            checks.Subject.of("m", model.tokenizer, {"eos_token_id": list(model.eos)}, {"vocab_size": 300})
        )
        == []
    )
    size = len(model.tokenizer) - 1
    found = checks.check_model(
        checks.Subject.of("m", model.tokenizer, {"eos_token_id": list(model.eos)}, {"vocab_size": size})
    )
    assert the(found, "rows", f"{size} rows: none for <unused>").severity == "warning"


def test_a_configuration_that_holds_its_language_model_apart_is_read() -> None:
    tok = subject("inst").tokenizer
    read = checks.Subject.of(
        "m", tok, None, {"eos_token_id": 260, "text_config": {"vocab_size": 9, "max_position_embeddings": 7}}
    )
    assert (read.eos, read.rows, read.context) == ((260,), 9, 7)


def test_the_probe_has_what_betrays() -> None:
    assert "<think>" in THINKING and "\\boxed{" in PLAIN


def test_every_message_says_what_is_wrong_why_it_matters_and_what_to_change() -> None:
    for name, message in messages().items():
        assert message.keys() - {"rule", "severity"} == {"what", "why", "fix"}, name


def test_every_rule_is_in_the_docs() -> None:
    text = (Path(__file__).parents[1] / "docs" / "checks.md").read_text()
    rules = {message.get("rule", name) for name, message in messages().items()}
    assert [rule for rule in rules if f"`{rule}`" not in text] == []
