"""The page about Python and the notebooks run as they stand, with one machine in one process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import micota as mc
from micota.machine import GenerateConfig, MachineProfile

ROOT = Path(__file__).parents[1]
HERE = MachineProfile(name="here", generate=GenerateConfig(batch=32))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def cells(path: Path) -> list[str]:
    """The code of a notebook."""
    return ["".join(one["source"]) for one in json.loads(path.read_text())["cells"] if one["cell_type"] == "code"]


def execute(codes: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run blocks one after the other in an empty folder; stages run in this process instead of behind a launcher."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    names: dict[str, Any] = {"HERE": HERE}
    for code in codes:
        exec(code.replace('mc.Workspace("runs")', 'mc.Workspace("runs", machine=HERE)'), names)
    return names


def test_the_page_about_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.S)
    names = execute(blocks[1:], tmp_path, monkeypatch)  # the first needs GPUs: tests/test_library.py runs it on the lab
    assert set(names["results"].frame.scorer) == {"mygrader:last_number", "semantic"}
    assert "unknown field 'learning_rate'" in capsys.readouterr().out
    assert (tmp_path / "my-model/config.json").is_file() and (tmp_path / "my-data/rows.jsonl").is_file()
    assert isinstance(names["again"].digest, str)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICOTA_SMALL", "1")
    names = execute(cells(path), tmp_path, monkeypatch)
    assert isinstance(names["results"], mc.Results) and not names["results"].missing


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_notebook_runs_in_a_kernel_with_one_updating_area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("MICOTA_SMALL", "1")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    notebook = nbformat.read(ROOT / "examples/lab.ipynb", as_version=4)
    setup = (
        "from micota.machine import GenerateConfig, MachineProfile\nHERE = MachineProfile(generate=GenerateConfig())\n"
    )
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.source = setup + first.source.replace('mc.Workspace("runs")', 'mc.Workspace("runs", machine=HERE)')
    NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (run,) = [cell for cell in notebook.cells if cell.source.startswith("results = ws.evaluate")]
    areas = [one for one in run.outputs if one.output_type == "display_data" and "stages made" in str(one.data)]
    assert len(areas) == 1 and "generate" in areas[0].data["text/html"]
