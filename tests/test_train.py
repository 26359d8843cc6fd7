"""Training: what the loss covers, that everything moves, that a batch is a batch, and that nothing is cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import World
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from micota.chat import end_id, eos_ids, example, prompt_ids
from micota.errors import MicotaError, StageFailed
from micota.machine import TrainConfig
from micota.specs import Source, Train
from micota.stages.train import steps_at_most
from micota.store.pool import find
from micota.training.sft_examples import InSteps, steps


def trained(world: World, *sets: str, micro: int = 32) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """The weights and the facts of the arm `strong`."""
    machine = world.machine.model_copy(update={"train": TrainConfig(micro_batch=micro)})
    world.run(*sets, only="strong", machine=machine)
    manifest = world.store.manifest(world.load(*sets).named("strong"))
    assert manifest is not None
    return load_file(world.store.files(manifest) / "model.safetensors"), manifest.facts


def test_the_loss_covers_the_response_and_its_end_token_only(models: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(models / "student")
    model = AutoModelForCausalLM.from_pretrained(models / "student")
    end = end_id(tokenizer, eos_ids(model.generation_config, tokenizer))
    one = example(tokenizer, "452*5+17", "452*5=260;260+17=277;\\boxed{277}", None, end)
    learnt = [token for token, label in zip(one["input_ids"], one["labels"], strict=True) if label != -100]
    assert tokenizer.decode(learnt) == "452*5=260;260+17=277;\\boxed{277}" + tokenizer.eos_token
    assert learnt == [label for label in one["labels"] if label != -100]
    before = one["input_ids"][: len(one["input_ids"]) - len(learnt)]
    assert before == prompt_ids(tokenizer, "452*5+17", None)  # the very tokens that generation begins with


def test_trl_sees_these_labels_and_its_loss_is_theirs(world: World) -> None:
    _, facts = trained(world, "defaults.train.max_steps=1", "defaults.train.batch=8")
    tokenizer = AutoTokenizer.from_pretrained(world.folder / "models" / "student")
    model = AutoModelForCausalLM.from_pretrained(world.folder / "models" / "student", dtype=torch.float32)
    end = end_id(tokenizer, [tokenizer.eos_token_id])
    rows = [json.loads(line) for line in (world.folder / "answers.jsonl").read_text().splitlines()[:8]]
    nats, tokens = 0.0, 0
    for row in rows:
        one = example(tokenizer, row["problem"], row["text"], None, end)
        labels = torch.tensor([one["labels"]])
        count = int((labels != -100).sum())
        nats += float(model(torch.tensor([one["input_ids"]]), labels=labels).loss.detach()) * count
        tokens += count
    assert facts["target_tokens"] == tokens
    assert facts["loss"][0][1] == pytest.approx(nats / tokens, rel=1e-3)  # type: ignore[index]


def test_every_parameter_moves_and_the_folder_is_a_whole_model(world: World) -> None:
    weights, facts = trained(world)
    before = load_file(world.folder / "models" / "student" / "model.safetensors")
    assert weights.keys() == before.keys()
    assert [name for name in weights if torch.equal(weights[name], before[name])] == []
    assert facts["steps"] == 2
    files = {path.name for path in world.files("strong").iterdir()}
    assert files >= {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
    }
    assert "training_args.bin" not in files
    config = json.loads((world.files("strong") / "config.json").read_text())
    assert config == json.loads((world.folder / "models" / "student" / "config.json").read_text())
    base = world.folder / "models" / "student"
    for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja"):
        assert (world.files("strong") / name).read_bytes() == (base / name).read_bytes()


def test_a_batch_of_eight_is_eight_micro_batches_of_one(world: World) -> None:
    sets = ("defaults.train.batch=8", "defaults.train.max_steps=3")
    at_once, _ = trained(world, *sets)
    (world.folder / "store").rename(world.folder / "first")  # a store of its own, so that nothing is found done
    one_by_one, _ = trained(world, *sets, micro=1)
    for name, tensor in at_once.items():
        torch.testing.assert_close(one_by_one[name], tensor, rtol=1e-4, atol=2e-5, msg=name)


def test_micro_batches_always_make_up_the_batch() -> None:
    def split(batch: int, world: int, wanted: int) -> tuple[int, int]:
        made = steps(100, batch, world, wanted)
        return made.micro, made.accumulate

    assert split(8, 1, 32) == (8, 1)
    assert split(8, 1, 3) == (2, 4)
    assert split(32, 4, 32) == (8, 1)
    assert split(32, 3, 8) == (1, 11), "33 rows, one of them empty"


def test_a_step_learns_from_the_same_rows_on_any_number_of_processes() -> None:
    """Rows are dealt out as accelerate does: batch after batch, in turns. An empty row fills what is left."""

    def dealt(rows: int, batch: int, world: int, wanted: int) -> list[set[int]]:
        made = steps(rows, batch, world, wanted)
        sampler = InSteps(made, seed=3, empty=rows)
        order = list(sampler)
        assert len(order) == len(sampler)
        assert world == 1 or len(order) % (world * made.micro) == 0, "every process has as many batches"
        size = world * made.micro * made.accumulate
        return [set(order[i : i + size]) - {rows} for i in range(0, len(order), size)]

    alone = dealt(10, 4, 1, 2)
    assert [len(step) for step in alone] == [4, 4, 2]
    assert set.union(*alone) == set(range(10))
    for world, wanted in ((2, 1), (2, 2), (3, 1), (4, 4), (8, 1)):
        assert dealt(10, 4, world, wanted) == alone, (world, wanted)


def test_the_order_of_the_rows_is_that_of_accelerate() -> None:
    from accelerate.data_loader import SeedableRandomSampler

    ours, theirs = InSteps(steps(10, 4, 1, 4), seed=3, empty=10), SeedableRandomSampler(range(10), data_seed=3)
    for epoch in range(2):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        assert list(ours) == list(theirs)


def test_a_target_longer_than_the_cutoff_is_dropped_and_counted(world: World) -> None:
    rows = [json.loads(line) for line in (world.folder / "answers.jsonl").read_text().splitlines()]
    rows[3]["text"] = "1+1=2;" * 20 + rows[3]["text"]
    (world.folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, facts = trained(world)
    assert (facts["examples"], facts["dropped"]) == (7, {"too_long": 1})


def test_if_all_targets_are_too_long_the_error_says_what_would_fit(world: World) -> None:
    with pytest.raises(
        StageFailed, match=r"all 8 examples are longer than the cutoff of 9 tokens[\s\S]*shortest has 2"
    ):
        world.run("defaults.train.cutoff=9", only="strong")


def learnt(*lengths: int) -> list[dict[str, list[int]]]:
    """Examples with a prompt of two tokens and targets of these lengths."""
    return [{"input_ids": [5] * (n + 2), "labels": [-100, -100] + [5] * n} for n in lengths]


def test_target_tokens_become_the_fewest_steps_that_reach_them() -> None:
    def at_most(examples: list[dict[str, list[int]]], batch: int, **fields: int) -> int | None:
        source = Source(ref="a/b", revision="c")
        spec = Train.model_construct(base=source, data=source, batch=batch, **fields)
        return steps_at_most(spec, examples, steps(len(examples), batch, 1, batch))

    four = learnt(10, 30, 10, 30)  # two steps of two examples in an epoch, 40 tokens each
    assert [at_most(four, batch=2, target_tokens=n) for n in (1, 40, 41, 80, 81)] == [1, 1, 2, 2, 3]
    assert at_most(learnt(10, 30, 20), batch=2, target_tokens=60) == 2, "an epoch ends with a smaller batch"
    assert at_most(learnt(20, 20), batch=32, target_tokens=400) == 10, "a batch larger than the data is the data"
    assert (at_most(four, batch=2, max_steps=7), at_most(four, batch=2)) == (7, None)


def test_target_tokens_instead_of_steps_and_learnt_tokens_are_counted(world: World) -> None:
    """Ten examples in batches of four: three steps in an epoch, the last of two examples; their order is the seed's."""
    world.problems("train.jsonl", range(10))
    world.recipe_file.write_text(world.recipe_file.read_text().replace("max_steps: 2", "target_tokens: 1000"))
    _, facts = trained(world)
    assert isinstance(facts["target_tokens"], int) and isinstance(facts["learnt_tokens"], int)
    assert isinstance(facts["steps"], int)
    of_a_step = facts["target_tokens"] / 3
    assert facts["steps"] == -(-1000 // of_a_step)
    epochs, rest = divmod(facts["steps"], 3)
    blocks = steps(10, 4, 1, 4)
    assert [len([*InSteps(blocks, 0, 10).first(n)]) for n in range(8)] == [0, 4, 8, 10, 14, 18, 20, 24]
    whole = epochs * facts["target_tokens"]
    assert whole <= facts["learnt_tokens"] < whole + facts["target_tokens"] and (
        rest or facts["learnt_tokens"] == whole
    )


def test_learnt_tokens_are_those_of_the_rows_of_each_step(world: World) -> None:
    """One step of two of the eight examples: the sum of the two targets, whose order accelerate's sampler gives."""
    from accelerate.data_loader import SeedableRandomSampler

    rows = [json.loads(line) for line in (world.folder / "answers.jsonl").read_text().splitlines()[:8]]
    rows = [row | {"text": "=" * i + row["text"]} for i, row in enumerate(rows)]
    (world.folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, facts = trained(world, "defaults.train.batch=2", "defaults.train.max_steps=1")
    tokenizer = AutoTokenizer.from_pretrained(world.folder / "models" / "student")
    data = world.store.manifest(world.load().named("long-cot"))
    assert data is not None
    learnt = [*find([*map(world.store.pool, data.pools)], world.store.rows(data))]
    lengths = [len(tokenizer(row.target)["input_ids"]) + 1 for row in learnt]  # with EOS
    assert sorted({len(row["text"]) for row in rows}) == sorted({len(row.target) for row in learnt})
    first = [*SeedableRandomSampler(range(8), data_seed=0)][:2]
    assert facts["learnt_tokens"] == sum(lengths[i] for i in first) != facts["target_tokens"] // 4


def test_target_tokens_and_max_steps_exclude_each_other(world: World) -> None:
    with pytest.raises(MicotaError, match="max_steps is 2 and target_tokens is 500: give one of the two"):
        world.load("defaults.train.target_tokens=500")
