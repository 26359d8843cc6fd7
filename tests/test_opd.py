"""On-policy distillation: its losses and weights beside a loop of our own, interruptions, processes, refusals."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import World, kinds
from safetensors.torch import load_file
from test_processes import prefix, same
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel
from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

import micota as mc
from micota.chat import end_id, example, prompt_ids
from micota.checks.recipes import inspect_models
from micota.errors import MicotaError, StageFailed
from micota.export.folder import export
from micota.export.lineage import prompted
from micota.machine import TrainConfig
from micota.merging.padding import pad_folder
from micota.specs import BETA, OnPolicyDistillation, from_json, to_json
from micota.store.pool import find
from micota.training.rollouts import Draws, Prompt, answers

ARM = """
name: small
defaults:
  distil: {prompt: "{problem}", precision: float32, by: exact_match, sampling: {max_tokens: 12}}
  opd: {precision: float32, batch: 4, lr: 1e-3, steps: 3, max_tokens: 12}
let:
  train-set: {problems: {source: ./train.jsonl}}
  student: ./models/student
  teacher: ./models/teacher
  chains: {distil: {from: teacher, data: train-set}}
arms:
  opd: {opd: {base: student, teacher: teacher, problems: train-set, prompt: "{problem}"}}
  rows: {opd: {base: student, teacher: teacher, data: chains, on_policy: 0, divergence: forward_kl}}
evaluate: {models: [arms], data: [train-set], prompt: "{problem}", precision: float32, sampling: {max_tokens: 8}}
"""


@pytest.fixture
def distilled(world: World) -> World:
    world.recipe_file.write_text(ARM)
    return world


def made(world: World, *sets: str, only: str = "opd", **place: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights and the facts of an arm."""
    machine = world.machine.model_copy(update={"train": TrainConfig(**{"micro_batch": 4, **place})})
    world.run(*sets, only=only, machine=machine)
    manifest = world.store.manifest(world.load(*sets).named(only))
    assert manifest is not None
    return load_file(world.store.files(manifest) / "model.safetensors"), dict(manifest.facts)


def reference(world: World, spec: OnPolicyDistillation, beta: float) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses and weights of a plain loop: sample, both distributions, divergence, AdamW."""
    folder = world.folder / "models"
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32) for name in ("student", "teacher")
    )
    tokenizer = AutoTokenizer.from_pretrained(folder / "student")
    assert spec.problems is not None
    problems = (world.files_of(spec.problems) / "rows.jsonl").read_text().splitlines()
    draws = Draws([Prompt(prompt_ids(tokenizer, json.loads(row)["problem"], None)) for row in problems], spec)
    decay = [p for p in student.parameters() if p.ndim > 1]
    rest = [p for p in student.parameters() if p.ndim == 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=spec.lr)
    losses = []
    for step in range(spec.steps):
        total, count = torch.zeros(()), 0
        for number in range(step * spec.batch, (step + 1) * spec.batch):
            prompt = draws[number]["prompt"]
            ids, random = list(prompt["ids"]), torch.Generator().manual_seed(prompt["seed"])
            while len(ids) < len(prompt["ids"]) + spec.max_tokens:
                with torch.no_grad():
                    logits = student(torch.tensor([ids])).logits[0, -1] / spec.temperature
                noise = -torch.log(-torch.log(torch.rand(len(logits), generator=random, dtype=torch.float64)))
                ids.append(int((logits + noise).argmax()))
                if ids[-1] == tokenizer.eos_token_id:
                    break
            places = slice(len(prompt["ids"]) - 1, -1)
            p = (student(torch.tensor([ids])).logits[0, places] / spec.temperature).log_softmax(-1)
            with torch.no_grad():
                q = (teacher(torch.tensor([ids])).logits[0, places] / spec.temperature).log_softmax(-1)
            m = (beta * q.exp() + (1 - beta) * p.exp()).log()
            if beta in (0, 1):
                kl = (p.exp() * (p - q)) if beta else (q.exp() * (q - p))
            else:
                kl = beta * q.exp() * (q - m) + (1 - beta) * p.exp() * (p - m)
            total, count = total + kl.sum(), count + len(p)
        loss = total / count
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, student.state_dict()


@pytest.mark.parametrize(("divergence", "beta"), [("reverse_kl", 1.0), ("forward_kl", 0.0), ("jsd", 0.5)])
def test_losses_and_weights_are_those_of_a_plain_loop(distilled: World, divergence: str, beta: float) -> None:
    sets = (f"defaults.opd.divergence={divergence}", "defaults.opd.temperature=0.8")
    weights, facts = made(distilled, *sets, micro_batch=2)
    spec = distilled.load(*sets).named("opd")
    assert isinstance(spec, OnPolicyDistillation)
    losses, expected = reference(distilled, spec, beta)
    assert [loss for _, loss in facts["loss"]] == pytest.approx(losses, rel=1e-3, abs=2e-5)
    assert facts["steps"] == 3 and facts["learnt_tokens"] <= 3 * 4 * 12
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4, msg=name)


HALVES = (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16)
"""The student's distribution over five tokens, of 15/8 bits; its log2 sum to -14. The teacher's is even."""
BY_HAND = {
    "reverse_kl": math.log(5) - 15 / 8 * math.log(2),
    "forward_kl": 14 / 5 * math.log(2) - math.log(5),
    "jsd": sum(p * math.log(p / ((p + 0.2) / 2)) + 0.2 * math.log(0.2 / ((p + 0.2) / 2)) for p in HALVES) / 2,
}


@pytest.mark.parametrize("divergence", BY_HAND)
def test_the_divergences_by_hand_on_five_tokens(divergence: str) -> None:
    logits = torch.tensor([HALVES]).log()  # the hidden state times the identity
    loss, entropy = ChunkedDivergenceFunction.apply(
        *(logits, torch.eye(5), None),
        *(torch.zeros(1, 5), torch.eye(5), None),
        BETA[divergence],
        1.0,
        1.0,
        None,
        1.0,
        None,
    )
    assert float(loss) == pytest.approx(BY_HAND[divergence], abs=1e-6)
    assert float(entropy) == pytest.approx(15 / 8 * math.log(2), abs=1e-6)


def test_rows_in_the_place_of_answers_are_token_level_targets(distilled: World) -> None:
    """The first loss is the forward KL over the teacher's chains: of as many tokens as these have, EOS included."""
    _, facts = made(distilled, "defaults.opd.max_tokens=20", "defaults.opd.batch=8", only="rows")
    spec = distilled.load().named("chains")
    manifest = distilled.store.manifest(spec)
    assert manifest is not None
    folder = distilled.folder / "models"
    student, teacher = (
        AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.float32) for name in ("student", "teacher")
    )
    tokenizer = AutoTokenizer.from_pretrained(folder / "student")
    total, count = 0.0, 0
    for row in find([*map(distilled.store.pool, manifest.pools)], distilled.store.rows(manifest)):
        one = example(tokenizer, row.prompt, row.target, None, end_id(tokenizer, [tokenizer.eos_token_id]))
        learnt = torch.tensor(one["labels"][1:]) != -100
        with torch.no_grad():
            p, q = (
                m(torch.tensor([one["input_ids"]])).logits[0, :-1][learnt].log_softmax(-1) for m in (student, teacher)
            )
        total, count = total + float((q.exp() * (q - p)).sum()), count + int(learnt.sum())
    assert facts["loss"][0][1] == pytest.approx(total / count, abs=1e-5)
    assert facts["learnt_tokens"] == 3 * count


def test_rows_that_are_longer_are_dropped_and_counted(distilled: World) -> None:
    rows = [json.loads(line) for line in (distilled.folder / "answers.jsonl").read_text().splitlines()]
    rows[3]["text"] = "1+1=2;" * 5 + rows[3]["text"]
    (distilled.folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, facts = made(distilled, "defaults.opd.max_tokens=20", only="rows")
    assert (facts["examples"], facts["dropped"]) == (7, {"too_long": 1})
    with pytest.raises(StageFailed, match=r"all 8 responses are longer than 9 tokens[\s\S]*shortest has 16"):
        distilled.run("defaults.opd.max_tokens=9", only="rows")


def test_a_share_of_the_steps_is_on_policy(distilled: World) -> None:
    spec = distilled.load("arms.rows.opd.on_policy=0.25", "defaults.opd.steps=400").named("rows")
    assert isinstance(spec, OnPolicyDistillation)
    draws = Draws([Prompt([1], [2]), Prompt([3], [4])], spec)
    own = [draws.is_on_policy(step) for step in range(400)]
    assert 70 <= sum(own) <= 130
    step = own.index(True)
    assert [draws[i]["prompt"]["response"] for i in range(4 * step, 4 * step + 4)] == [[]] * 4
    assert [draws[i]["prompt"]["response"] != [] for i in range(len(draws))] == [
        not one for one in own for _ in range(4)
    ]


def test_every_pass_asks_every_prompt_once_and_samples_anew(distilled: World) -> None:
    spec = distilled.load().named("opd")
    assert isinstance(spec, OnPolicyDistillation)
    draws = [
        one["prompt"]
        for one in (lambda all_: [all_[i] for i in range(len(all_))])(Draws([Prompt([i]) for i in range(6)], spec))
    ]
    assert sorted(one["ids"][0] for one in draws[:6]) == sorted(one["ids"][0] for one in draws[6:]) == [*range(6)]
    assert len({one["seed"] for one in draws}) == 12


def test_an_answer_depends_on_its_seed_and_not_on_its_batch(models: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(models / "student", dtype=torch.float32)
    settings = {"max_new_tokens": 10, "eos_token_id": [2]}
    together = answers(model, [[1, 5], [1, 6, 7, 8]], [3, 4], settings, 1.0)
    assert together == answers(model, [[1, 5]], [3], settings, 1.0) + answers(model, [[1, 6, 7, 8]], [4], settings, 1.0)
    assert together[0] != answers(model, [[1, 5]], [5], settings, 1.0)[0]


LAB = ("let.student=lab:student", "let.teacher=lab:ta", "defaults.opd.max_tokens=60", "defaults.opd.steps=6")
"""Models whose answers end at different lengths."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_distil_what_one_distils(distilled: World, kind: str) -> None:
    alone, facts = made(distilled, *LAB, micro_batch=2)
    (distilled.folder / "store").rename(distilled.folder / "before")
    together, same_facts = made(distilled, *LAB, micro_batch=1, prefix=prefix(kind), activation_checkpointing=True)
    same(alone, together)
    assert [loss for _, loss in same_facts["loss"]] == pytest.approx([loss for _, loss in facts["loss"]], rel=1e-3)
    assert same_facts["learnt_tokens"] == facts["learnt_tokens"]
    assert same_facts["distributed"].startswith("2 processes")


@pytest.mark.slow
def test_processes_that_cannot_share_a_step_evenly_are_refused(distilled: World) -> None:
    with pytest.raises(StageFailed, match=r"2 processes cannot share 3 answers of a step evenly[\s\S]*batch: 4"):
        made(distilled, "defaults.opd.batch=3", prefix=prefix("ddp"))


@pytest.mark.slow
def test_killed_and_stopped_it_ends_with_the_same_weights(distilled: World) -> None:
    alone, _ = made(distilled, *LAB)
    (distilled.folder / "store").rename(distilled.folder / "before")
    distilled.write("machine.yaml", "train: {micro_batch: 4, checkpoint_every: 1}\n")
    sets = [word for one in LAB for word in ("--set", one)]
    command = [
        Path(sys.executable).parent / "micota",
        "run",
        "recipe.yaml",
        "--machine",
        "./machine.yaml",
        "--only",
        "opd",
    ]
    for number, after in ((signal.SIGKILL, 2), (signal.SIGTERM, 4)):
        run = subprocess.Popen([*command, *sets, "--store", "store"], cwd=distilled.folder, stdout=subprocess.DEVNULL)
        while run.poll() is None and last(distilled) < after:
            time.sleep(0.01)
        os.kill(run.pid, number)
        run.communicate(timeout=120)
        assert after <= last(distilled) < 6
    weights, facts = made(distilled, *LAB)
    assert facts["steps"] == len(facts["loss"]) == 6
    assert [name for name in weights if not torch.equal(weights[name], alone[name])] == []


def last(world: World) -> int:
    """The newest whole checkpoint."""
    found = world.folder.glob("store/making/opd-*/scratch/checkpoints/checkpoint-*/complete")
    return max((int(path.parent.name.partition("-")[2]) for path in found), default=0)


def test_in_half_precision_it_learns_about_the_same(distilled: World) -> None:
    _, facts = made(distilled, *LAB)
    weights, half = made(distilled, *LAB, "defaults.opd.precision=bfloat16")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert half["loss"][0][1] == pytest.approx(facts["loss"][0][1], rel=0.1)
    assert half["loss"][-1][1] < 0.5 * half["loss"][0][1]


def test_adapters_move_every_weight_that_they_are_on(distilled: World) -> None:
    weights, _ = made(distilled, "arms.opd.opd.lora={rank: 4}")
    before = load_file(distilled.folder / "models" / "student" / "model.safetensors")
    moved = [name for name in weights if not torch.equal(weights[name], before[name])]
    assert moved == [name for name in weights if "_proj.weight" in name]


def test_an_exported_model_is_prompted_as_it_was_asked(distilled: World) -> None:
    made(distilled)
    manifest = distilled.store.manifest(distilled.load().named("opd"))
    assert manifest is not None
    assert prompted(manifest) == (None, {})
    out = distilled.folder / "out"
    export(distilled.store, manifest, "opd", out, "./out", lambda done, total: None)
    card = (out / "README.md").read_text()
    assert "A model distilled on-policy" in card and "- divergence: `reverse_kl`" in card


def test_a_second_run_executes_nothing_and_another_teacher_reruns_it(distilled: World) -> None:
    assert kinds(distilled.run(only="opd")) == ["opd", "problems"]
    assert kinds(distilled.run(only="opd")) == []
    assert kinds(distilled.run("let.teacher=./models/ta", only="opd")) == ["opd"]
    spec = distilled.load().named("opd")
    assert from_json(to_json(spec)).digest == spec.digest


def test_python_and_recipes_say_the_same(distilled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(distilled.folder)
    mine = mc.opd(
        *("./models/student", "./models/teacher", "./train.jsonl"),
        **{"prompt": "{problem}", "precision": "float32", "batch": 4, "lr": 1e-3, "steps": 3, "max_tokens": 12},
    )
    assert mine.digest == distilled.load().named("opd").digest


def test_one_long_prompt_does_not_cut_the_answers_to_all(distilled: World) -> None:
    path = distilled.folder / "train.jsonl"
    long = json.loads(path.read_text().splitlines()[0])
    long["problem"] += " 1" * 10
    path.write_text(path.read_text() + json.dumps(long) + "\n")
    with pytest.raises(StageFailed, match=r"leaves room for \d+ tokens of an answer, max_tokens is 512"):
        made(distilled, "defaults.opd.max_tokens=512", 'arms.opd.opd.prompt="{problem} ' + "1 + " * 140 + '1"')


REFUSED = {
    "arms.opd.opd.on_policy=0.5": "on_policy is 0.5, and problems have no responses: give data in their place",
    "arms.rows.opd.on_policy=1.0": "the responses of data are never read; give problems, or a smaller on_policy",
    "arms.opd.opd.data=chains": "give one of the two: problems",
    "arms.opd.opd.teacher=student": "teacher and base are the same model",
    "arms.rows.opd.prompt=x {problem}": "the rows of data have user messages of their own",
    "arms.opd.opd.temperature=1e-300": "temperature: 1e-300: Input should be greater than or equal to 0.01",
    "arms.opd.opd.lora={targets: [lm_head]}": "an adapter on lm_head would learn nothing",
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_cannot_be_is_refused_when_the_recipe_is_read(distilled: World, change: str) -> None:
    with pytest.raises(MicotaError) as error:
        distilled.load(change)
    assert REFUSED[change] in str(error.value)


def test_a_teacher_behind_a_server_is_refused_by_check(distilled: World) -> None:
    recipe = distilled.load("let.teacher=endpoint:some-model")
    (finding,) = inspect_models([recipe.named("opd")])[1]
    assert "a teacher behind a server cannot be distilled on-policy" in str(finding.error())


def test_rows_of_a_teacher_that_are_of_no_token_are_left_out(distilled: World) -> None:
    """As between Qwen2.5's sizes, whose embeddings are padded to different numbers of rows."""
    pad_folder(distilled.folder / "models" / "teacher", distilled.folder / "padded", 40)
    _, facts = made(distilled)
    _, padded = made(distilled, "let.teacher=./padded")
    assert padded["loss"] == facts["loss"]
    with pytest.raises(StageFailed, match=r"the teacher \./models/teacher has 28 rows[\s\S]*micota pad .* --rows 40"):
        distilled.run("let.student=./padded", only="opd")


def test_models_that_see_padding_are_refused(distilled: World) -> None:
    """Learned positions: GPT-2's. The prompts of a step are of unequal length, as any two are."""
    config = GPT2Config(vocab_size=28, n_embd=16, n_layer=2, n_head=2, n_positions=128, bos_token_id=1, eos_token_id=2)
    torch.manual_seed(1)
    GPT2LMHeadModel(config).save_pretrained(distilled.folder / "gpt2")
    for path in (distilled.folder / "models" / "student").glob("*token*"):
        (distilled.folder / "gpt2" / path.name).write_bytes(path.read_bytes())
    template = distilled.folder / "models" / "student" / "chat_template.jinja"
    (distilled.folder / "gpt2" / template.name).write_bytes(template.read_bytes())
    with pytest.raises(StageFailed, match=r"padding at the left of a row[\s\S]*gpt2"):
        made(distilled, "let.teacher=./gpt2")
