"""What micota exports, in the hands of the programs it is for: inspect's viewer, TRL, LLaMA-Factory's loader, mergekit.

MICOTA_INSPECT and MICOTA_MERGEKIT name Pythons that have them, MICOTA_LLAMA_FACTORY a folder with the package
(`make families`); without them their parts are skipped. TRL is always there.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from conftest import LAB, World
from test_interchange import METHODS, exported, outside
from test_recipe import command

from micota.chat import end_id, eos_ids, example
from micota.report.results import Results
from micota.specs import Merge

__all__ = ["exported"]  # a fixture


@contextmanager
def viewer(python: str, logs: Path) -> Iterator[str]:
    """The address of the real `inspect view` of a folder, as long as it runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [str(Path(python).parent / "inspect"), "view", "start", "--log-dir", str(logs), "--port", str(port)]
    with open(logs.parent / "viewer.txt", "w") as said, subprocess.Popen(words, stdout=said, stderr=said) as running:
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(300):
                assert running.poll() is None, (logs.parent / "viewer.txt").read_text()
                try:
                    fetch(f"{address}/api/log-dir")
                    break
                except OSError:
                    time.sleep(0.2)
            yield address
        finally:
            running.terminate()


def fetch(address: str) -> Any:
    with urllib.request.urlopen(address, timeout=20) as reply:
        return json.loads(reply.read())


def test_the_real_inspect_view_opens_the_logs(exported: World, tmp_path: Path) -> None:
    python = outside("MICOTA_INSPECT")
    found = Results(exported.load(*LAB), exported.store)
    accuracy = found.table().set_index("arm").accuracy
    with viewer(python, tmp_path / "inspect") as address:
        files = fetch(f"{address}/api/logs")["files"]
        assert len(files) == len(accuracy)
        for one in files:
            log = fetch(f"{address}/api/logs/{quote(one['name'], safe='')}")
            arm = log["eval"]["model"].partition("/")[2]
            (score,) = log["results"]["scores"]
            assert log["status"] == "success" and score["metrics"]["accuracy"]["value"] == pytest.approx(accuracy[arm])
            rows = found.responses(arm)
            assert [sample["messages"][-1]["content"] for sample in log["samples"]] == rows.response.tolist()
            letters = [sample["scores"][score["name"]]["value"] for sample in log["samples"]]
            assert [letter == "C" for letter in letters] == (rows.verdict == "correct").tolist()


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated")
@pytest.mark.parametrize("form", ["trl", "chat"])
def test_trl_makes_the_tokens_that_we_train_on(
    form: str, made: World, models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The lab's template ends an answer with EOS and nothing behind it, as ours does."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    store = ["--store", str(made.folder / "store")]
    for kind in (form, "rows"):
        arguments = ["small/long-cot", str(tmp_path / kind), "--format", kind, *store]
        assert command(monkeypatch, "export", *arguments) == 0
    files = str(tmp_path / form / "data.jsonl")
    data = load_dataset("json", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    model = AutoModelForCausalLM.from_pretrained(models / "student")
    tokenizer = AutoTokenizer.from_pretrained(models / "student")
    settings = SFTConfig(
        str(tmp_path / "out"),
        max_length=None,
        use_cpu=True,
        report_to=[],
        assistant_only_loss=form == "chat",
        bf16=False,
    )
    trainer = SFTTrainer(model, args=settings, train_dataset=data, processing_class=tokenizer)
    theirs = [(row["input_ids"], row["labels"]) for row in trainer.train_dataset]
    end = end_id(tokenizer, eos_ids(model.generation_config, tokenizer))
    plain = [json.loads(line) for line in (tmp_path / "rows" / "rows.jsonl").read_text().splitlines()]
    ours = [example(tokenizer, row["prompt"], row["response"], None, end) for row in plain]
    assert theirs == [(row["input_ids"], row["labels"]) for row in ours] and len(ours) == 8


FACTORY = """
import json, sys, types
from importlib.util import find_spec
package = types.ModuleType("llamafactory.data")  # without its own imports, which want versions of everything
package.__path__ = [f"{path}/data" for path in find_spec("llamafactory").submodule_search_locations]
sys.modules["llamafactory.data"] = package
from llamafactory.data.converter import get_dataset_converter
from llamafactory.data.parser import get_dataset_list
(attributes,) = get_dataset_list(["mine"], sys.argv[1])
assert attributes.load_from == "file", attributes
convert = get_dataset_converter(attributes.formatting, attributes, None)
with open(f"{sys.argv[1]}/{attributes.dataset_name}") as file:
    print(json.dumps([convert(json.loads(line)) for line in file]))
"""


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_llama_factorys_loader_reads_the_conversations(
    system: str | None, made: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its parser of dataset_info.json and its converter, with the packages of this environment."""
    folder = outside("MICOTA_LLAMA_FACTORY")
    name = "small/long-cot"
    if system is not None:
        lines = [{"prompt": f"{i}+1", "response": f"it is {i + 1}"} for i in range(3)]
        (made.folder / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        text = f"let: {{d: {{rows: {{source: ./mine.jsonl, system: {system}}}}}}}\narms: {{a: lab:student}}\n"
        (made.folder / "given.yaml").write_text(text)
        made.run(only="d", name="given.yaml")
        spec = made.load(name="given.yaml").named("d")
        made.store.name("given", "d", spec)
        name = "given/d"
    for kind, out in (("sharegpt", "mine"), ("rows", "rows")):
        given = ["--format", kind, "--store", str(made.folder / "store")]
        assert command(monkeypatch, "export", name, str(tmp_path / out), *given) == 0
    words = [sys.executable, "-c", FACTORY, str(tmp_path / "mine")]
    read = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": folder})
    assert read.returncode == 0, read.stderr
    plain = [json.loads(line) for line in (tmp_path / "rows" / "rows.jsonl").read_text().splitlines()]
    theirs = json.loads(read.stdout.splitlines()[-1])
    assert [one["_prompt"] for one in theirs] == [[{"role": "user", "content": row["prompt"]}] for row in plain]
    assert [one["_response"] for one in theirs] == [
        [{"role": "assistant", "content": row["response"]}] for row in plain
    ]
    assert {one["_system"] for one in theirs} == {system or ""}


@pytest.mark.parametrize("fields", METHODS)
def test_mergekit_makes_our_merge_of_the_exported_yaml(
    fields: str, made: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of the methods that draw masks, which are others there: the sum of the task vector's sizes, and what is kept."""
    from safetensors.torch import load_file

    python = outside("MICOTA_MERGEKIT")
    models = "[ta-long, ta]" if "weights" in fields else "[ta-long]"
    base = "teacher" if "weights" in fields else "ta"
    changed = f"let.ta-mid={{merge: {{base: {base}, models: {models}, {fields}}}}}"
    made.run(*LAB, changed, only="ta-mid")
    merge = made.load(*LAB, changed).named("ta-mid")
    assert isinstance(merge, Merge)
    made.store.name("small", "merged", merge)
    out = tmp_path / "out"
    given = ["--format", "mergekit", "--store", str(made.folder / "store")]
    assert command(monkeypatch, "export", "small/merged", str(out), *given) == 0
    words = [
        str(Path(python).parent / "mergekit-yaml"),
        str(out / "merge.yml"),
        str(out / "merged"),
        "--copy-tokenizer",
    ]
    ran = subprocess.run(words, cwd=made.folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    theirs: dict[str, Any] = {}
    for file in (out / "merged").glob("*.safetensors"):
        theirs |= load_file(file)
    ours = load_file(made.files_of(merge) / "model.safetensors")
    assert ours.keys() == theirs.keys()
    if "dare" not in fields:  # entries of a norm all moved by one size: which of them ties keeps is anyone's choice
        clear = [name for name in ours if ours[name].ndim > 1 or "ties" not in fields]
        assert max(float((ours[name] - theirs[name]).abs().max()) for name in clear) < 1e-6
        return
    start = load_file(made.folder / "models" / base / "model.safetensors")
    for name in (name for name in ours if ours[name].numel() >= 256):
        one, two = (weights[name] - start[name] for weights in (ours, theirs))
        assert float(two.abs().sum()) == pytest.approx(float(one.abs().sum()), rel=1e-3 if "l1" in fields else 0.2)
        assert float((two != 0).float().mean()) == pytest.approx(float((one != 0).float().mean()), abs=0.12)
