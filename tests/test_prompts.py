"""Prompts and targets under the chat templates of real models, with a small tokenizer of our own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from micota.chat import end_id, example, opened_thought, prompt_ids, render
from micota.errors import MicotaError
from micota.specs import Prompt, Sampling

SPECIAL = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<think>",
    "</think>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
]
SPECIAL += ["<｜begin▁of▁sentence｜>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
ENDS = {"qwen2.5-instruct": "<|im_end|>", "qwq-32b": "<|im_end|>", "llama-3": "<|eot_id|>"}
ENDS |= {"deepseek-r1-distill-qwen": "<｜end▁of▁sentence｜>"}
TEXT = "We add.\n</think>\n\nIt is \\boxed{4}."


def tokenizer(shared: Path, name: str) -> PreTrainedTokenizerFast:
    """Bytes as tokens, the special tokens of all families, and one model's template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(alphabet)}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    template = (shared / "templates" / f"{name}.jinja").read_text()
    begin = "<｜begin▁of▁sentence｜>" if "deepseek" in name else "<|begin_of_text|>"
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=ENDS[name], bos_token=begin, pad_token="<|endoftext|>", chat_template=template
    )


@pytest.mark.parametrize("name", sorted(ENDS))
def test_training_begins_where_generation_begins_and_ends_with_the_end_token(name: str, shared: Path) -> None:
    tok = tokenizer(shared, name)
    eos = [tok.convert_tokens_to_ids(ENDS[name]), tok.convert_tokens_to_ids("<|endoftext|>")]
    end = end_id(tok, eos)
    assert tok.convert_ids_to_tokens(end) == ENDS[name]
    opened = opened_thought(render(tok, "2+2?", None))
    assert opened == ("<think>\n" if name in ("qwq-32b", "deepseek-r1-distill-qwen") else "")
    one = example(tok, "2+2?", "<think>\n" + TEXT, None, end)
    before = [token for token, label in zip(one["input_ids"], one["labels"], strict=True) if label == -100]
    assert before == prompt_ids(tok, "2+2?", None)
    assert tok.decode(before) == render(tok, "2+2?", None)
    whole = tok.decode(one["input_ids"])
    assert whole.endswith("<think>\n" + TEXT + ENDS[name])  # the chain is whole, and nothing follows the end token
    assert whole.count("<think>") == 1  # opened once, by the template or by the target


STOPS = [
    ("It is 4. Problem: next", "", False, 9),
    ("none here", "", False, None),
    ("Problem: is it 4?", "<think>\n", False, None),
    ("Problem: is it 4?", "<think>\n", True, 0),
    ("<think>Problem: is it 4?", "", False, None),
    ("<think>Problem:?</think>4. Problem:", "", False, 27),
    ("Problem:?</think>4. Problem:", "<think>\n", False, 20),
    ("4. Q: Problem:", "", False, 3),
]


@pytest.mark.parametrize(("text", "opened", "in_thought", "place"), STOPS)
def test_stop_strings_end_the_answer_and_a_thought_only_where_asked(
    text: str, opened: str, in_thought: bool, place: int | None
) -> None:
    sampling = Sampling(stop=("Problem:", "Q:"), stop_in_thought=in_thought)
    assert sampling.stop_place(text, opened) == place


def test_a_template_that_deletes_the_thought_does_not_reach_the_training_target(shared: Path) -> None:
    tok = tokenizer(shared, "deepseek-r1-distill-qwen")
    turns = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "<think>\n" + TEXT}]
    assert "We add." not in str(tok.apply_chat_template(turns, tokenize=False))  # what the template would do
    eos = [tok.convert_tokens_to_ids(ENDS["deepseek-r1-distill-qwen"])]
    one = example(tok, "2+2?", "<think>\n" + TEXT, None, end_id(tok, eos))
    assert "We add." in tok.decode(one["input_ids"])


@pytest.mark.parametrize("name", sorted(ENDS))
def test_a_system_prompt_stands_before_the_problem_in_every_template(name: str, shared: Path) -> None:
    text = render(tokenizer(shared, name), "2+2?", "Be brief.")
    assert 0 <= text.find("Be brief.") < text.find("2+2?")
    assert render(tokenizer(shared, name), "2+2?", "Be brief. ", "raw") == "Be brief. 2+2?"


def test_no_system_message_of_our_own_is_added(shared: Path) -> None:
    qwen = render(tokenizer(shared, "qwen2.5-instruct"), "2+2?", None)
    assert qwen.count("<|im_start|>system") == 1  # the template's own
    assert "Be brief." in render(tokenizer(shared, "qwen2.5-instruct"), "2+2?", "Be brief.")


def test_a_model_without_a_template_is_refused_in_chat_and_taken_raw(shared: Path) -> None:
    bare = tokenizer(shared, "llama-3")
    bare.chat_template = None
    with pytest.raises(MicotaError, match="has no chat template"):
        prompt_ids(bare, "2+2?", None)
    assert render(bare, "2+2?", None, "raw") == "2+2?"


def test_only_the_problem_is_replaced_in_a_prompt() -> None:
    template = "{problem}\nput it into \\boxed{} and {0}"
    assert Prompt(template=template).user_message("{x} {problem}") == "{x} {problem}\nput it into \\boxed{} and {0}"
