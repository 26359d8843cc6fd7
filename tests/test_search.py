"""The search of a dial with real models: candidates in memory, one reading of the inputs, nothing repeated."""

from __future__ import annotations

import importlib.util
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
from conftest import RECIPE, Quiet, World
from test_checkpoints import build, weights
from test_dial import DIAL, MERGE, dial

from micota.errors import MicotaError, StageFailed
from micota.generation.transformers import Transformers
from micota.machine import EngineConfig, GenerateConfig, MachineProfile
from micota.merging import Settings
from micota.merging.folders import merge_folders
from micota.merging.in_memory import InMemoryMerge
from micota.recipe import recipe as recipes
from micota.run.execution import Run
from micota.specs import Generate, LengthDial
from micota.specs import dial_policy as choosing
from micota.stages import search
from micota.store.artifacts import Store
from micota.store.pool import Pool
from micota.store.records import Request, read_rows

EIGHT = DIAL.replace("steps: 3", "steps: 8, refine: 0, fallback: nearest").replace("ta-long", "teacher")


@pytest.fixture
def world(world: World) -> World:
    """A world whose generation is real too."""
    world.write("recipe.yaml", RECIPE.replace(MERGE, EIGHT))
    place = GenerateConfig(engine="transformers", batch=3)
    world.machine = MachineProfile(name="real", generate=place)
    return world


def test_eight_candidates_read_the_inputs_once(tmp_path: Path) -> None:
    base, tuned = build(tmp_path / "base"), build(tmp_path / "tuned", seed=1)
    merges = InMemoryMerge(base, [tuned], ["0"], threads=2)
    for folder in (base, tuned):
        shutil.rmtree(folder)
    sizes: Counter[str] = Counter()
    for i in range(8):
        settings = Settings("dare_ties", (0.1 * i,), 0.7, rescale="l1")
        merges.merge(settings, lambda entry, start, elements: sizes.update({entry.name: len(elements)}))
    assert sizes == {entry.name: 8 * entry.nbytes for entry in merges.entries}


def test_a_candidate_in_memory_answers_as_the_written_one(world: World) -> None:
    world.run(only="ta-mid")
    spec = dial(world).search
    manifest = world.store.manifest(spec)
    assert manifest is not None
    settings = [{name: row[name] for name in choosing.SETTINGS} for row in manifest.facts["dial"]]
    assert settings == choosing.grid(spec.ranges, 8)
    problems = read_rows(world.store.files(world.store.manifest(spec.problems)) / "rows.jsonl")  # type: ignore[arg-type]
    asked = spec.reference.completions
    requests = [Request(row["key"], 0, asked.prompt.user_message(row["problem"])) for row in problems]
    requests.sort(key=lambda request: (len(request.prompt), request.key))
    for i in (0, 5):
        how = Settings("dare_ties", (settings[i]["weight"],), 0.7)
        folders = world.folder / "models" / "ta", world.folder / "models" / "teacher"
        merge_folders(world.folder / f"written{i}", folders[0], [folders[1]], ["0"], how)
        engine = Transformers(asked, world.folder / f"written{i}", world.machine.engine(asked), 1, Event())
        expected = [one for at in (0, 3) for group in engine.answer(requests[at : at + 3]) for one in group]
        pool = Pool(world.store.pool_folder(manifest.pools[i]))
        kept = {one.key: one.text for one in pool.read((one.key, 0) for one in expected)}
        assert kept == {one.key: one.text for one in expected}


def test_only_the_chosen_one_is_written_and_it_is_what_was_tried(world: World) -> None:
    world.run(only="ta-mid")
    chosen = world.store.manifest(dial(world))
    assert chosen is not None
    merges = [manifest for manifest in world.store.all() if manifest.kind == "merge"]
    assert [f"merge-{manifest.digest}" for manifest in merges] == [chosen.same_as]
    how = Settings("dare_ties", (chosen.facts["chosen"]["weight"],), 0.7)
    folders = world.folder / "models" / "ta", world.folder / "models" / "teacher"
    merge_folders(world.folder / "same", folders[0], [folders[1]], ["0"], how)
    ours, same = weights(world.store.files(merges[0])), weights(world.folder / "same")
    assert all(ours[name].equal(same[name]) for name in same)


def test_stopped_and_resumed_it_repeats_no_candidate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    merged: list[float] = []
    real = InMemoryMerge.merge

    def merge(self: InMemoryMerge, settings: Settings, put: Callable[..., None]) -> None:
        merged.append(settings.weights[0])
        if len(merged) == 4:
            raise KeyboardInterrupt("stopped in the fourth candidate")
        real(self, settings, put)

    monkeypatch.setattr(InMemoryMerge, "merge", merge)
    recipe = world.load()
    with pytest.raises((StageFailed, KeyboardInterrupt)):
        Run(world.fresh(), world.machine, Quiet()).go([recipe.named("ta-mid")])
    before = list(merged)
    world.run(only="ta-mid")
    assert before == merged[:4]
    assert merged[4:] == [one["weight"] for one in choosing.grid(dial(world).ranges, 8)][3:]
    manifest = world.store.manifest(dial(world).search)
    assert manifest is not None
    assert manifest.facts["generated"] == 5 * 4
    pools = [(pool, Pool(world.store.pool_folder(pool))) for pool in manifest.pools]
    keys = Counter((pool, key) for pool, rows in pools for key in rows.keys())  # noqa: SIM118  (a pool is no dict)
    assert set(keys.values()) == {1}
    assert len(keys) == 8 * 4


def test_a_search_runs_where_generation_does_unless_it_has_a_place(world: World) -> None:
    asked = dial(world).search
    assert MachineProfile(generate=GenerateConfig(batch=7)).engine(asked).batch == 7
    assert MachineProfile(generate=GenerateConfig(batch=7), search=EngineConfig(batch=9)).engine(asked).batch == 9


def test_an_engine_that_reads_folders_gets_each_candidate_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As vLLM does, which `make test-vllm` has in place of the stand-in."""
    opened: list[Path] = []

    class Whole(Transformers):
        def __init__(self, spec: Generate, model: Path, place: EngineConfig, threads: int, stop: Event) -> None:
            opened.append(model)
            super().__init__(spec, model, place, threads, stop)
            self.batch = None

    monkeypatch.setattr(search, "open_engine", Whole)
    generate = GenerateConfig(engine="transformers", batch=4)
    world.run(only="ta-mid", machine=MachineProfile(generate=generate, search=EngineConfig(engine="vllm")))
    written = world.store.manifest(dial(world).search)
    in_memory = world.fresh()
    Run(in_memory, MachineProfile(generate=GenerateConfig(batch=4)), Quiet()).go([dial(world)])
    same = in_memory.manifest(dial(world).search)
    assert written is not None and same is not None
    assert written.content == same.content
    assert len(opened) == 8
    assert not [folder for folder in opened if folder.exists()]


def test_a_server_is_refused_before_anything_is_made(world: World) -> None:
    served = MachineProfile(generate=GenerateConfig(engine="openai", url="http://127.0.0.1:9/v1"))
    with pytest.raises(MicotaError, match="a server cannot answer for the candidates of a dial") as refused:
        served.check([dial(world)])
    assert "search: {engine: vllm" in str(refused.value.fix)
    served.model_copy(update={"search": EngineConfig()}).check([dial(world)])


TURNED = """
name: turned
let:
  set: {problems: {source: "lab:arithmetic", split: dev, n: 12}}
  mid:
    dial: {base: "lab:ta-base", models: ["lab:ta"], method: dare_ties, density: 0.7, rescale: inverse_density,
           weight: [0.3, 0.7], steps: 2, refine: 0, target: {length: 0.5, of: "lab:ta"}, fallback: nearest,
           probe: {data: set, n: 12, prompt: "{problem}", precision: float32, by: exact_match,
                   sampling: {max_tokens: 300}}}
"""


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.filterwarnings("default")
@pytest.mark.timeout(600)
def test_with_vllm_the_candidates_answer_as_with_transformers(tmp_path: Path) -> None:
    (tmp_path / "turned.yaml").write_text(TURNED)
    mid = recipes.load(str(tmp_path / "turned.yaml")).named("mid")
    assert isinstance(mid, LengthDial)
    found = []
    for engine in ("transformers", "vllm"):
        store = Store(tmp_path / engine)
        Run(store, MachineProfile(search=EngineConfig(engine=engine)), Quiet()).go([mid])  # type: ignore[arg-type]
        found.append(store.manifest(mid.search))
        assert not list(store.root.rglob("candidate"))
    one, two = found
    assert one is not None and two is not None
    assert one.content == two.content
    assert one.facts["dial"] == two.facts["dial"]
    assert one.facts["generated"] == two.facts["generated"] == 24
