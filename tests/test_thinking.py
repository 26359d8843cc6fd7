"""Thinking modes: the keywords of a chat template, from the recipe to the tokens of every engine and every target.

On the real tokenizers and templates of Qwen3 (a hybrid) and DeepSeek-V3 (which has no modes).
"""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from families import tokenizer as family_tokenizer

from micota import checks
from micota.chat import end_id, example, opened_thought, prompt_ids, render, unread_keywords
from micota.checks import recipes as inspection
from micota.errors import MicotaError
from micota.generation.engine import open_engine
from micota.generation.fake_server import FakeServer
from micota.generation.prompt_encoder import PromptEncoder
from micota.machine import GenerateConfig
from micota.recipe.recipe import Recipe, load
from micota.specs import Bpc, Generate, Problems, Prompt, Sampling, Source, Train
from micota.store.records import Request

QWEN, DEEPSEEK = "qwen3", "deepseek-v3"
MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "thinking": {"enable_thinking": True},
    "plain": {"enable_thinking": False},
}
TEXTS = ("What is 2+2?", "  Sei $x^{2}=\\frac{1}{4}$.\n\n", "√2 · 数学 {{y}}", "3 </think> 4", "Say <|im_end|>.")
THOUGHT, ANSWER = "Two and two.\n\nWait, so 4.", "It is $\\boxed{4}$."
SOURCE = Source(ref="endpoint:fake", revision="endpoint")


@cache
def real(shared: Path, name: str) -> Any:
    import transformers

    return transformers.AutoTokenizer.from_pretrained(shared / "tokenizers" / name)


def tokens(tok: Any, turns: list[dict[str, str]], **options: Any) -> list[int]:
    """What transformers itself makes of a conversation."""
    return list(tok.apply_chat_template(turns, tokenize=True, return_dict=False, **options))


def turns(text: str, system: str | None = None) -> list[dict[str, str]]:
    before = [] if system is None else [{"role": "system", "content": system}]
    return [*before, {"role": "user", "content": text}]


@pytest.mark.parametrize("system", [None, "Be brief."])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(("name", "mode"), [*((QWEN, mode) for mode in MODES), (DEEPSEEK, "default")])
def test_a_prompt_is_the_templates_own_token_by_token(
    name: str, mode: str, text: str, system: str | None, shared: Path
) -> None:
    tok, keywords = real(shared, name), MODES[mode]
    wanted = tokens(tok, turns(text, system), add_generation_prompt=True, **keywords)
    assert prompt_ids(tok, text, system, "chat", **keywords) == wanted
    one = example(tok, text, ANSWER, system, tok.eos_token_id, **keywords)
    assert one["input_ids"][: len(wanted)] == wanted and set(one["labels"][: len(wanted)]) == {-100}
    assert one["labels"][len(wanted) :] == [*tok(ANSWER, add_special_tokens=False)["input_ids"], tok.eos_token_id]


def test_what_the_modes_of_qwen3_write(shared: Path) -> None:
    tok = real(shared, QWEN)
    asked = {mode: render(tok, "2+2?", None, "chat", **keywords) for mode, keywords in MODES.items()}
    assert asked["default"] == asked["thinking"] == "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"
    assert asked["plain"] == asked["default"] + "<think>\n\n</think>\n\n"
    assert [opened_thought(text) for text in asked.values()] == ["", "", ""]


@pytest.mark.parametrize(
    ("mode", "response"), [("thinking", f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"), ("plain", ANSWER)]
)
def test_a_target_is_what_the_template_writes_of_the_whole_conversation(mode: str, response: str, shared: Path) -> None:
    """Qwen3's template gives an answer without a thought an empty one: just what its prompt of that mode ends in."""
    tok, end = real(shared, QWEN), end_id(real(shared, QWEN), [151645, 151643])
    ours = example(tok, "2+2?", response, None, end, **MODES[mode])["input_ids"]
    whole = tokens(tok, [*turns("2+2?"), {"role": "assistant", "content": response}], **MODES[mode])
    assert ours == whole[: len(ours)] and tok.decode(whole[len(ours) :]) == "\n"


@pytest.mark.parametrize("keywords", [{}, {"thinking": True}, {"thinking": False}])
def test_a_template_that_closes_or_opens_the_thought_itself(keywords: dict[str, bool]) -> None:
    """As DeepSeek-V3.1's does: its response begins inside the thought, or without one."""
    tok = family_tokenizer("think-closed")
    asked = render(tok, "2+2?", None, "chat", **keywords)
    thinks = bool(keywords.get("thinking"))
    assert asked.endswith("<think>" if thinks else "</think>")
    whole = f"<think>{THOUGHT}</think>{ANSWER}" if thinks else ANSWER
    target = example(tok, "2+2?", whole, None, tok.eos_token_id, **keywords)["input_ids"]
    assert tok.decode(target) == asked + whole.removeprefix("<think>") + tok.eos_token


def test_keywords_that_a_template_reads(shared: Path) -> None:
    wanted = ("enable_thinking", "enabled_thinking", "thinking")
    assert unread_keywords(real(shared, QWEN), wanted) == ["enabled_thinking", "thinking"]
    assert unread_keywords(real(shared, DEEPSEEK), wanted) == sorted(wanted)
    assert unread_keywords(family_tokenizer("think-closed"), wanted) == ["enable_thinking", "enabled_thinking"]
    assert unread_keywords(family_tokenizer("headers"), ["date_string"]) == []


REFUSED = {
    "tools": ([], "'tools' would override"),
    "thinking_mode": ("off", "is the text 'off', which a template takes for true; write true or false"),
    "thinking": ("False", "is the text 'False', which a template takes for true"),
    "reasoning_effort": (float("nan"), "is nan; a text, a number"),
    "messages": ("x", "'messages' would override"),
    "chat_template": ("x", "'chat_template' would override"),
    "add_generation_prompt": (False, "'add_generation_prompt' would override"),
    "tokenize": (True, "'tokenize' would override"),
    "bos_token": ("x", "'bos_token' would override"),
    "enable-thinking": (True, "is no keyword of a chat template"),
    "": (True, "is no keyword of a chat template"),
    "enable_thinking": (None, "enable_thinking is None; a text, a number, true or false is expected"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_override_ours_is_refused(name: str) -> None:
    value, says = REFUSED[name]
    for make in (Prompt, lambda **fields: Train(base=SOURCE, data=rows(), **fields)):
        with pytest.raises(ValueError, match=says):
            make(template_kwargs={name: value})


def rows() -> Any:
    from micota.specs import SftData

    return SftData(source=SOURCE)


def test_a_raw_prompt_has_no_keywords() -> None:
    with pytest.raises(ValueError, match="mode: raw goes through no chat template"):
        Prompt(mode="raw", template_kwargs=MODES["plain"])


def generation(mode: str = "default", model: Source = SOURCE, **sampling: Any) -> Generate:
    prompt = Prompt(template="{problem}", template_kwargs=MODES[mode])
    return Generate(
        model=model, problems=Problems(source=SOURCE), prompt=prompt, sampling=Sampling(**sampling), precision="float32"
    )


def test_a_mode_is_identity_and_none_is_none() -> None:
    plain, bare = generation("plain"), generation()
    assert bare.digest == generation().changed(prompt=Prompt(template="{problem}")).digest
    assert "template_kwargs" not in json.dumps(bare.own_fields)
    assert len({generation(mode).digest for mode in MODES}) == len({generation(mode).pool("x") for mode in MODES}) == 3
    assert plain.own_fields["prompt"] == {"template": "{problem}", "template_kwargs": {"enable_thinking": False}}
    for make in (Train, lambda **fields: Bpc(model=fields.pop("base"), **fields)):
        digests = {make(base=SOURCE, data=rows(), template_kwargs=keywords).digest for keywords in MODES.values()}
        assert len(digests) == 3
    two = ({"a": 1, "b": "x"}, {"b": "x", "a": 1})
    assert len({Prompt(template_kwargs=keywords) for keywords in two}) == 1
    assert len({generation().changed(prompt=Prompt(template_kwargs=one)).digest for one in two}) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_server_gets_the_keywords(mode: str) -> None:
    with FakeServer(lambda message: "4") as server:
        place = GenerateConfig(engine="openai", url=server.url, fake=True)
        engine = open_engine(generation(mode, top_k=5, temperature=0.5, max_tokens=9), None, place, 1)
        try:
            assert [one.text for group in engine.answer([Request("a", 0, "2+2?")]) for one in group] == ["4"]
        finally:
            engine.close()
    body = server.bodies[0]
    assert body.get("chat_template_kwargs", {}) == MODES[mode] and ("chat_template_kwargs" in body) == bool(MODES[mode])
    assert body["top_k"] == 5 and "extra_body" not in body


@pytest.fixture(scope="session")
def hybrid(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers and random weights with Qwen3's own tokenizer and template."""
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("hybrid")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "head_dim": 4, "num_attention_heads": 2}
    config = Qwen3Config(
        vocab_size=151936, num_key_value_heads=1, max_position_embeddings=4096, tie_word_embeddings=True, **sizes
    )
    model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=[151645, 151643], pad_token_id=151643)
    model.save_pretrained(folder)
    real(shared, QWEN).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("mode", MODES)
def test_an_engine_with_the_tokenizer_reads_the_modes_prompt(mode: str, hybrid: Path, shared: Path) -> None:
    engine = open_engine(generation(mode, max_tokens=3), hybrid, GenerateConfig(batch=2), 1)
    answers = [one for group in engine.answer([Request("a", 0, "2+2?")]) for one in group]
    engine.close()
    wanted = tokens(real(shared, QWEN), turns("2+2?"), add_generation_prompt=True, **MODES[mode])
    assert [one.prompt_tokens for one in answers] == [len(wanted)]


def test_a_server_that_ignores_the_keywords_is_found(hybrid: Path) -> None:
    """The fake counts words: five of them make the prompt of neither mode."""
    source = Source(ref=str(hybrid), revision="x", path=str(hybrid))
    with FakeServer(lambda message: "4", model="fake") as server:
        place = GenerateConfig(engine="openai", url=server.url, served="fake", fake=True)
        engine = open_engine(generation("plain", source, max_tokens=9), hybrid, place, 1)
        try:
            with pytest.raises(MicotaError, match="tokens on the server") as caught:
                list(engine.answer([Request("a", 0, "2+2?")]))
        finally:
            engine.close()
    assert "ignores chat_template_kwargs" in str(caught.value)


def test_an_engine_refuses_a_keyword_that_is_never_read(shared: Path) -> None:
    asked = generation().changed(prompt=Prompt(template_kwargs={"enabled_thinking": False}))
    with pytest.raises(MicotaError, match="never reads enabled_thinking"):
        PromptEncoder(asked, real(shared, QWEN), None)


RECIPE = """
name: modes
let:
  set: {problems: {source: ./problems.jsonl}}
  data: {rows: {source: ./rows.jsonl}}
arms:
  base: ./model
  tuned: {train: {base: ./model, data: data, cutoff: 300%s}}
evaluate:
  models: [tuned]
  data: [set]
  prompt: {template: "{problem}"%s}
  sampling: {max_tokens: 20}
measure: {bpc: {models: [base], data: [data]%s}}
"""
KEYWORDS = ", template_kwargs: {enable_thinking: %s}"


@pytest.fixture
def world(hybrid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(hybrid, tmp_path / "model")
    (tmp_path / "problems.jsonl").write_text('{"problem": "2+2?", "answer": "4"}\n')
    (tmp_path / "rows.jsonl").write_text('{"prompt": "2+2?", "response": "It is 4."}\n' * 2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe(world: Path, trained: str = "", asked: str = "", measured: str = "") -> Recipe:
    (world / "modes.yaml").write_text(RECIPE % (trained, asked, measured))
    return load(str(world / "modes.yaml"))


def found(made: Recipe) -> list[tuple[str, str, str]]:
    return [(one.rule, one.severity, one.what) for one in inspection.inspect(made.targets)[1]]


ON, OFF = KEYWORDS % "true", KEYWORDS % "false"


@pytest.mark.parametrize(("trained", "asked"), [("", ""), (ON, ON), (OFF, OFF), ("", ON), (ON, "")])
def test_one_mode_is_passed_over_in_silence(trained: str, asked: str, world: Path) -> None:
    """Also where a keyword says what the template does anyway."""
    assert found(recipe(world, trained, asked)) == []


@pytest.mark.parametrize(("trained", "asked"), [("", OFF), (OFF, ""), (ON, OFF), (OFF, ON)])
def test_a_planted_mismatch_of_modes_is_found(trained: str, asked: str, world: Path) -> None:
    ((rule, severity, what),) = found(recipe(world, trained, asked))
    assert (rule, severity) == ("template-kwargs", "warning") and "another mode of its chat template" in what


def test_a_misspelt_keyword_is_found(world: Path) -> None:
    misspelt = ", template_kwargs: {enable_thinkin: false}"
    ((rule, severity, what),) = found(recipe(world, misspelt, misspelt))
    assert (rule, severity) == ("template-kwargs", "error") and "never reads the keyword enable_thinkin" in what
    with pytest.raises(MicotaError, match="write enable_thinking, or remove it"):
        checks.raise_first(inspection.inspect(recipe(world, misspelt, misspelt).targets)[1])


def test_a_recipe_with_modes_reads_back(world: Path) -> None:
    made = recipe(world, OFF, ON, OFF)
    assert made.measures["bpc:data@base"].template_kwargs == {"enable_thinking": False}
    made.save(world / "again.yaml")
    again = load(str(world / "again.yaml"))
    assert {one.digest for one in again.targets} == {one.digest for one in made.targets}


def test_an_override_chooses_the_mode(world: Path) -> None:
    recipe(world)
    made = load(str(world / "modes.yaml"), ["evaluate.prompt.template_kwargs.enable_thinking=false"])
    assert {one.spec.completions.prompt.template_kwargs["enable_thinking"] for one in made.evaluations} == {False}
    assert made.name.startswith("modes+evaluate.prompt.template_kwargs")


def subject(shared: Path, keywords: dict[str, Any]) -> checks.Subject:
    tok = real(shared, QWEN)
    whole = checks.Subject.of("qwen3", tok, {"eos_token_id": [151645, 151643]}, {"vocab_size": 151936})
    return whole.asked_with(keywords)


@pytest.mark.parametrize("trained", MODES)
@pytest.mark.parametrize("made", MODES)
def test_examples_of_another_mode_are_found(made: str, trained: str, shared: Path) -> None:
    response = ANSWER if made == "plain" else f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"
    examples = [example(real(shared, QWEN), text, response, None, 151645, **MODES[made]) for text in TEXTS[:3]]
    findings = checks.check_examples(subject(shared, MODES[trained]), examples)
    if (made == "plain") == (trained == "plain"):
        assert findings == []
        return
    (finding,) = findings
    said = "with enable_thinking=False" if made == "plain" else "with enable_thinking=True"
    assert finding.rule == "prompt" and f"it was made {said}, generation is with" in finding.what


def test_a_thought_behind_a_closed_one_is_found(shared: Path) -> None:
    response = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"
    examples = [example(real(shared, QWEN), text, response, None, 151645, **MODES["plain"]) for text in TEXTS[:3]]
    (finding,) = checks.check_examples(subject(shared, MODES["plain"]), examples)
    assert (finding.rule, finding.severity) == ("thought", "error") and "has closed the thought" in finding.what


def test_a_benchmarks_prompt_stays_where_only_a_mode_is_asked_for() -> None:
    from micota.benchmarks import BOXED_PROMPT
    from micota.recipe.constructors import evaluation

    made = evaluation("endpoint:fake", "math500", prompt={"template_kwargs": MODES["plain"]}).completions.prompt
    assert (made.template, made.template_kwargs) == (BOXED_PROMPT, MODES["plain"])
    asked = Prompt(template_kwargs=MODES["plain"])
    assert evaluation("endpoint:fake", "math500", prompt=asked).completions.prompt == asked
