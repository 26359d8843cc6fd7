"""What is exported serves as it was trained, tells where it comes from, and never takes the place of anything."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import LAB, Quiet, World, kinds
from huggingface_hub import ModelCard
from local_hub import Hub, hub  # noqa: F401  (a fixture)

from micota import chat as prompts
from micota.errors import MicotaError
from micota.export import card
from micota.export import folder as exports
from micota.export.card import code
from micota.generation.engine import open_engine
from micota.machine import EngineConfig
from micota.run.execution import Run
from micota.specs import Generate, Train
from micota.store.records import Request


def export(world: World, name: str, out: str = "out") -> Path:
    manifest = world.store.find(name)
    exports.export(world.store, manifest, name, world.folder / out, f"./{out}", lambda done, total: None)
    return world.folder / out


def front(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "README.md").read_text().split("---\n")[1]))


def test_an_exported_model_says_through_the_usual_interface_what_it_says_in_micota(made: World) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = export(made, "small/strong")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.use_cache and model.dtype == torch.float32
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "12+34"}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    torch.set_num_threads(1)
    out = model.generate(**asked, max_new_tokens=200, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert out[-1] == tokenizer.eos_token_id
    arm = made.load(*LAB).named("strong")
    assert isinstance(arm, Train)
    spec = Generate(
        model=arm,
        problems=made.load(*LAB).evaluations[0].spec.problems,
        prompt={"template": "{problem}"},  # type: ignore[arg-type]
        sampling={"max_tokens": 200},  # type: ignore[arg-type]
        precision="float32",
    )
    engine = open_engine(spec, made.store.files(made.store.find("small/strong")), EngineConfig(), threads=1)
    (own,) = next(iter(engine.answer([Request("k", 0, "12+34")])))
    engine.close()
    assert own.finish_reason == "stop"
    assert own.text == tokenizer.decode(out[:-1])


def test_its_card_tells_lineage_and_figures(made: World) -> None:
    student = made.store.manifest(made.load(*LAB).named("micota"))  # linked to the arm `strong`: equal answers
    assert student is not None and student.same_as
    folder = export(made, student.id)
    text = (folder / "README.md").read_text()
    assert front(folder)["library_name"] == "transformers"
    assert "base_model" not in front(folder) and "license" not in front(folder)  # nothing of the Hub, nothing invented
    for step in ("problems", "generate", "verify", "select", "train", "merge"):
        assert f". {step}**" in text
    for said in (
        "`small/ta-long`",
        f"same content as `{student.same_as}`",
        "- weights: `[0.5]`",
        "- density: `0.7`",
        "- lr: `1e-06`",
    ):
        assert said in text, said
    assert "- schedule: `cosine`" in text  # a default that the manifest does not repeat
    assert "| `test.jsonl` | greedy, at most 12 tokens | 4 | 1 | 100.0 ± 0.0 |" in text
    assert "```text\n{problem}\n```" in text
    assert "- source: `lab:student`, content `" in text
    assert 'vllm serve "./out"' in text
    assert str(made.folder) not in text  # no path of this machine
    assert json.loads((folder / "micota.json").read_text())["artifact"] == student.id
    results = ModelCard.load(folder / "README.md").data.eval_results
    assert [(one.dataset_name, one.metric_name, one.metric_value) for one in results] == [
        ("test.jsonl", "accuracy by exact_match, greedy, at most 12 tokens", 100.0)
    ]
    assert results[0].metric_args == {"n": 4, "samples": 1, "standard_error": 0.0}


def test_end_tokens_are_those_that_the_template_writes(made: World) -> None:
    from transformers import AutoTokenizer

    folder = export(made, "small/strong")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert prompts.turn_end(tokenizer) == tokenizer.eos_token_id
    told = json.loads((folder / "generation_config.json").read_text())
    assert told["eos_token_id"] == tokenizer.eos_token_id and told["pad_token_id"] == tokenizer.pad_token_id
    other = tokenizer.convert_tokens_to_ids("<unk>")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": other, "temperature": 0.7}))
    served = exports.write_serving_config(folder)
    assert served["eos_token_id"] == [other, tokenizer.eos_token_id]
    assert served["temperature"] == 0.7  # the base's sampling stays


def test_training_data_are_exported_as_rows(made: World) -> None:
    folder = export(made, "small/long-cot")
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and all(row["response"].startswith(row["prompt"]) for row in rows)
    assert front(folder)["configs"][0]["data_files"] == "rows.jsonl"
    assert "8 prompts with one response each" in (folder / "README.md").read_text()


def test_nothing_is_overwritten_and_what_is_no_model_is_refused(made: World) -> None:
    (made.folder / "out").mkdir()
    assert export(made, "small/strong").is_dir()  # an empty folder is as good as none
    with pytest.raises(MicotaError, match="is there already"):
        export(made, "small/strong")
    verdicts = made.store.manifest(made.load(*LAB).evaluations[0].spec)
    assert verdicts is not None
    with pytest.raises(
        MicotaError, match=r"is of kind verify; models and training data can be exported\n  fix: .*ta-mid"
    ):
        export(made, verdicts.id, "other")
    with pytest.raises(MicotaError, match="did you mean 'small/strong'"):
        export(made, "small/strang")
    assert sorted(path.name for path in made.folder.iterdir() if path.name.startswith(".")) == []


def test_what_was_removed_says_what_to_type_and_that_makes_it_again(made: World) -> None:
    manifest = made.store.find("small/ta-long")
    shutil.rmtree(made.store.files(manifest))
    with pytest.raises(MicotaError, match=r"were removed\n.*\n.*\n  fix: micota run THE-FILE-OF-small --only ta-long"):
        export(made, "small/ta-long")
    spec = made.load(*LAB).named("ta-long")
    outcome = Run(made.fresh(), made.machine, Quiet()).go([spec], files=True)
    assert kinds(outcome) == ["train"]
    again = made.store.find("small/ta-long")
    assert again.content == manifest.content
    assert export(made, "small/ta-long").is_dir()


def test_a_failed_export_leaves_nothing(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(MicotaError, match="cannot be written: No space left on device"):
        exports.export(made.store, made.store.find("small/strong"), "x", made.folder / "out", "x", full)
    assert not (made.folder / "out").exists() and not list(made.folder.glob(".out*"))


def test_pushed_models_come_with_their_card(made: World, hub: tuple[Hub, str]) -> None:  # noqa: F811
    there, address = hub
    command = [
        sys.executable,
        "-m",
        "micota",
        "export",
        "small/strong",
        "out",
        "--push",
        "me/student",
        "--store",
        "store",
    ]
    home = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_none", "HF_HOME": str(made.folder / "hf")}
    done = subprocess.run(
        command, cwd=made.folder, env={**os.environ, **home}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "pushed: " in done.stdout
    assert there.created["visibility"] == "private" and there.created.get("type", "model") == "model"
    assert there.files.keys() >= {"README.md", "config.json", "generation_config.json", "tokenizer_config.json"}
    assert 'from_pretrained("me/student")' in there.files["README.md"].decode()


def test_pushed_results_are_a_data_set_and_its_commit_is_that_of_the_lock(
    made: World,
    hub: tuple[Hub, str],  # noqa: F811
) -> None:
    there, address = hub
    home = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_none", "HF_HOME": str(made.folder / "hf")}
    words = ["export", "recipe.yaml", "logs", "--format", "lm-eval", "--push", "me/results", "--store", "store"]
    sets = [f"--set={word}" for word in LAB]
    command = [sys.executable, "-m", "micota", *words, *sets]
    done = subprocess.run(command, cwd=made.folder, env={**os.environ, **home}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert there.created["type"] == "dataset" and there.created["visibility"] == "private"
    assert there.files.keys() == {
        path.relative_to(made.folder / "logs").as_posix() for path in files_of(made.folder / "logs")
    }
    code = "from pathlib import Path; from micota.store.resolution import Lock; lock = Lock(Path('mine.lock'));"
    code += "lock.source('me/results', 'dataset'); lock.resolve(['me/results']); lock.save()"
    subprocess.run([sys.executable, "-c", code], cwd=made.folder, env={**os.environ, **home}, check=True)
    assert json.loads((made.folder / "mine.lock").read_text()) == {"dataset:me/results": "0" * 40}


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_card_asks_for_no_more_than_the_model_has_and_shows_what_ended_its_training(made: World) -> None:
    folder = export(made, "small/strong")
    text, config = (folder / "README.md").read_text(), json.loads((folder / "config.json").read_text())
    assert f"max_new_tokens={config['max_position_embeddings'] // 2}," in text
    assert "max_steps" in text and "epochs" not in text


@pytest.mark.parametrize("variables", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_a_push_without_a_network_does_not_advise_to_log_in(tmp_path: Path, variables: dict[str, str]) -> None:
    code = "from pathlib import Path; from micota.export.hub import push; push('a/b', 'model', *2 * [Path('.')])"
    env = {**os.environ, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_x", **variables}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "check the network" in done.stderr and "hf auth login" not in done.stderr


def test_a_card_prints_what_recipes_say_as_code(made: World) -> None:
    hostile = "x\n---\nlicense: mit\n---\n# <script>alert(1)</script> [a](http://b) `c` {{ 7 * 7 }}"
    manifest = made.store.find("small/strong")
    system = "```\n</script>\n# heading\n````"
    manifest = replace(manifest, fields={**manifest.fields, "system": system, "lr": hostile})
    text = card.of_model(made.store, manifest, hostile, "a", {})
    loaded = ModelCard(text)
    assert loaded.data.license is None and loaded.data.eval_results
    prose = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", loaded.text, flags=re.S | re.M)
    prose = re.sub(r"`[^`\n]*`", "", prose)
    assert not re.search(r"script|\]\(|heading|license:|49", prose)
    assert "{{ 7 * 7 }}" in text


def test_hostile_text_is_harmless_in_a_card() -> None:
    assert code("a`b|c\nd\u202ee") == "`a'b¦c d\\u202ee`"
