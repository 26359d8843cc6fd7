"""The lab: its worlds, its tokenizer, its shipped models and how they are made."""

import hashlib
import random
import re
from pathlib import Path

import pytest

from micota.lab.designs import DESIGNS, SHIPPED, design
from micota.lab.documents import batch
from micota.lab.tokenizer import SYMBOLS, build
from micota.specs import Shape
from micota.store.resolution import LAB_MODELS as MODELS
from micota.training import pretraining as lab
from micota.worlds.arithmetic import Chain, expand
from micota.worlds.levels import CHECKED, EXPANDED, TERSE
from micota.worlds.workings import WORLDS as ALL
from micota.worlds.workings import Style, World, compose, problems, split_of

STYLES: list[Style] = ["basics", "mixed", "instruct", "terse", "long", "expanded", "checked", "slips"]
WORLDS: list[World] = ["arithmetic", "arithmetic-hard"]
EASY, HARD = ["232*5*3*5*4", "865-78*2-22"], ["232*38*22*40", "063-24*19*64"]
BATCHES = {
    "ta-base": "44af153f0e01adb4",
    "teacher": "236345fab39b7fae",
    "ta": "fada51b4bdf0b06e",
    "student": "f552d9516cac061a",
}
PROMPT = [{"role": "user", "content": "452*5+17-23"}]
EXAMPLE = [*PROMPT, {"role": "assistant", "content": r"452*5=260;260+17=277;277-23=254;\boxed{254}"}]


def chains(n: int, world: World = "arithmetic") -> list[Chain]:
    rng = random.Random(0)
    drawn = [ALL[world].draw(rng, 1) for _ in range(n)]
    return [one for one in drawn if isinstance(one, Chain)]


def by_hand(text: str) -> str:
    """The answer by Python's own arithmetic: parentheses force the order from left to right."""
    numbers = [str(int(number)) for number in re.findall(r"\d+", text)]
    worked = numbers[0]
    for sign, number in zip(re.findall(r"[-+*]", text), numbers[1:], strict=True):
        worked = f"({worked}{sign}{number})"
    return f"{eval(worked) % 1000:03d}"


@pytest.mark.parametrize("world", WORLDS)
def test_answers_are_right(world: World) -> None:
    rows = problems(500, seed=3, world=world)
    assert [row["answer"] for row in rows] == [by_hand(row["problem"]) for row in rows]
    assert Chain(452, (("*", 5), ("+", 17), ("-", 23))).text == "452*5+17-23"


def test_problems_are_different_and_begin_alike() -> None:
    rows = problems(300, seed=1, split="dev")
    assert len({row["problem"] for row in rows}) == 300
    assert problems(20, seed=1, split="dev") == rows[:20]
    assert problems(20, seed=2, split="dev") != rows[:20]


def test_the_problems_of_a_seed_never_change() -> None:
    """Digests say `lab:arithmetic`, seed and n, so these are what they stand for."""
    easy, hard = problems(2, seed=1, split="test"), problems(2, seed=1, split="test", world="arithmetic-hard")
    assert [row["problem"] for row in easy] == EASY
    assert [row["problem"] for row in hard] == HARD


def test_a_harder_problem_has_two_or_three_operations_and_products_with_two_digits() -> None:
    for row in problems(300, world="arithmetic-hard"):
        assert re.fullmatch(r"\d{3}([-+*]\d\d){2,3}", row["problem"])
    for row in problems(300):
        assert re.fullmatch(r"\d{3}([-+]\d\d|\*\d){3,4}", row["problem"])


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
        text = chain.write([EXPANDED] * len(chain.steps))
        for left, right in re.findall(r"(\d[-+*]\d[-+*]\d|\d[-+*]\d)=(\d\d)[,=]", text):
            value = eval(left)
            assert right == (f"{int(value < 0)}{value % 10}" if "-" in left else f"{value:02d}")
        heads = re.findall(r"(?:^|;)(\d{3}[-+*]\d+):.*?=(\d{3})(?=;)", text)
        assert [right for _, right in heads] == [by_hand(left) for left, _ in heads]
        for left, right in re.findall(r"(\d{3}[-+*]\d+)=(\d{3})", chain.write([TERSE] * len(chain.steps))):
            assert by_hand(left) == right


def test_every_written_equation_of_the_harder_world_holds() -> None:
    """Whatever stands between separators, as in `5*7+1=36` or `114+850+800=764`, is right; of a step its end is."""
    for chain in chains(300, "arithmetic-hard"):
        for level in (TERSE, EXPANDED, CHECKED):
            text = chain.write([level] * len(chain.steps)).rpartition("\\")[0]
            for piece in re.split(r"[,;: ]|Hmm|ok", text):
                left, *rights = piece.split("=")
                for right in rights:
                    value = eval(re.sub(r"\b0+(?=\d)", "", left))
                    borrowed = f"{int(value < 0)}{value % 10}" if "-" in left and len(right) == 2 else None
                    assert right == borrowed or int(right) == value % 1000 or right == rights[-1], piece
            heads = re.findall(r"(?:^|;)(\d{3}[-+*]\d+)[:=]", text)
            assert [by_hand(head) for head in heads] == [f"{value:03d}" for value in chain.values[1:]]


def test_a_product_with_two_digits_is_written_in_parts() -> None:
    chain = Chain(452, (("*", 57), ("+", 17)))
    parts = "2*7=14,5*7+1=36,4*7+3=31=164,2*5=10,5*5+1=26=600,164+600=764"
    check = "57*2=114,57*50=850,57*400=800,114+850+800=764"
    assert chain.write([TERSE, TERSE]) == r"452*57=764;764+17=781;\boxed{781}"
    assert chain.write([EXPANDED, TERSE]) == rf"452*57:{parts};764+17=781;\boxed{{781}}"
    assert chain.write([CHECKED, TERSE]) == rf"452*57:{parts} Hmm {check} ok;764+17=781;\boxed{{781}}"
    slipped = chain.write([CHECKED, TERSE], [1, None])
    assert f"5*7+0=35,4*7+3=31=154,2*5=10,5*5+1=26=600,154+600=754 Hmm {check} no Redo 452*57:{parts}" in slipped
    for value in range(1000):
        for number in (11, 20, 57, 99):
            assert expand(value, ("*", number))[1] == value * number % 1000


def test_whole_chains_of_the_harder_world_stay_within_a_window() -> None:
    tokenizer = build()
    checked = [chain.write([CHECKED] * len(chain.steps)) for chain in chains(2000, "arithmetic-hard")]
    assert max(map(len, tokenizer(checked)["input_ids"])) <= 360


def test_a_slip_is_found_and_done_again() -> None:
    chain = Chain(452, (("*", 5), ("+", 17)))
    text = chain.write([CHECKED, TERSE], [1, None])
    assert text == (
        "452*5:2*5=10,5*5+0=25,4*5+2=22=250 Hmm 400*5=000,52*5=260,000+260=260 no Redo "
        "452*5:2*5=10,5*5+1=26,4*5+2=22=260 Hmm 400*5=000,52*5=260,000+260=260 ok;260+17=277;\\boxed{277}"
    )
    assert chain.write([CHECKED, CHECKED], [2, 2]).count("Redo") == 1, "a slip that changes nothing is none"


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("style", STYLES)
def test_a_style_ends_with_the_answer(style: Style, world: World) -> None:
    for chain in chains(50, world):
        assert compose(style, chain, random.Random(1)).endswith(rf"\boxed{{{chain.answer}}}")
        assert compose(style, chain, random.Random(1)) == compose(style, chain, random.Random(1))


def test_the_styles_of_tuning_are_what_they_say() -> None:
    rng = random.Random(0)
    texts = {style: "".join(compose(style, chain, rng) for chain in chains(600)) for style in STYLES}
    steps = sum(len(chain.steps) for chain in chains(600))
    assert texts["expanded"].count(":") == steps and "Hmm" not in texts["expanded"]
    assert texts["checked"].count(" ok;") == steps and "Redo" not in texts["checked"]
    assert texts["slips"].count(" ok;") == steps
    redone = {style: texts[style].count("Redo") / texts[style].count(" ok;") for style in ("long", "slips")}
    assert 0.17 < redone["slips"] < 0.23, "of three in ten slips a third forgets a carry of 0"
    assert 2.2 < redone["slips"] / redone["long"] < 4


def test_text_survives_the_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    lab.save(lab.create(Shape(width=16, layers=1, heads=1, feedforward=32), seed=0), tmp_path)
    tokenizer, again = build(), AutoTokenizer.from_pretrained(tmp_path)
    texts = [compose(style, chain, random.Random(2)) for style in STYLES for w in WORLDS for chain in chains(40, w)]
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


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_works_a_problem(name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(MODELS / name)
    tokenizer = AutoTokenizer.from_pretrained(MODELS / name)
    config = model.config
    assert model.dtype == torch.float32 and config.model_type == "qwen2" and config.tie_word_embeddings
    shape = DESIGNS[name].shape
    assert shape and config.hidden_size == shape.width and config.hidden_size // config.num_attention_heads == 32
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


def test_the_assistants_base_is_the_assistant_without_its_last_phase() -> None:
    whole, base = DESIGNS["ta"], DESIGNS["ta-base"]
    assert whole.phases == (*base.phases, whole.phases[-1])
    assert (base.shape, base.window, base.world) == (whole.shape, whole.window, whole.world)
    assert design("ta", seed=3).seed == 3 and design("ta", seed=3).digest != whole.digest


@pytest.mark.parametrize("name", SHIPPED)
def test_the_documents_of_a_shipped_model_never_change(name: str) -> None:
    """The first batch of each phase: what was drawn for the weights that are shipped is drawn today."""
    digest = hashlib.sha256()
    for index in range(len(DESIGNS[name].phases)):
        for part in batch(DESIGNS[name], index, step=0):
            digest.update(part.numpy().tobytes())
    assert digest.hexdigest()[:16] == BATCHES[name]
