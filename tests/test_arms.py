"""Arms beside the paper's: a straight line between two models, and chains that a model has written again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import World
from safetensors.torch import load_file

import micota as mc
from micota.errors import MicotaError
from micota.generation.fake_server import FakeServer
from micota.machine import MachineProfile, ServerConfig

LINE = """
name: line
for: {w: [0.4, 0.5]}
arms:
  instruct: ./models/ta
  line: {interpolate: {base: ./models/ta, model: ./models/teacher, weight: $w}}
  as-merge: {merge: {base: ./models/ta, models: [./models/teacher], method: task_arithmetic, weight: $w, rescale: null}}
"""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: one for file in folder.glob("*.safetensors") for name, one in load_file(file).items()}


def test_the_line_between_two_models_is_their_weighted_mean(world: World) -> None:
    ws, models = mc.Workspace(world.folder / "line"), world.folder / "models"
    base, model = weights(models / "ta"), weights(models / "teacher")
    for share in (0.0, 0.25, 1.0):
        made = weights(ws.make(mc.interpolate(models / "ta", models / "teacher", share)).path)
        assert made.keys() == base.keys()
        for name, one in made.items():
            expected = (1 - share) * base[name].double() + share * model[name].double()
            assert one.dtype == base[name].dtype
            assert torch.allclose(one.double(), expected, rtol=1e-6, atol=1e-8), name


def test_a_recipe_names_it_and_it_is_one_artifact_with_the_merge(world: World) -> None:
    world.write("line.yaml", LINE)
    recipe = mc.load(str(world.folder / "line.yaml"))
    for w in ("0.4", "0.5"):
        assert recipe.named(f"line[w={w}]").digest == recipe.named(f"as-merge[w={w}]").digest
    assert recipe.named("line[w=0.4]") != recipe.named("line[w=0.5]")


CHAINS = """
name: rewritten

defaults: {distill: {prompt: "{problem}", by: exact_match}}
let:
  math: {problems: {source: ./math.jsonl}}
  long: {distill: {from: endpoint:teacher, data: math}}
  brief: {rewrite: {data: long, model: endpoint:editor, by: exact_match, 
          prompt: "Shorten: {response} ({problem}) {braces}"}}
arms: {taught: {train: {base: ./models/student, data: brief, precision: float32, max_steps: 1, batch: 2}}}
"""


def test_chains_are_rewritten_and_kept_if_they_are_still_right(world: World) -> None:
    golds = {"1+1": "2", "2+2": "4", "3+3 {response}": "6", "4+4": "8"}
    world.write("math.jsonl", "".join(json.dumps({"problem": q, "answer": a}) + "\n" for q, a in golds.items()))
    world.write("rewritten.yaml", CHAINS)

    def answer(message: str) -> str:
        if not message.startswith("Shorten: "):
            return f"so so so \\boxed{{{golds[message]}}}" if message != "4+4" else "\\boxed{9}"
        gold = message.partition("\\boxed{")[2][0]
        return "\\boxed{5}" if gold == "4" else f"<think>hm \\boxed{{0}}</think>\n so \\boxed{{{gold}}}"

    with FakeServer(answer, model="teacher") as one, FakeServer(answer, model="editor") as two:
        servers = {"endpoint:teacher": ServerConfig(engine="openai", url=one.url, fake=True)}
        servers["endpoint:editor"] = ServerConfig(engine="openai", url=two.url, fake=True)
        ws = mc.Workspace(world.folder / "store", machine=MachineProfile(servers=servers))
        recipe = mc.load(str(world.folder / "rewritten.yaml"))
        made = ws.make(recipe.named("brief"))
        assert set(two.asked) == {
            "Shorten: so so so \\boxed{2} (1+1) {braces}",
            "Shorten: so so so \\boxed{4} (2+2) {braces}",
            "Shorten: so so so \\boxed{6} (3+3 {response}) {braces}",
        }
        assert {k: made.facts[k] for k in ("answers", "kept", "dropped")} == {
            "answers": 3, "kept": 2, "dropped": {"rewritten wrongly": 1},
        }  # fmt: skip
        texts = {row["prompt"]: row["response"] for row in made.rows()}
        assert texts == {"1+1": "so \\boxed{2}", "3+3 {response}": "so \\boxed{6}"}
        assert made.facts["share_of_the_length"] == len("so \\boxed{2}") / len("so so so \\boxed{2}")
        assert ws.make(recipe.named("taught")).facts["examples"] == 2
        before = sum(two.asked.values())
        world.write("rewritten.yaml", CHAINS.replace("source: ./math.jsonl", "source: ./math.jsonl, n: 2"))
        ws.make(mc.load(str(world.folder / "rewritten.yaml")).named("brief"))
        assert sum(two.asked.values()) == before, "fewer chains: every rewritten one is in the pool"
    again = mc.load(str(recipe.save(world.folder / "again.yaml") or world.folder / "again.yaml"))
    assert again.named("brief") == recipe.named("brief")


@pytest.mark.parametrize(
    ("data", "prompt", "words"),
    [("./math.jsonl", "{problem} {response}", "give a `distill`"), (None, "{problem}", "no {response}")],
)
def test_what_cannot_be_rewritten_is_refused(world: World, data: str | None, prompt: str, words: str) -> None:
    world.write("math.jsonl", '{"prompt": "a", "response": "b"}\n')
    chains = (data and world.folder / data) or mc.distill("some/model", mc.problems("some/data"))
    with pytest.raises(MicotaError, match=words):
        mc.rewrite(chains, "some/model", prompt=prompt)
