"""The library: the method in Python, the same digests as in YAML, and what comes back."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import World

import micota as mc
from micota.errors import MicotaError
from micota.machine import MachineProfile, TrainConfig
from micota.recipe.recipe import load, shipped
from micota.specs import SftData, Source, Train, Verify, walk

METHOD = """
name: python
let:
  math: {problems: {source: lab:arithmetic, split: train, n: 24, seed: 3}}
  test: {problems: {source: lab:arithmetic, split: test, n: 8}}
  long: {distill: {from: lab:teacher, data: math, prompt: "{problem}", precision: float32, sampling: {max_tokens: 300}}}
  ta-long: {train: {base: lab:ta, data: long, max_steps: 2, batch: 4, cutoff: 512, precision: float32, lr: 1e-5}}
  ta-mid: {dial: {base: lab:ta, models: [ta-long], method: dare_ties, density: 0.7, rescale: inverse_density,
                  weight: [0.3, 0.9], steps: 2, refine: 0, max_loss: 1, target: {length: 0.5, of: ta-long},
                  probe: {data: math, n: 8, prompt: "{problem}", sampling: {max_tokens: 120}}}}
  mid: {distill: {from: ta-mid, data: math, prompt: "{problem}", precision: float32, sampling: {max_tokens: 120}}}
arms:
  instruct: lab:student
  strong: {train: {base: lab:student, data: long, max_steps: 2, batch: 4, cutoff: 512, precision: float32}}
  micota: {train: {base: lab:student, data: mid, max_steps: 2, batch: 4, cutoff: 512, precision: float32}}
evaluate: {models: [arms], data: [test], prompt: "{problem}", sampling: {max_tokens: 60}}
"""

ASKED = {"prompt": "{problem}", "sampling": {"max_tokens": 60}}


def method() -> dict[str, Any]:
    """The front door, word for word as the documentation has it, with the lab's models and two steps."""
    math = mc.problems("lab:arithmetic", split="train", n=24, seed=3)
    teacher, ta, student = "lab:teacher", "lab:ta", "lab:student"
    asked = {"prompt": "{problem}", "precision": "float32"}
    short, tuned = {"max_tokens": 120}, {"max_steps": 2, "batch": 4, "cutoff": 512, "precision": "float32"}
    long = mc.distill(teacher, math, **asked, sampling={"max_tokens": 300})
    ta_long = mc.train(ta, long, lr=1e-5, **tuned)
    ta_mid = mc.dial(
        ta, [ta_long], method="dare_ties", density=0.7, rescale="inverse_density", weight=(0.3, 0.9), steps=2,
        refine=0, max_loss=1, target=mc.length(0.5, of=ta_long),
        probe={"data": math, "n": 8, "prompt": "{problem}", "sampling": short},
    )  # fmt: skip
    arms = {
        "instruct": student,
        "strong": mc.train(student, long, **tuned),
        "micota": mc.train(student, mc.distill(ta_mid, math, **asked, sampling=short), **tuned),
    }
    return arms


def test_python_and_yaml_make_the_same_specs(tmp_path: Path) -> None:
    (tmp_path / "method.yaml").write_text(METHOD)
    recipe = mc.load(tmp_path / "method.yaml")
    arms = method()
    test = mc.problems("lab:arithmetic", split="test", n=8)
    ours = mc.Recipe(
        arms=arms, evaluate={"data": {"test": test}, "prompt": "{problem}", "sampling": {"max_tokens": 60}}
    )
    assert {word: arm.digest for word, arm in ours.arms.items()} == {k: v.digest for k, v in recipe.arms.items()}
    assert [one.spec.digest for one in ours.evaluations] == [one.spec.digest for one in recipe.evaluations]


def test_the_front_door_from_specs_to_results(tmp_path: Path) -> None:
    arms = method()
    test = mc.problems("lab:arithmetic", split="test", n=8)
    plan = mc.Workspace(tmp_path / "runs", machine="laptop").plan(arms)
    assert {"new", "done"} >= set(plan.frame.state) and not (tmp_path / "runs").exists()
    assert plan.cost().hours_high.sum() > 0
    ws = mc.Workspace(tmp_path / "runs", machine=MachineProfile(train=TrainConfig(micro_batch=4)))  # in this process
    results = ws.evaluate(arms, {"test": test}, prompt="{problem}", max_tokens=60)
    assert len(results.frame) == 3 * 8 * 2  # arms, problems, scorers
    assert set(results.frame.arm) == {"instruct", "strong", "micota"}
    compared = results.compare("micota", "strong")
    assert compared.accuracy["test"].n == 8
    model = ws.make(arms["micota"])
    assert (model.path / "config.json").is_file() and model.facts["steps"] == 2
    assert model.lineage[-1] == model.id and any(one.startswith("dial-") for one in model.lineage)
    again = ws.evaluate(arms, {"test": test}, prompt="{problem}", max_tokens=60)
    assert again.frame.equals(results.frame)
    saved = mc.Recipe(arms=arms, evaluate={"data": {"test": test}}).save(tmp_path / "mine.yaml")
    mine = mc.Recipe(arms=arms)
    assert {k: v.digest for k, v in mc.load(saved).arms.items()} == {k: v.digest for k, v in mine.arms.items()}


@pytest.mark.parametrize("name", sorted(shipped()))
def test_a_shipped_recipe_saved_and_loaded_again_has_the_same_digests(name: str, tmp_path: Path) -> None:
    recipe = load(name)
    again = mc.load(recipe.save(tmp_path / "again.yaml"))
    assert {k: v.digest for k, v in again.names.items() if k in recipe.names} == {
        k: v.digest for k, v in recipe.names.items()
    }
    assert {spec.digest for spec in again.targets} == {spec.digest for spec in recipe.targets}


def test_responses_are_read_with_their_problems(world: World) -> None:
    ws = mc.Workspace(world.folder / "store", world.machine)
    answers = mc.generate(
        str(world.folder / "models/student"), str(world.folder / "test.jsonl"), prompt="{problem}",
        precision="float32", sampling={"max_tokens": 6},
    )  # fmt: skip
    rows = list(ws.make(answers).rows())
    assert len(rows) == 4 and all(row["problem"] in row["prompt"] for row in rows)
    verdicts = ws.make(mc.verify(answers)).frame()
    assert set(verdicts.columns) >= {"verdict", "problem", "gold", "response", "engine"}


def test_a_grader_of_ones_own_is_a_function_of_a_file(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.folder / "lenient.py").write_text("def grade(response, gold):\n    return True\n")
    monkeypatch.syspath_prepend(str(world.folder))
    monkeypatch.chdir(world.folder)
    import lenient  # type: ignore[import-not-found]

    answers = mc.generate("./models/student", "./test.jsonl", prompt="{problem}", sampling={"max_tokens": 4})
    one, two = mc.verify(answers, by=lenient.grade), mc.verify(answers, by="lenient:grade")
    assert isinstance(one, Verify) and one.digest == two.digest and one.grader is not None


def test_forgotten_artifacts_are_made_again(world: World) -> None:
    ws = mc.Workspace(world.folder / "store", world.machine)
    data = mc.problems(str(world.folder / "train.jsonl"))
    first = ws.make(data)
    assert ws.forget(data) == [first.id]
    with pytest.raises(MicotaError, match="is not made yet"):
        ws.artifact(data)
    assert ws.make(data).manifest.content == first.manifest.content


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: mc.train("lab:student", "lab:arithmetic", lrr=1), "unknown field 'lrr'"),
        (
            lambda: mc.train("lab:student", mc.problems("lab:arithmetic", split="train", n=2)),
            "training data is expected",
        ),
        (lambda: mc.train("lab:studant", "./rows.jsonl"), "no model 'lab:studant' is shipped"),
        (lambda: mc.problems("lab:arithmetic", benchmark="math5000"), "unknown benchmark 'math5000'"),
        (lambda: mc.generate("lab:student", "math5000"), "unknown problem set 'math5000'"),
        (lambda: mc.Recipe(arms={"a": "lab:student"}, evaluate={"datum": []}), "unknown key 'datum'"),
    ],
)
def test_a_mistake_says_what_and_how_to_mend_it(call: object, says: str, tmp_path: Path) -> None:
    with pytest.raises(MicotaError, match=says):
        call()  # type: ignore[operator]


def test_help_shows_fields_with_defaults() -> None:
    import inspect

    parameters = inspect.signature(mc.train).parameters
    assert parameters["lr"].default == 1e-5 and "peak learning rate" in (mc.train.__doc__ or "")
    assert {"base", "data", "epochs", "lora"} <= set(parameters)


def test_importing_the_library_loads_nothing() -> None:
    code = "import sys, micota as mc; print([m for m in ('pydantic', 'torch', 'pandas', 'yaml') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_hub_id_is_resolved_below_its_uses() -> None:
    hub = Source(ref="some/model")
    spec = mc.train("some/model", SftData(source=Source(ref="./x", path="/x", revision="1")))
    assert isinstance(spec, Train) and spec.base.digest == hub.digest
    recipe = mc.Recipe(arms={"a": spec})
    assert [one.ref for one in walk(*recipe.names.values()) if isinstance(one, Source)] == ["some/model", "./x"]  # type: ignore[attr-defined]


def front_door(folder: Path) -> str:
    """The first block of docs/python.md with the lab's models, small files, and no other change."""
    text = (Path(__file__).parents[1] / "docs" / "python.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    for theirs, ours in {
        'mc.Workspace("runs", machine="one-gpu")': "mc.Workspace('runs', machine=machine)",
        '"hiyouga/math12k", split="train"': "'./train.jsonl'",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": "lab:teacher",
        "Qwen/Qwen2.5-14B-Instruct": "lab:ta",
        "Qwen/Qwen2.5-1.5B-Instruct": "lab:student",
        '["math500", "gsm8k"]': "['./test.jsonl', './more.jsonl']",
        "take(200)": "take(4)",
    }.items():
        assert theirs in code
        code = code.replace(theirs, ours)
    return code


def test_the_front_door_as_the_documentation_has_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.problems("more.jsonl", range(60, 63))
    monkeypatch.chdir(world.folder)
    names: dict[str, Any] = {"machine": world.machine}
    exec(front_door(world.folder), names)
    assert set(names["results"].frame.benchmark) == {"test", "more"}
    assert len(names["results"].frame) == 3 * (4 + 3) * 2  # arms, problems, scorers
    again = mc.load("mine.yaml")
    assert {k: v.digest for k, v in again.arms.items()} == {
        word: arm.digest for word, arm in mc.Recipe(arms=names["arms"]).arms.items()
    }
    wanted = {one.spec.digest for one in again.evaluations}
    assert wanted == {one.spec.digest for one in names["results"].recipe.evaluations}


def test_workspaces_in_threads_share_a_store(world: World) -> None:
    contents: list[str] = []
    data = mc.problems(str(world.folder / "train.jsonl"))
    answers = mc.generate(str(world.folder / "models/ta"), data, prompt="{problem}", sampling={"max_tokens": 4})

    def work(store: str) -> None:
        contents.append(mc.Workspace(world.folder / store, world.machine).make(mc.verify(answers)).manifest.content)

    threads = [threading.Thread(target=work, args=(store,)) for store in ("one", "one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(contents) == 3 and len(set(contents)) == 1


def test_specs_and_recipes_fit_on_a_line() -> None:
    arms = method()
    assert repr(arms["strong"]).startswith("Train(base=Source('lab:student'), ")
    assert ", data=select-" in repr(arms["strong"])
    assert repr(mc.Recipe(arms=arms)).startswith("<Recipe untitled: instruct, strong, micota;")


def test_two_files_of_one_name_need_words(world: World) -> None:
    (world.folder / "more").mkdir()
    other = (world.folder / "more/test.jsonl").resolve()
    other.write_bytes((world.folder / "test.jsonl").read_bytes())
    with pytest.raises(MicotaError, match="two problem sets are called 'test'"):
        mc.Recipe(arms={"a": "lab:student"}, evaluate={"data": [world.folder / "test.jsonl", other]})


def test_dare_rescales_by_its_own_rule_unless_told_otherwise() -> None:
    dare = {"method": "dare_ties", "density": 0.7, "weight": 0.5}
    plain, stated = (
        mc.merge("lab:ta", ["lab:ta-base"], **dare, **more) for more in ({}, {"rescale": "inverse_density"})
    )
    assert plain.digest == stated.digest
    with pytest.raises(MicotaError, match="rescaled"):
        mc.merge("lab:ta", ["lab:ta-base"], method="ties", density=0.7, weight=0.5)


def test_ctrl_c_ends_a_call_and_the_same_call_resumes(tmp_path: Path) -> None:
    """In a process of its own, which interrupts itself as soon as completions are being written."""
    code = """
    import os, signal, threading, time
    from pathlib import Path
    import micota as mc
    from micota.machine import GenerateConfig, MachineProfile

    def written():
        return sum(path.read_bytes().count(b"\\n") for path in Path("runs").glob("pools/*/*.jsonl"))

    def interrupt():
        while not written():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    ws = mc.Workspace("runs", machine=MachineProfile(generate=GenerateConfig(batch=4)))
    data = mc.problems("lab:arithmetic", split="train", n=24)
    answers = mc.generate("lab:ta", data, prompt="{problem}", precision="float32", sampling={"max_tokens": 60})
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        ws.make(answers)
    except mc.Stopped as stopped:
        print("STOPPED:", stopped)
    before = written()
    ws.make(answers)
    print("RESUMED:", 0 < before < 24 and written() == 24)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "STOPPED: stopped; the same command, or the same call, goes on from here" in done.stdout
    assert "RESUMED: True" in done.stdout


def test_a_model_made_elsewhere_is_handed_back_as_it_is(tmp_path: Path) -> None:
    ws = mc.Workspace(tmp_path / "runs")
    models = ws.make({"instruct": "lab:student", "teacher": "lab:teacher"})
    assert (models["instruct"].path / "config.json").is_file() and models["teacher"].lineage
    assert not (tmp_path / "runs" / "artifacts").exists()


def test_a_file_that_changed_after_its_spec_was_built_is_refused(world: World) -> None:
    file = world.folder / "test.jsonl"
    spec, text = mc.problems(str(file)), file.read_text()
    file.write_text(text.replace("answer", "ANSWER"))
    ws = mc.Workspace(world.folder / "store", world.machine)
    with pytest.raises(MicotaError, match=r"test\.jsonl has changed since the spec was built"):
        ws.make(spec)
    file.write_text(text)
    assert len(list(ws.make(spec).rows())) == 4


def test_completions_that_another_artifact_uses_are_not_forgotten(world: World) -> None:
    ws = mc.Workspace(world.folder / "store", world.machine)
    asked: dict[str, Any] = {"prompt": "{problem}", "precision": "float32", "sampling": {"max_tokens": 6}}
    large = mc.generate(str(world.folder / "models/student"), str(world.folder / "test.jsonl"), **asked)
    small = mc.generate(
        str(world.folder / "models/student"), mc.problems(str(world.folder / "test.jsonl"), n=2), **asked
    )
    ws.make({"large": large, "small": small})
    ws.forget(small, answers=True)
    assert len(list(ws.artifact(large).rows())) == 4


def test_what_a_table_would_mix_is_refused(world: World) -> None:
    file = str(world.folder / "test.jsonl")
    ways = [{"data": {"t": file}, "prompt": text} for text in ("{problem}", "Say: {problem}")]
    with pytest.raises(MicotaError, match="'a' is evaluated on 't' in two ways"):
        mc.Recipe(arms={"a": "lab:student"}, evaluate=ways)
    sets = [{"data": {"t": file}}, {"data": {"t": str(world.folder / "train.jsonl")}}]
    with pytest.raises(MicotaError, match="two problem sets are called 't'"):
        mc.Recipe(arms={"a": "lab:student"}, evaluate=sets)


def test_a_recipe_that_would_read_back_as_another_is_not_saved(world: World) -> None:
    test, train = (mc.problems(str(world.folder / f"{name}.jsonl")) for name in ("test", "train"))
    recipe = mc.Recipe({"a": "lab:student"}, let={"t": train}, evaluate={"data": {"t": test}})
    with pytest.raises(MicotaError, match="would read back as another one"):
        recipe.save(world.folder / "wrong.yaml")
    assert not (world.folder / "wrong.yaml").exists()
    odd = mc.Recipe({"1e5": "lab:student", "nUll": "lab:ta"}, evaluate={"data": {"t": test}})
    assert set(mc.load(odd.save(world.folder / "odd.yaml")).arms) == {"1e5", "nUll"}


def test_a_probe_never_reads_beyond_its_problem_set() -> None:
    assert mc.problems("lab:arithmetic", split="train", n=5).take(10).problems.n == 5


def test_secrets_of_a_profile_are_not_repeated() -> None:
    from micota.machine import EngineConfig

    with pytest.raises(ValueError) as refused:
        EngineConfig(engine="openai", url="http://127.0.0.1:1/v1", key_env="sk-SECRET123")
    assert "SECRET" not in str(refused.value)


def test_a_benchmark_keeps_its_limit_and_stop_strings_under_any_form_of_sampling() -> None:
    from micota.specs import Sampling

    value = mc.evaluation("lab:student", "gsm8k", sampling=Sampling(temperature=0.5))
    mapping = mc.evaluation("lab:student", "gsm8k", sampling={"temperature": 0.5})
    assert value.digest == mapping.digest and "Q:" in value.completions.sampling.stop


def test_rows_of_an_artifact_and_of_results_have_the_same_response(world: World) -> None:
    ws = mc.Workspace(world.folder / "store", world.machine)
    arms, data = {"a": str(world.folder / "models/student")}, {"test": str(world.folder / "test.jsonl")}
    settings: dict[str, Any] = {"prompt": "{problem}", "precision": "float32", "by": "exact_match"}
    results = ws.evaluate(arms, data, max_tokens=6, **settings)
    rows = ws.artifact(results.recipe.evaluations[0].spec.completions).rows()
    assert set(results.responses()["response"]) == {row["response"] for row in rows}
