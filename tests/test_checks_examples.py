"""The linter on training examples and packed batches, made well and badly, as other trainers make them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from families import FAMILIES, ROWS, ours, place, subject, the
from transformers import DataCollatorForLanguageModeling as MaskedByIds

from micota import checks
from micota.chat import THOUGHT, end_id, example, prompt_ids
from micota.checks import packing

Rows = list[dict[str, Any]]
PROMPT, RESPONSE = ROWS[0]
IGNORED = -100


def templated(model: checks.Subject, prompt: str = PROMPT, response: str = RESPONSE, system: str | None = None) -> Any:
    """An example whose response went through the chat template, as most trainers make one."""
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": prompt})
    tok = model.tokenizer
    before = str(tok.apply_chat_template(turns, tokenize=False))
    whole = str(tok.apply_chat_template([*turns, {"role": "assistant", "content": response}], tokenize=False))
    ids, end = model.ids(whole), 0
    head = str(tok.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    for text in (head, head.removesuffix("<think>\n"), before):
        if whole.startswith(text):
            end = len(model.ids(text))
            break
    return {"input_ids": ids, "labels": [IGNORED] * end + ids[end:], "response": response}


def without_what_follows(model: checks.Subject, one: Any) -> Any:
    """The example up to its end token."""
    end = max(at for at, token in enumerate(one["input_ids"]) if token in model.eos) + 1
    return {**one, "input_ids": one["input_ids"][:end], "labels": one["labels"][:end]}


def no_end(model: checks.Subject, one: Any) -> None:
    del one["input_ids"][-1], one["labels"][-1]


def end_masked(model: checks.Subject, one: Any) -> None:
    one["labels"][-1] = IGNORED


def padding_masked_by_id(model: checks.Subject, one: Any) -> None:
    """What the masked-language collator of transformers does where padding and end are one token."""
    model.tokenizer.pad_token = model.tokenizer.eos_token
    made = MaskedByIds(model.tokenizer, mlm=False)([{"input_ids": one["input_ids"]}])
    keep = [label != IGNORED for label in one["labels"]]
    after = [int(label) for label in made["labels"][0]]
    one["labels"] = [label if kept else IGNORED for label, kept in zip(after, keep, strict=True)]


def line_end_learnt(model: checks.Subject, one: Any) -> None:
    extra = model.ids("\n")
    one["input_ids"] += extra
    one["labels"] += extra


def end_twice(model: checks.Subject, one: Any) -> None:
    one["input_ids"] += one["input_ids"][-1:]
    one["labels"] += one["labels"][-1:]


def other_end(model: checks.Subject, one: Any) -> None:
    one["input_ids"][-1] = one["labels"][-1] = model.tokenizer.convert_tokens_to_ids("<|im_start|>")


def end_of_the_base(model: checks.Subject, one: Any) -> None:
    one["input_ids"][-1] = one["labels"][-1] = model.tokenizer.convert_tokens_to_ids("<|endoftext|>")


def prompt_learnt(model: checks.Subject, one: Any) -> None:
    one["labels"] = list(one["input_ids"])


def half_of_the_prompt_learnt(model: checks.Subject, one: Any) -> None:
    first = next(at for at, label in enumerate(one["labels"]) if label != IGNORED)
    one["labels"][first - 3 :] = one["input_ids"][first - 3 :]


def beginning_learnt(model: checks.Subject, one: Any) -> None:
    one["labels"][:5] = one["input_ids"][:5]


def padding_learnt(model: checks.Subject, one: Any) -> None:
    size, pad = len(one["input_ids"]), [model.tokenizer.pad_token_id] * 6
    one |= {"input_ids": one["input_ids"] + pad, "labels": one["labels"] + pad}
    one["attention_mask"] = [1] * size + [0] * 6


def thought_not_learnt(model: checks.Subject, one: Any) -> None:
    close = model.ids(THOUGHT[1])
    at = max(i for i in range(len(one["input_ids"])) if one["input_ids"][i : i + len(close)] == close)
    one["labels"][: at + len(close)] = [IGNORED] * (at + len(close))


def begun_twice(model: checks.Subject, one: Any) -> None:
    one["input_ids"].insert(0, model.tokenizer.bos_token_id)
    one["labels"].insert(0, IGNORED)


def nothing_learnt(model: checks.Subject, one: Any) -> None:
    one["labels"] = [IGNORED] * len(one["labels"])


def labels_shifted(model: checks.Subject, one: Any) -> None:
    one["labels"] = [*one["labels"][1:], IGNORED]


def labels_too_few(model: checks.Subject, one: Any) -> None:
    del one["labels"][-1]


def cut(model: checks.Subject, one: Any) -> None:
    for name in ("input_ids", "labels"):
        del one[name][-9:]


def replaced(new: str) -> Callable[[checks.Subject, Any], None]:
    """The example of another response, tokenized as it is behind the same prompt."""

    def change(model: checks.Subject, one: Any) -> None:
        before = prompt_ids(model.tokenizer, PROMPT, None)
        target = [*model.ids(new), end_id(model.tokenizer, list(model.eos))]
        one |= {"input_ids": before + target, "labels": [IGNORED] * len(before) + target}

    return change


def beyond_the_rows(model: checks.Subject, one: Any) -> None:
    one["input_ids"][3] = 5000


def two_in_a_row(model: checks.Subject, one: Any) -> None:
    one["input_ids"], one["labels"] = one["input_ids"] * 2, one["labels"] * 2


def asked(problem: str, **options: Any) -> Callable[[checks.Subject, Any], None]:
    """The example of another problem, or of a template with other options."""

    def change(model: checks.Subject, one: Any) -> None:
        response = [token for token in one["labels"] if token != IGNORED]
        before = model.ids(model.conversation(("user", problem), add_generation_prompt=True, **options))
        one |= {"input_ids": before + response, "labels": [IGNORED] * len(before) + response}

    return change


FAULTS = [
    ("think-hybrid", two_in_a_row, "packing", "2 examples stand in one row"),
    ("chatml-default", two_in_a_row, "packing", "2 examples stand in one row"),
    ("think-hybrid", asked("What does <|im_end|> mean?"), "special-text", "inside a problem: <|im_end|>"),
    ("llama-3", asked("Say <|eot_id|> twice, then 4."), "special-text", "inside a problem: <|eot_id|>"),
    ("think-hybrid", asked("Why?", enable_thinking=False), "prompt", "made with enable_thinking=False"),
    ("chatml-default", replaced("<think>\n\n</think>\n\n" + RESPONSE), "thought", "empty, and another follows"),
    ("qwen2.5-instruct", no_end, "end", "has no EOS token"),
    ("qwen2.5-instruct", end_masked, "end", "<|im_end|> is not in the loss"),
    ("deepseek-r1-distill-qwen", padding_masked_by_id, "end", "it is the padding token too"),
    ("llama-3", padding_masked_by_id, "end", "it is the padding token too"),
    ("qwen2.5-instruct", line_end_learnt, "after-end", "1 tokens after the EOS token"),
    ("qwq-32b", end_twice, "after-end", "1 tokens after the EOS token"),
    ("qwen2.5-instruct", other_end, "end", "ends with <|im_start|>"),
    ("think-hybrid", end_of_the_base, "end", "its chat template ends answers with <|im_end|>"),
    ("qwen2.5-instruct", prompt_learnt, "prompt", "the prompt is in the loss"),
    ("llama-3", prompt_learnt, "prompt", "the prompt is in the loss"),
    ("think-hybrid", half_of_the_prompt_learnt, "prompt", "the prompt is in the loss: 3 tokens"),
    ("chatml-default", beginning_learnt, "prompt", "the prompt is in the loss"),
    ("think-deleted", padding_learnt, "after-end", "tokens after the EOS token"),
    ("headers", replaced(""), "empty", "a response is empty"),
    ("chatml-default", thought_not_learnt, "prompt", "the beginning of the response is not in the loss"),
    ("llama-3", begun_twice, "begin", "begins with <|begin_of_text|> twice"),
    ("inst", begun_twice, "begin", "begins with <s> twice"),
    ("inst", nothing_learnt, "labels", "no token of an example is in the loss"),
    ("turns", labels_shifted, "labels", "labels of an example are not its tokens"),
    ("turns", labels_too_few, "labels", "labels"),
    ("qwq-32b", cut, "end", "has no EOS token"),
    ("qwq-32b", replaced("<think>\n" + RESPONSE), "thought", "opened twice"),
    ("think-deleted", replaced("<think>" + RESPONSE), "thought", "opened twice"),
    ("qwq-32b", replaced("It is 4."), "thought", "never closed"),
    ("chatml-default", replaced("<think>\nIt is 4."), "thought", "never closed"),
    ("chatml-default", replaced("Two.\n</think>\n\nIt is 4."), "thought", "closed but never opened"),
    ("think-hybrid", replaced("<think>\nTwo.\n</think>\n\n</think>\n\nIt is 4."), "thought", "closed twice"),
    ("qwen2.5-instruct", beyond_the_rows, "rows", "the token 5000"),
    ("qwen2.5-instruct", replaced("So <|im_end|> ends it, and then it is 4 after all."), "special-text", "<|im_end|>"),
]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(("name", "plant", "check", "says"), FAULTS)
def test_a_fault_planted_in_examples_is_found(
    name: str,
    plant: Callable[[checks.Subject, Any], None],
    check: str,
    says: str,
    many: bool,
    request: pytest.FixtureRequest,
) -> None:
    """Whether the problems are known or not, in one example alone or in all."""
    model = subject(name, place(name, request))
    rows = ours(model, known=False)[: 4 if many else 1]
    for one in rows:
        plant(model, one)
    the(checks.check_examples(model, rows), check, says)


def test_a_cut_at_the_cutoff_and_a_cut_to_come_are_told_apart() -> None:
    model = subject("chatml-default")
    one = ours(model, known=False)[0]
    size = len(one["input_ids"])
    the(checks.check_examples(model, [one], cutoff=size - 1), "length", f"has {size} tokens, the cutoff is {size - 1}")
    cut_one = {name: values[: size - 9] for name, values in one.items()}
    says = f"a response is cut at the cutoff of {size - 9} tokens"
    the(checks.check_examples(model, [cut_one], cutoff=size - 9), "end", says)


@pytest.mark.parametrize("name", ["deepseek-r1-distill-qwen", "qwq-32b", "think-deleted", "think-opened"])
def test_examples_made_by_a_template_that_opens_the_thought_for_generation_alone(
    name: str, request: pytest.FixtureRequest
) -> None:
    """R1-Distill's deletes the chain; QwQ's keeps it, and then the thought's opening is learnt, which does no harm."""
    model = subject(name, place(name, request))
    one = without_what_follows(model, templated(model))
    for known in (True, False):
        row = one if known else {key: one[key] for key in ("input_ids", "labels")}
        found = checks.check_examples(model, [row])
        if "opened" in name or "qwq" in name:
            assert found == []
        elif known:
            assert {finding.rule for finding in found} == {"prompt", "response"}
            assert any(finding.what == "the thought is lost" for finding in found)
        else:
            the(found, "prompt", "the prompt in training differs")


def test_a_thought_that_a_template_deletes_is_found_where_the_response_is_known() -> None:
    source = subject("chatml-default").tokenizer.chat_template
    text = source.replace("message.content +", "message.content.split('</think>')[-1].lstrip() +")
    model = subject("chatml-default")
    model.tokenizer.chat_template = text
    one = without_what_follows(model, templated(model))
    model.tokenizer.chat_template = source
    the(checks.check_examples(model, [one]), "response", "the thought is lost")


SYSTEMS = [("chatml-default", "Be brief."), ("llama-3", "Be brief."), ("qwq-32b", "Be brief.")]


@pytest.mark.parametrize(("name", "system"), SYSTEMS)
@pytest.mark.parametrize("known", [True, False])
def test_another_system_message_in_training_is_found(
    name: str, system: str, known: bool, request: pytest.FixtureRequest
) -> None:
    model = subject(name, place(name, request))
    assert checks.check_examples(model, ours(model, known, system), system) == []
    found = the(checks.check_examples(model, ours(model, known, system)), "prompt", "the prompt in training differs")
    assert system in dict(found.evidence)["training"]
    the(checks.check_examples(model, ours(model, known), system), "prompt", "the prompt in training differs")


def test_examples_that_were_made_without_the_template_are_found() -> None:
    model = subject("chatml-default")
    ids = model.ids(PROMPT)
    target = [*model.ids(RESPONSE), model.eos[0]]
    one = {"input_ids": ids + target, "labels": [IGNORED] * len(ids) + target}
    the(checks.check_examples(model, [one]), "prompt", "the prompt in training differs")


@pytest.mark.parametrize("known", [True, False])
def test_tokens_that_are_joined_over_the_border_are_found(known: bool) -> None:
    """The prompt ends in a line end, the response begins with one, and together they are one token."""
    model = subject("chatml-default")
    response = "\n\nIt is 4."
    text = str(model.tokenizer.apply_chat_template([{"role": "user", "content": PROMPT}], tokenize=False))
    text += "<|im_start|>assistant\n"
    ids = [*model.ids(text + response), model.eos[0]]
    first = len(model.ids(text))
    one = {"input_ids": ids, "labels": [IGNORED] * first + ids[first:]}
    texts = {"response": response} if known else {}
    assert checks.check_examples(model, [one | texts])[0].rule == "prompt"
    apart = example(model.tokenizer, PROMPT, response, None, model.eos[0])
    assert checks.check_examples(model, [apart | texts]) == []


def test_what_lies_in_few_rows_of_the_data_is_a_warning() -> None:
    model = subject("qwen2.5-instruct", template=subject("chatml-default").tokenizer.chat_template)
    rows = ours(model, known=False)
    replaced("<think>\nIt is 4.")(model, rows[0])
    found = the(checks.check_examples(model, rows), "thought", "(in 1 of 4 examples)")
    assert found.severity == "warning"
    assert found.error().why and "\n" not in dict(found.evidence)["in the loss"].replace("\n", "")


def test_what_a_tokenizer_does_not_know_is_warned_of() -> None:
    model = subject("inst")
    rows = ours(model, known=False)
    rows[0]["input_ids"][-3] = rows[0]["labels"][-3] = model.tokenizer.unk_token_id
    assert the(checks.check_examples(model, rows), "unknown", "<unk> in the loss").severity == "warning"


def test_padding_and_masks_are_read_as_a_trainer_does() -> None:
    model = subject("chatml-default")
    one, pad = ours(model, known=False)[0], model.tokenizer.pad_token_id
    size = len(one["input_ids"])
    for side in ("left", "right"):
        fill = lambda values, with_, side=side: [with_] * 5 + values if side == "left" else values + [with_] * 5  # noqa: E731
        padded = {"input_ids": fill(one["input_ids"], pad), "labels": fill(one["labels"], IGNORED)}
        assert checks.check_examples(model, [padded | {"attention_mask": fill([1] * size, 0)}]) == []
    mask = [int(label != IGNORED) for label in one["labels"]]
    assert checks.check_examples(model, [{"input_ids": one["input_ids"], "completion_mask": mask}]) == []
    the(checks.check_examples(model, [{"input_ids": one["input_ids"]}]), "prompt", "the prompt is in the loss")


def test_conversations_of_several_turns_are_taken() -> None:
    model = subject("chatml-default")
    first, second = (example(model.tokenizer, *row, None, model.eos[0]) for row in (ROWS[0], ROWS[2]))
    line = model.ids("\n")
    skip = len(model.ids("<|im_start|>system\nYou help with sums.<|im_end|>\n"))
    one = {
        "input_ids": first["input_ids"] + line + second["input_ids"][skip:],
        "labels": first["labels"] + [IGNORED] * len(line) + second["labels"][skip:],
    }
    assert checks.check_examples(model, [one]) == []


@pytest.fixture(params=["chatml-default", "think-deleted", "inst", "headers", "turns", "separated"])
def model(request: pytest.FixtureRequest) -> checks.Subject:
    return subject(request.param)


def packed(model: checks.Subject, padding: int | None = None) -> dict[str, Any]:
    """A batch as TRL collates packed rows."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    pad = model.tokenizer.pad_token_id if model.tokenizer.pad_token else model.tokenizer.eos_token_id
    collate = DataCollatorForLanguageModeling(pad_token_id=pad, padding_free=True, pad_to_multiple_of=padding)
    rows = ours(model, known=False)
    joined = {name: [token for one in rows for token in one[name]] for name in ("input_ids", "labels")}
    made = collate([joined | {"seq_lengths": [len(one["input_ids"]) for one in rows]}])
    return dict(made)


def lengths() -> Callable[[checks.Subject], list[list[int]]]:
    return lambda model: [[len(one["input_ids"]) for one in ours(model, known=False)]]


@pytest.mark.parametrize("padding", [None, 64])
def test_a_batch_that_trl_has_packed_is_passed_over_in_silence(model: checks.Subject, padding: int | None) -> None:
    batch = packed(model, padding)
    assert checks.check_batch(model, batch) == []
    assert checks.check_batch(model, batch, lengths()(model)) == []
    assert checks.check_batch(model, {name: batch[name] for name in ("input_ids", "labels", "position_ids")}) == []


def positions_not_reset(batch: dict[str, Any]) -> None:
    batch["position_ids"][0] = range_like(batch)


def range_like(batch: dict[str, Any]) -> Any:
    import torch

    return torch.arange(batch["position_ids"].shape[1])


def no_positions(batch: dict[str, Any]) -> None:
    for name in ("position_ids", "seq_idx", "cu_seq_lens_q"):
        batch.pop(name)


def plain_mask(batch: dict[str, Any]) -> None:
    batch["attention_mask"] = batch["input_ids"] * 0 + 1


def one_bound_forgotten(batch: dict[str, Any]) -> None:
    bounds = batch["cu_seq_lens_q"].tolist()
    batch["cu_seq_lens_q"] = bounds[:1] + bounds[2:]


def one_sequence(batch: dict[str, Any]) -> None:
    batch["seq_idx"] = batch["seq_idx"] * 0


def jump(batch: dict[str, Any]) -> None:
    batch["position_ids"][0, 7:] += 3 * (batch["position_ids"][0, 7:] > 0)


def border_learnt(batch: dict[str, Any]) -> None:
    start = int(batch["cu_seq_lens_q"][1])
    batch["labels"][0, start] = batch["input_ids"][0, start]


LEAKS = [
    (positions_not_reset, "not at 0"),
    (no_positions, "has no position_ids"),
    (plain_mask, "a plain attention_mask"),
    (one_bound_forgotten, "cu_seq_lens_q begins examples at"),
    (one_sequence, "seq_idx begins examples at"),
    (jump, "positions jump inside an example"),
    (border_learnt, "a next-token target of the one before"),
]


@pytest.mark.parametrize(("plant", "says"), LEAKS)
@pytest.mark.parametrize("known", [True, False])
def test_a_leak_planted_in_a_packed_batch_is_found(
    model: checks.Subject, plant: Callable[[dict[str, Any]], Any], says: str, known: bool
) -> None:
    batch = copy.deepcopy(packed(model))
    plant(batch)
    found = packing.check(model, batch, lengths()(model) if known else None)
    the(found, "packing", says)


def test_a_mask_that_numbers_the_examples_is_taken(model: checks.Subject) -> None:
    batch = packed(model)
    batch["attention_mask"] = batch["seq_idx"] + 1
    assert checks.check_batch(model, batch) == []
    batch["attention_mask"][0, 5:] += 1
    the(checks.check_batch(model, batch), "packing", "attention_mask begins examples at")


def test_the_examples_of_a_batch_are_looked_at_one_by_one() -> None:
    model = subject("chatml-default")
    batch = packed(model)
    batch["labels"][0, -1] = IGNORED
    the(checks.check_batch(model, batch), "end", "is not in the loss")


def test_packed_rows_are_looked_at_as_what_they_are() -> None:
    model = subject("chatml-default")
    batch = {name: values[0].tolist() for name, values in packed(model).items() if name in ("input_ids", "labels")}
    assert checks.check_examples(model, [batch | {"seq_lengths": lengths()(model)[0]}]) == []
    size = len(batch["input_ids"])
    restarts = [at - max(start for start in starts(model) if start <= at) for at in range(size)]
    assert checks.check_examples(model, [batch | {"position_ids": restarts}]) == []
    the(checks.check_examples(model, [batch | {"position_ids": list(range(size))}]), "packing", "not at 0")
    the(checks.check_examples(model, [batch]), "packing", "4 examples stand in one row")


def starts(model: checks.Subject) -> list[int]:
    each = lengths()(model)[0]
    return [sum(each[:at]) for at in range(len(each))]


def test_a_padded_batch_is_one_example_a_row() -> None:
    model = subject("chatml-default")
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    batch = DataCollatorForLanguageModeling(pad_token_id=model.tokenizer.pad_token_id)(ours(model, known=False))
    assert checks.check_batch(model, batch) == []
    assert len(FAMILIES) > 12
