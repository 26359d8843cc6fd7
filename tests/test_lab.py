"""The lab: its world, its tokenizer, its shipped models and how they are made."""

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from micota.arithmetic import CHECKED, EXPANDED, TERSE, Chain, Style, compose, draw, problems, split_of, write
from micota.lab import pretrain as lab
from micota.lab.documents import Phase
from micota.lab.tokenizer import SYMBOLS, build

MODELS = Path(lab.__file__).parent / "models"
STYLES: list[Style] = ["basics", "mixed", "instruct", "terse", "long"]
PROMPT = [{"role": "user", "content": "452*5+17-23"}]
EXAMPLE = [*PROMPT, {"role": "assistant", "content": r"452*5=260;260+17=277;277-23=254;\boxed{254}"}]
TOY = lab.Design(16, 1, 1, 32, (Phase("basics", 9, 1e-2, batch=8), Phase("long", 7, 1e-3, batch=4, shortest=3)))


def chains(n: int, seed: int = 0) -> list[Chain]:
    rng = random.Random(seed)
    return [draw(rng, shortest=1) for _ in range(n)]


def by_hand(text: str) -> str:
    """The answer by Python's own arithmetic: parentheses force the order from left to right."""
    numbers = [str(int(number)) for number in re.findall(r"\d+", text)]
    worked = numbers[0]
    for sign, number in zip(re.findall(r"[-+*]", text), numbers[1:], strict=True):
        worked = f"({worked}{sign}{number})"
    return f"{eval(worked) % 1000:03d}"


def test_answers_are_right() -> None:
    rows = problems(500, seed=3)
    assert [row["answer"] for row in rows] == [by_hand(row["problem"]) for row in rows]
    assert Chain(452, (("*", 5), ("+", 17), ("-", 23))).text == "452*5+17-23"


def test_problems_are_different_and_begin_alike() -> None:
    rows = problems(300, seed=1, split="dev")
    assert len({row["problem"] for row in rows}) == 300
    assert problems(20, seed=1, split="dev") == rows[:20]
    assert problems(20, seed=2, split="dev") != rows[:20]


def test_splits_never_share_a_problem() -> None:
    sets = {
        split: {row["problem"] for seed in (0, 1) for row in problems(1000, seed, split)}
        for split in ("train", "dev", "test")
    }
    assert not sets["train"] & sets["test"] and not sets["train"] & sets["dev"] and not sets["dev"] & sets["test"]
    assert {split_of(problem) for problem in sets["test"]} == {"test"}


def test_every_written_equation_holds() -> None:
    """Each digit's sum, each check and each step is right, save what a slip makes wrong."""
    for chain in chains(300):
        text = write(chain, [EXPANDED] * len(chain.steps))
        for left, right in re.findall(r"(\d[-+*]\d[-+*]\d|\d[-+*]\d)=(\d\d)[,=]", text):
            value = eval(left)
            assert right == (f"{int(value < 0)}{value % 10}" if "-" in left else f"{value:02d}")
        heads = re.findall(r"(?:^|;)(\d{3}[-+*]\d+):.*?=(\d{3})(?=;)", text)
        assert [right for _, right in heads] == [by_hand(left) for left, _ in heads]
        for left, right in re.findall(r"(\d{3}[-+*]\d+)=(\d{3})", write(chain, [TERSE] * len(chain.steps))):
            assert by_hand(left) == right


def test_a_slip_is_found_and_done_again() -> None:
    chain = Chain(452, (("*", 5), ("+", 17)))
    text = write(chain, [CHECKED, TERSE], [1, None])
    assert text == (
        "452*5:2*5=10,5*5+0=25,4*5+2=22=250 Hmm 400*5=000,52*5=260,000+260=260 no Redo "
        "452*5:2*5=10,5*5+1=26,4*5+2=22=260 Hmm 400*5=000,52*5=260,000+260=260 ok;260+17=277;\\boxed{277}"
    )
    assert write(chain, [CHECKED, CHECKED], [2, 2]).count("Redo") == 1, "a slip that changes nothing is none"


@pytest.mark.parametrize("style", STYLES)
def test_a_style_ends_with_the_answer(style: Style) -> None:
    for chain in chains(50):
        assert compose(style, chain, random.Random(1)).endswith(rf"\boxed{{{chain.answer}}}")
        assert compose(style, chain, random.Random(1)) == compose(style, chain, random.Random(1))


def test_text_survives_the_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    lab.save(lab.create(TOY, seed=0), tmp_path)
    tokenizer, again = build(), AutoTokenizer.from_pretrained(tmp_path)
    texts = [compose(style, chain, random.Random(2)) for style in STYLES for chain in chains(40)]
    rows = tokenizer(texts)["input_ids"]
    assert again(texts)["input_ids"] == rows
    assert again.batch_decode(rows) == tokenizer.batch_decode(rows) == texts
    assert type(again) is type(tokenizer) and len(again) == len(tokenizer) == len(SYMBOLS)
    assert again.pad_token_id != again.eos_token_id
    assert again(r"What is $\frac{1}{2}$ of 漢字?")["input_ids"] == tokenizer("1}2}")["input_ids"]


def test_the_template_marks_what_is_learnt(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    build().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    prompt = tokenizer.apply_chat_template(PROMPT, add_generation_prompt=True, return_dict=False)
    row = tokenizer.apply_chat_template(EXAMPLE, return_dict=True, return_assistant_tokens_mask=True)
    assert tokenizer.decode(prompt) == "<bos><user>452*5+17-23<assistant>"
    assert row["input_ids"][: len(prompt)] == prompt
    assert tokenizer.decode(row["input_ids"][len(prompt) :]) == EXAMPLE[1]["content"] + "<eos>"
    assert row["assistant_masks"] == [0] * len(prompt) + [1] * (len(row["input_ids"]) - len(prompt))


@pytest.mark.parametrize("name", list(lab.DESIGNS))
def test_a_shipped_model_works_a_problem(name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(MODELS / name)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / name)
    config = model.config
    assert model.dtype == torch.float32 and config.model_type == "qwen2" and config.tie_word_embeddings
    assert config.hidden_size == lab.DESIGNS[name].width and config.hidden_size // config.num_attention_heads == 32
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.pad_token_id == tokenizer.pad_token_id
    assert not model.generation_config.do_sample
    prompt = tokenizer.apply_chat_template(PROMPT, add_generation_prompt=True, return_tensors="pt")
    text = tokenizer.decode(model.generate(**prompt)[0])
    assert re.search(r"\\boxed\{\d{3}\}<eos>$", text)


def test_the_folders_hold_models_only() -> None:
    names = {path.name for path in MODELS.glob("*/*")}
    assert names == {
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for path in MODELS.glob("*/*.json"):
        assert "_name_or_path" not in path.read_text() and "/tmp" not in path.read_text()


KILLED = """
import os, signal
from pathlib import Path
from micota.lab import pretrain as lab
from micota.lab.documents import Phase
from micota.lab.pretrain import Design
def progress(done, total, note):
    if done == {stop}:
        os.kill(os.getpid(), signal.SIGKILL)
lab.pretrain(Path({out!r}), "toy", progress=progress, design={design!r}, every=4)
"""


def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    """Killed in its first phase (step 8 of 16), then gone on with; and the finished folder is left alone."""
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    code = KILLED.format(stop=8, out=str(torn), design=TOY)
    source = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code], env=source).returncode == -signal.SIGKILL
    assert (torn / "checkpoint.pt").exists() and not (torn / "model.safetensors").exists()
    seen: list[int] = []
    lab.pretrain(torn, "toy", progress=lambda done, *_: seen.append(done), design=TOY, every=4)
    assert seen == [12, 16]
    lab.pretrain(whole, "toy", design=TOY, every=100)
    assert (torn / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert sorted(path.name for path in torn.iterdir()) == sorted(path.name for path in whole.iterdir())
    before = (torn / "model.safetensors").stat().st_mtime_ns
    lab.pretrain(torn, "toy", design=TOY)
    assert (torn / "model.safetensors").stat().st_mtime_ns == before
