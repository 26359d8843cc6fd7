"""The documents: their recipes plan, their machine profiles load, and every command they name is there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from typer.main import get_command

from micota import machine
from micota.cli import main as cli
from micota.merging import mergekit
from micota.recipe import recipe as recipes
from micota.run.plan import survey
from micota.store.artifacts import Store

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [(path.name, text) for path in DOCUMENTS for text in re.findall(r"```yaml\n(.*?)```", path.read_text(), re.S)]


@pytest.mark.parametrize(("name", "text"), BLOCKS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(BLOCKS)])
def test_every_yaml_block_is_a_recipe_a_profile_or_a_merge(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "block.yaml"
    path.write_text(text)
    fields = yaml.safe_load(text)
    if not {"arms", "let", "merge_method"} & fields.keys():
        assert machine.load(str(path)).model_fields_set >= fields.keys()
        return
    if "merge_method" in fields:
        assert mergekit.read(fields, name).models
        return
    for folder in re.findall(r"(?<!\S)\./adapter\b", text):
        (tmp_path / folder).mkdir()
        config = {"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen2.5-1.5B-Instruct"}
        (tmp_path / folder / "adapter_config.json").write_text(json.dumps(config))
        save_file({"a.lora_A.weight": torch.zeros(1)}, tmp_path / folder / "adapter_model.safetensors")
    recipe = recipes.load(str(path))
    assert survey(Store(tmp_path / "store"), recipe.targets), name


def test_every_command_in_the_documents_is_there() -> None:
    known = set(get_command(cli.app).commands)  # type: ignore[attr-defined]
    for path in DOCUMENTS:
        named = set(re.findall(r"`micota ([a-z]+)", path.read_text()))
        assert named <= known, path.name


def test_every_file_that_the_documents_link_to_is_there() -> None:
    for path in DOCUMENTS:
        links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
        assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_shipped_machine_profile_loads() -> None:
    for path in machine.PROFILES.glob("*.yaml"):
        assert machine.load(path.stem).name == path.stem


def test_the_site_lists_every_page() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = [page for section in nav for pages in section.values() for page in pages]
    assert sorted(listed) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_python_of_the_readme_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything up to the evaluation runs offline; what it would make is planned."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert block and "results = ws.evaluate" in block[1]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block[1].partition("results = ")[0], names)
    assert {state.spec.kind for state in names["ws"].plan(names["arms"]).states} >= {"train", "dial", "select"}
