"""`micota plan --cost`: every recipe offline, shared stages once, what was measured, what does not fit."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import World
from rich.console import Console
from transformers import AutoTokenizer

from micota import machine as machines
from micota.chat import example
from micota.cli import cost_table
from micota.cli import main as cli
from micota.cli.cost_table import amount
from micota.costs import assumptions, shapes
from micota.costs.estimates import Costs, Estimate
from micota.costs.lengths import Lengths
from micota.costs.spans import Span, known
from micota.machine import BpcConfig, EngineConfig, GenerateConfig, MachineProfile, ServerConfig, TrainConfig
from micota.recipe import recipe as recipes
from micota.specs import Generate, LengthDial, MergeSearch, Train
from micota.store.artifacts import Store
from micota.store.pool import Writer
from micota.store.records import Completion, read_rows
from micota.store.resolution import LAB_MODELS

SHIPPED = sorted(path for folder in (".", "paper") for path in (recipes.SHIPPED / folder).glob("*.yaml"))
TABLES = """
name: tables
for: {student: [Qwen/Qwen2.5-7B-Instruct, Qwen/Qwen2.5-3B-Instruct, Qwen/Qwen2.5-1.5B-Instruct]}
let:
  math12k: {problems: {source: hiyouga/math12k, split: train}}
  teacher: deepseek-ai/DeepSeek-R1-Distill-Qwen-32B
  ta-base: Qwen/Qwen2.5-14B-Instruct
  long-cot: {distil: {from: teacher, data: math12k}}
  ta-long: {train: {base: ta-base, data: long-cot}}
  ta-mid:
    dial: {base: ta-base, models: [ta-long], method: dare_ties, density: 0.7, rescale: inverse_density,
           weight: [0.3, 0.9], target: {length: 0.5, of: ta-long}, max_loss: 0.02, probe: {data: math12k, n: 200}}
  mid-cot: {distil: {from: ta-mid, data: math12k}}
  half-cot: {distil: {from: ta-long, data: math12k}}
  qwq-cot: {distil: {from: Qwen/QwQ-32B, data: math12k}}
  short-cot: {distil: {from: Qwen/Qwen2.5-32B-Instruct, data: math12k}}
  mixed: {mix: [{data: qwq-cot, share: 0.2}, {data: short-cot, share: 0.8}]}
arms:
  instruct: $student
  strong: {train: {base: $student, data: long-cot}}
  half: {train: {base: $student, data: half-cot}}
  mix_long: {train: {base: $student, data: mixed}}
  micota: {train: {base: $student, data: mid-cot}}
evaluate:
  models: [arms, teacher, ta-base, ta-long, ta-mid]
  data: [aime24, amc23, olympiadbench, math500, gsm8k]
  sampling: {temperature: 0, max_tokens: 16000}
measure: {bpc: {models: [Qwen/Qwen2.5-32B-Instruct, ta-base, $student], data: [long-cot, half-cot, mixed, mid-cot]}}
"""
H100S = MachineProfile(
    name="h100s",
    hardware="H100",
    price=2.0,
    generate=GenerateConfig(engine="vllm", device="cuda", tensor_parallel=2),
    search=EngineConfig(device="cuda", batch=4),
    train=TrainConfig(device="cuda", devices=8, micro_batch=1, sharding="fsdp"),
    bpc=BpcConfig(device="cuda", batch=1),
)


def tables(folder: Path) -> recipes.Recipe:
    (folder / "tables.yaml").write_text(TABLES)
    return recipes.load(str(folder / "tables.yaml"))


def estimates(recipe: recipes.Recipe, store: Store, profile: MachineProfile) -> dict[str, Estimate]:
    found = Costs(store, profile, recipe.targets).all()
    return {one.spec.digest: one for one in found}


def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["micota", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr()
    return int(end.value.code or 0), told.out, told.err


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_priced_offline(path: Path, tmp_path: Path) -> None:
    recipe = recipes.load(str(path))
    found = estimates(recipe, Store(tmp_path), machines.load("fsdp2")).values()
    assert sum(one.hours.high for one in found) > 0
    for one in found:
        assert one.hours.low <= one.hours.high
        assert one.unknown is None or "hf download" in one.unknown or "behind a server" in one.unknown
        assert not isinstance(one.spec, Train) or one.flops.high or one.unknown


def test_the_lab_is_priced_on_the_laptop(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = command(capsys, monkeypatch, "plan", "lab", "--cost", "--store", tmp_path / "store")
    assert code == 0
    assert "core-hours" in out
    assert "assumed, lab" in out
    assert not (tmp_path / "store").exists()


def test_a_stage_that_arms_share_is_paid_once(tmp_path: Path) -> None:
    recipe = tables(tmp_path)
    found = estimates(recipe, Store(tmp_path), H100S)
    lines = cost_table.lines(recipe, [one for one in found.values() if one.spec.kind not in cost_table.FREE])
    labels = [(line.stages[0].spec.kind, line.label) for line in lines]
    for name in ("long-cot", "half-cot", "mid-cot", "qwq-cot", "short-cot"):
        assert labels.count(("generate", name)) == 1
    assert [label for kind, label in labels if kind == "train" and label == "ta-long"] == ["ta-long"]
    assert sum(kind == "train" for kind, _ in labels) == 13
    uses = cost_table.uses(recipe, recipe.targets)
    teacher = recipe.named("long-cot").children[0]
    assert uses[teacher.digest] == 11  # three strong, half and micota students, and two assistants
    assert ("generate", "instruct[student=Qwen2.5-7B-Instruct] on 5 sets") in labels


def test_the_papers_tables_cost_what_one_would_guess(tmp_path: Path) -> None:
    """12,000 chains of 3,000 to 8,000 tokens; a 14B on them for two epochs; hundreds of H100-hours at most."""
    recipe = tables(tmp_path)
    found = estimates(recipe, Store(tmp_path), H100S)
    chains = next(child for child in recipe.named("long-cot").children if isinstance(child, Generate))
    assert found[chains.digest].written == Span(12_000 * 3000, 12_000 * 8000)
    assistant = found[recipe.named("ta-long").digest]
    tokens = Span(12_000 * 0.75 * 3080 * 2, 12_000 * 0.95 * 8160 * 2)
    assert assistant.read == tokens
    assert 6 * 14.77e9 * tokens.low < assistant.flops.low < 12 * 14.77e9 * tokens.low
    assert assistant.hours.low == pytest.approx(assistant.flops.low / (989e12 * 0.4) / 3600)
    assert 20 < sum(one.hours.low for one in found.values()) < sum(one.hours.high for one in found.values()) < 1000


def test_money_is_hours_times_the_price_and_a_total_stands_below(tmp_path: Path) -> None:
    recipe = tables(tmp_path)
    console = Console(width=200, record=True, file=io.StringIO())
    cost_table.show(console, recipe, Store(tmp_path), H100S, recipe.targets)
    lines = console.export_text().splitlines()
    chains = next(line for line in lines if re.match(r"new +generate +long-cot", line))
    hours, money = (re.search(rf" ([\d.]+)–([\d.]+){after}", chains) for after in (r" +33\.6 ", r"\s*$"))
    assert hours and money
    assert float(money[2]) == pytest.approx(2 * float(hours[2]), abs=1)
    assert any(line.split()[:1] == ["total"] for line in lines)


def test_what_was_made_costs_nothing_more_and_its_lengths_are_measured(world: World) -> None:
    before = estimates(world.load(), world.store, world.machine)
    assert all(one.word == "new" for one in before.values())
    world.run(only="ta-long")
    after = estimates(world.load(), world.fresh(), world.machine)
    strong = world.load().named("strong")
    assert isinstance(strong, Train)
    assert after[strong.data.digest].word == "done"
    assert after[strong.digest].word == "new"
    assert "measured" in after[strong.digest].basis
    assert after[strong.digest].read.low == after[strong.digest].read.high
    world.run()
    assert all(one.hours == Span(0, 0) for one in estimates(world.load(), world.fresh(), world.machine).values())


def test_a_training_that_ran_says_how_fast_equal_ones_are(world: World) -> None:
    world.run(only="ta-long")
    done = world.load().named("ta-long")
    path = world.store.root / "artifacts" / f"train-{done.digest}" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["made"]["seconds"] = 10.0
    del manifest["seal"]
    path.write_text(json.dumps(manifest))
    facts = manifest["facts"]
    rate = facts["tokens"] * facts["learnt_tokens"] / facts["target_tokens"] / 10.0
    strong = world.load().named("strong")
    one = estimates(world.load(), world.fresh(), world.machine)[strong.digest]
    assert "measured rate" in one.basis
    assert one.hours.high == pytest.approx(one.read.high / rate / 3600)
    slower = world.machine.model_copy(update={"name": "another"})
    assert "measured rate" not in estimates(world.load(), world.fresh(), slower)[strong.digest].basis


def test_a_generation_that_ran_says_how_fast_more_of_it_is(world: World) -> None:
    world.run(only="long-cot")
    done = world.load().named("long-cot").children[0]
    path = world.store.root / "artifacts" / done.id / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["made"]["seconds"] = 100.0
    del manifest["seal"]
    path.write_text(json.dumps(manifest))
    world.problems("train.jsonl", range(200))
    world.run(only="train-set")
    chains = world.load().named("long-cot").children[0]
    one = estimates(world.load(), world.fresh(), world.machine)[chains.digest]
    rate = manifest["facts"]["tokens"] / 100.0
    assert one.word == "partial" and "measured rate" in one.basis
    assert one.hours.high == pytest.approx(one.written.high / rate / 3600)
    slower = world.machine.model_copy(update={"name": "another"})
    assert "measured rate" not in estimates(world.load(), world.fresh(), slower)[chains.digest].basis


def test_what_nothing_unfinished_reads_is_not_needed(world: World) -> None:
    """Without its problems and models the pool still has every answer that the last stage reads."""
    world.run()
    strong = world.load().named("strong")
    shutil.rmtree(world.store.root / "artifacts" / f"train-{strong.digest}")
    found = estimates(world.load(), world.fresh(), world.machine)
    assert found[strong.digest].word == "not needed"  # its answers were graded, and nobody asks for more
    assert sum(one.hours.high for one in found.values()) == 0


def test_after_the_first_per_cent_the_measured_length_takes_the_place_of_the_assumed_one(world: World) -> None:
    world.problems("train.jsonl", range(200))
    world.run(only="train-set")
    recipe = world.load()
    chains = next(child for child in recipe.named("long-cot").children if isinstance(child, Generate))
    assert estimates(recipe, world.fresh(), world.machine)[chains.digest].written == known(200 * 12)  # max_tokens
    content = world.store.content(chains.model)
    manifest = world.store.manifest(chains.problems)
    assert content and manifest
    rows = read_rows(world.store.files(manifest) / "rows.jsonl")
    folder = world.store.pool_folder(chains.pool(content))

    def answer(row: dict[str, str]) -> Completion:
        return Completion(row["key"], 0, row["problem"], "5", "stop", 9, 7, "by hand")

    with Writer(folder, {}) as writer:
        writer.write([answer(rows[0])])
    assert estimates(recipe, world.fresh(), world.machine)[chains.digest].written == known(199 * 12)  # half a per cent
    with Writer(folder, {}) as writer:
        writer.write([answer(rows[1])])
    one = estimates(recipe, world.fresh(), world.machine)[chains.digest]
    assert one.written == known(198 * 7)
    assert one.word == "partial"
    assert "measured" in one.basis


def test_a_model_that_is_not_known_here_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(TABLES.replace("Qwen/QwQ-32B", "somebody/unknown"))
    recipe = recipes.load(str(tmp_path / "r.yaml"))
    found = estimates(recipe, Store(tmp_path), H100S).values()
    lines = {one.unknown for one in found if one.unknown}
    assert "the size of somebody/unknown is not known here: hf download somebody/unknown config.json" in lines
    unknown = next(one for one in found if one.unknown)
    assert unknown.written.high > 0
    assert unknown.flops == Span(0, 0)


def test_a_stack_has_the_layers_of_its_slices(tmp_path: Path) -> None:
    """What is trained on it, stored of it and written by it costs by these, also above another merge."""
    text = "name: deep\nlet:\n  own: {rows: {source: ./rows.jsonl}}\n  ta: Qwen/Qwen2.5-1.5B-Instruct\n"
    slices = "[{model: ta, layers: [0, 20]}, {model: ta, layers: [8, 28]}]"
    text += f"  deep: {{merge: {{method: passthrough, base: ta, slices: {slices}}}}}\n"
    text += "  tuned: {train: {base: deep, data: own}}\n  again: {train: {base: mid, data: own}}\n"
    text += "  mid: {merge: {base: deep, models: [tuned], method: linear, weight: 1.0}}\narms: {a: again}\n"
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "1+1", "response": "2"}) + "\n")
    (tmp_path / "deep.yaml").write_text(text)
    recipe = recipes.load(str(tmp_path / "deep.yaml"))
    plain = shapes.shape(recipe.named("ta"))
    assert plain is not None and plain.layers == 28
    for name in ("deep", "tuned", "mid", "again"):
        assert shapes.shape(recipe.named(name)) == replace(plain, layers=40), name
    found = estimates(recipe, Store(tmp_path), H100S)
    assert found[recipe.named("deep").digest].disk.low == pytest.approx(2 * replace(plain, layers=40).parameters)


def test_an_endpoint_costs_tokens(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(TABLES.replace("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "endpoint:r1"))
    recipe = recipes.load(str(tmp_path / "r.yaml"))
    server = ServerConfig(url="http://127.0.0.1:1/v1")
    found = estimates(recipe, Store(tmp_path), H100S.model_copy(update={"servers": {"endpoint:r1": server}})).values()
    asked = [one for one in found if isinstance(one.spec, Generate) and one.unknown]
    assert all(one.written.high and not one.hours.high for one in asked)
    assert len(asked) == 6  # the chains and five benchmarks


def test_a_search_tries_its_grid_and_at_most_every_refinement(tmp_path: Path) -> None:
    recipe = tables(tmp_path)
    dial = recipe.named("ta-mid")
    assert isinstance(dial, LengthDial)
    search = dial.search
    assert isinstance(search, MergeSearch)
    one = estimates(recipe, Store(tmp_path), H100S)[search.digest]
    assert one.read == Span(7 * 200 * 80, 11 * 200 * 160)


def test_every_assumption_that_is_used_has_words(tmp_path: Path) -> None:
    used = {word for one in estimates(tables(tmp_path), Store(tmp_path), H100S).values() for word in one.basis}
    assert used <= set(assumptions.WORDS)


def test_data_made_elsewhere_is_counted_by_its_file(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"prompt": f"{i}+1", "response": "a" * 400}) + "\n" for i in range(50))
    (tmp_path / "rows.jsonl").write_text(rows)
    text = "name: own\nlet:\n  own: {rows: {source: ./rows.jsonl}}\narms:\n"
    text += "  a: {train: {base: Qwen/Qwen2.5-1.5B-Instruct, data: own, epochs: 1}}\n"
    (tmp_path / "own.yaml").write_text(text)
    recipe = recipes.load(str(tmp_path / "own.yaml"))
    one = estimates(recipe, Store(tmp_path), H100S)[recipe.named("a").digest]
    assert 50 * 100 < one.read.low < one.read.high < 50 * 300


def test_local_rows_are_counted_with_the_tokenizer_of_the_model(tmp_path: Path) -> None:
    """The tokens of each example, as the training makes it; the longest decides what memory it needs."""
    rows = [{"prompt": f"{i}+1=?", "response": "1 2 3 " * (i % 7 + 1)} for i in range(30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = "name: own\nlet:\n  own: {rows: {source: ./rows.jsonl}}\narms:\n"
    text += "  a: {train: {base: lab:student, data: own, epochs: 1}}\n"
    (tmp_path / "own.yaml").write_text(text)
    train = recipes.load(str(tmp_path / "own.yaml")).named("a")
    assert isinstance(train, Train)
    tokenizer = AutoTokenizer.from_pretrained(LAB_MODELS / "student")
    sizes = [len(example(tokenizer, row["prompt"], row["response"], None, 0)["labels"]) for row in rows]
    texts = Lengths(Store(tmp_path), [train]).data(train.data, train.base)
    one = Costs(Store(tmp_path), machines.load("laptop"), [train]).of(train)
    assert texts.longest == max(sizes) and one.read.low == one.read.high == pytest.approx(sum(sizes))
    assert one.basis == ("measured rows", "training") and one.memory < 2 * 2**30


@pytest.mark.parametrize(
    ("span", "text"),
    [(Span(36e6, 96e6), "36–96 M"), (known(1.5e3), "1.5 k"), (Span(0, 0), ""), (Span(900, 1100), "0.9–1.1 k")],
)
def test_spans_are_printed_in_one_unit(span: Span, text: str) -> None:
    assert amount(span) == text
