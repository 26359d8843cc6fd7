"""The engine for servers, against a fake that fails in every way: nothing is lost, nothing is paid for twice."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event, Timer
from typing import Any

import pytest
from conftest import Quiet
from killing import Killed, soak

from micota import machine as machines
from micota.errors import MicotaError, StageFailed, Stopped
from micota.generation.engine import open_engine
from micota.generation.fake_server import FAULTS, FakeServer
from micota.machine import MachineProfile, ServerConfig
from micota.recipe import recipe as recipes
from micota.run.execution import Outcome, Run
from micota.specs import Generate, Problems, Prompt, Sampling, Source
from micota.store.artifacts import Store
from micota.store.pool import Pool
from micota.store.records import Completion, Request

KEY = "sk-not-for-anybody-0123456789"
SOURCE = Source(ref="endpoint:fake", revision="endpoint")
RECIPE = """
name: bought
let:
  set: {problems: {source: ./problems.jsonl}}
  answers: {generate: {model: endpoint:fake, problems: set, prompt: "{problem}", sampling: {max_tokens: 40}}}
"""


def said(turn: str) -> str:
    return f"∞ — “{turn}” é \U0001f600 \\boxed{{{turn}}}"


class Buyer:
    """A folder with a recipe that asks an endpoint; its store is read anew at every run."""

    def __init__(self, folder: Path, n: int) -> None:
        self.folder = folder
        (folder / "bought.yaml").write_text(RECIPE)
        rows = [{"problem": f"question {i} ∞", "answer": str(i)} for i in range(n)]
        (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(self, server: FakeServer | str, **place: Any) -> Outcome:
        url = server if isinstance(server, str) else server.url
        at = ServerConfig(url=url, **place)
        recipe = recipes.load(str(self.folder / "bought.yaml"))
        store = Store(self.folder / "store")
        return Run(store, MachineProfile(servers={"endpoint:fake": at}), Quiet()).go([recipe.named("answers")])

    def pooled(self) -> list[Completion]:
        """Every line of the pool, also those with a key that another line has."""
        lines = [line for p in self.folder.glob("store/pools/*/*.jsonl") for line in p.read_text().splitlines()]
        return [Completion.parse(line) for line in lines]


def engine(server: FakeServer | None, heard: Event | None = None, prompt: Any = None, **fields: Any) -> Any:
    names = Sampling.model_fields.keys() & fields.keys()
    sampling = {"max_tokens": 40, **{name: fields.pop(name) for name in names}}
    spec = Generate(
        model=SOURCE,
        problems=Problems(source=SOURCE),
        prompt=prompt or Prompt(template="{problem}"),
        sampling=Sampling(**sampling),
    )
    url = server.url if server else "http://127.0.0.1:9/v1"
    return open_engine(spec, None, ServerConfig(url=url, **fields), 1, heard)


def ask(made: Any, n: int = 1) -> list[Completion]:
    try:
        return [one for group in made.answer([Request(f"{i:016x}", 0, f"q{i}") for i in range(n)]) for one in group]
    finally:
        made.close()


@pytest.mark.parametrize("n", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_all_prompts_survive_a_server_that_fails_a_fifth_of_them(
    n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", KEY)
    buyer = Buyer(tmp_path, n)
    with FakeServer(said, key=KEY, faults=FAULTS, share=0.2, slow_s=2.5) as server:
        buyer.run(server, key_env="SHOP_KEY", timeout_s=1.5, patience_s=60, batch=128)
        assert server.failed.keys() == set(FAULTS)
        assert sum(server.failed.values()) > 0.15 * n
        assert sum(server.answered.values()) - n <= server.failed["slow"]  # nothing good was asked for twice
        assert server.most_at_once <= 128 + server.failed["slow"]
    rows = buyer.pooled()
    assert len(rows) == len({row.key for row in rows}) == n
    assert all(row.text == said(row.prompt) and row.finish_reason == "stop" for row in rows)
    assert {row.engine.partition(" at ")[0].partition(", ")[2] for row in rows} == {"fake"}
    assert buyer.run("http://127.0.0.1:9/v1", fake=True).executed == []  # nobody is asked again
    there = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(there) > 5
    assert not [path for path in there if KEY.encode() in path.read_bytes()]


def test_a_server_that_goes_down_is_an_error_after_the_patience_and_the_run_goes_on_later(tmp_path: Path) -> None:
    buyer = Buyer(tmp_path, 60)
    server = FakeServer(said, latency_s=0.02)
    with server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])

        def closing(turn: str) -> str:
            if sum(server.answered.values()) > 20:
                server.faults, server.share = ("closed",), 1.0
            return said(turn)

        server.answer = closing
        with pytest.raises(StageFailed, match=r"the server gives no answer(.|\n)*the request was repeated for 1\.2 s"):
            buyer.run(server, patience_s=1.2, batch=4)
    kept = {row.key for row in buyer.pooled()}
    assert 0 < len(kept) < 60
    with FakeServer(said, port=port) as again:
        buyer.run(again)
        assert sum(again.asked.values()) == 60 - len(kept)
    assert len(buyer.pooled()) == 60


def test_a_server_that_never_answers_is_an_error_too() -> None:
    with FakeServer(said, faults=["slow"], share=1.0, slow_s=20) as server:
        with pytest.raises(MicotaError, match="gives no answer"):
            ask(engine(server, timeout_s=0.5, patience_s=1.0))
        assert server.at_once > 0  # it still holds the request that was given up


def test_the_budget_stops_what_is_not_yet_asked_and_keeps_what_is_paid_for(tmp_path: Path) -> None:
    buyer = Buyer(tmp_path, 50)
    with FakeServer(said) as server:
        with pytest.raises(StageFailed, match=r"the budget of 100 tokens is spent \(\d+ were read and written\)"):
            buyer.run(server, budget=100, batch=2)
        paid = sum(server.answered.values())
        assert 0 < paid < 20
        assert len(buyer.pooled()) == paid
        buyer.run(server)
        assert sum(server.answered.values()) == 50


def test_a_refused_key_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", KEY)
    with FakeServer(said, key="another") as server, pytest.raises(MicotaError, match="refuses the key") as refused:
        ask(engine(server, key_env="SHOP_KEY"))
    assert KEY not in str(refused.value)
    assert "check the key in SHOP_KEY" in str(refused.value)
    monkeypatch.delenv("SHOP_KEY")
    with pytest.raises(MicotaError, match="export SHOP_KEY"):
        engine(None, key_env="SHOP_KEY")


def test_an_unknown_model_is_named_with_what_there_is() -> None:
    with FakeServer(said, model="fake-32b") as server, pytest.raises(MicotaError, match="did you mean 'fake-32b'"):
        ask(engine(server))


def test_requests_on_their_way_are_as_many_as_the_profile_says() -> None:
    with FakeServer(said, latency_s=0.03) as server:
        ask(engine(server, batch=5), 40)
        assert server.most_at_once == 5


def test_a_request_to_stop_is_heard_while_answers_are_waited_for() -> None:
    stop = Event()
    with FakeServer(said, latency_s=5) as server:
        Timer(0.2, stop.set).start()
        with pytest.raises(Stopped):
            ask(engine(server, stop), 3)
        assert not server.answered


@pytest.mark.parametrize("apart", [True, False])
def test_a_thought_that_comes_apart_is_put_back(apart: bool) -> None:
    with FakeServer(lambda turn: "<think>\nHm.\n</think>\n\nIt is 4.", apart=apart) as server:
        (answer,) = ask(engine(server))
    assert answer.target == "<think>\nHm.\n</think>\n\nIt is 4."
    assert answer.think_prefix == ("<think>\n" if apart else "")


def test_a_stop_string_in_the_thought_stops_only_in_the_papers_mode() -> None:
    text = "<think>\nProblem: is it 4?\n</think>\n\nIt is 4. Problem: next"
    with FakeServer(lambda turn: text) as server:
        (usual,) = ask(engine(server, stop=("Problem:",)))
        assert usual.text == text.removesuffix("Problem: next")
        assert server.asked == {"q0": 2}
        (paper,) = ask(engine(server, stop=("Problem:",), stop_in_thought=True))
        assert paper.text == "<think>\n"


def test_raw_prompts_go_to_completions_and_chats_carry_the_system_prompt() -> None:
    with FakeServer(said) as server:
        ask(engine(server, prompt=Prompt(template="{problem}", mode="raw")))
        ask(
            engine(server, prompt=Prompt(template="{problem}", system="Be brief."), temperature=0.7, top_p=0.9, top_k=5)
        )
    raw, chat = server.bodies
    assert (raw["prompt"], raw["temperature"], "messages" in raw) == ("q0", 0, False)
    assert [turn["role"] for turn in chat["messages"]] == ["system", "user"]
    assert (chat["top_p"], chat["top_k"], chat["max_tokens"]) == (0.9, 5, 40)
    assert isinstance(chat["seed"], int)


def test_the_limit_and_the_counts_are_the_servers() -> None:
    with FakeServer(lambda turn: "one two three four") as server:
        (answer,) = ask(engine(server, max_tokens=3))
    assert (answer.text, answer.finish_reason, answer.completion_tokens) == ("one two three", "length", 3)


def test_what_the_server_refuses_to_say_is_told_apart() -> None:
    with FakeServer(said) as server:
        reply = server.reply

        def filtered(body: dict[str, Any], chat: bool) -> dict[str, Any]:
            found = reply(body, chat)
            found["choices"][0]["finish_reason"] = "content_filter"
            return found

        server.reply = filtered  # type: ignore[method-assign]
        (answer,) = ask(engine(server))
    assert answer.finish_reason == "filter"


PROFILES: dict[str, tuple[str, str]] = {
    "no address": ("generate: {engine: openai}", "needs the server's address"),
    "key for its name": (f"generate: {{engine: openai, url: 'http://x/v1', key_env: {KEY}}}", "never the key"),
    "key in the address": (f"servers: {{a/b: {{url: 'http://me:{KEY}@x/v1'}}}}", "key goes into the variable"),
    "key in a question": (f"servers: {{a/b: {{url: 'http://x/v1?key={KEY}'}}}}", "key goes into the variable"),
    "key in a fragment": (f"generate: {{engine: openai, url: 'http://x/v1#{KEY}'}}", "key goes into the variable"),
    "key as a parameter": (f"generate: {{engine: openai, url: 'http://x/v1;key={KEY}'}}", "key goes into the variable"),
    "key as a path": (f"generate: {{engine: openai, url: 'http://x/{KEY}/v1'}}", "key goes into the variable"),
    "key below its name": (
        "generate: {engine: openai, url: 'http://x/v1/key/SEKRET777'}",
        "key goes into the variable",
    ),
    "key of a service": ("generate: {engine: openai, url: 'http://x/hf_abcdefghij'}", "key goes into the variable"),
    "key of many letters": ("generate: {engine: openai, url: 'http://x/Zq7xPw93LmTvB2Zq7xPw93LmTvB2/v1'}", "key goes"),
    "key in escapes": ("generate: {engine: openai, url: 'http://x/v1%23SEKRET777'}", "key goes into the variable"),
    "key as a field": (f"servers: {{a/b: {{url: 'http://x/v1', api_key: {KEY}}}}}", "known here: .*key_env"),
}


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_holds_no_key(name: str, tmp_path: Path) -> None:
    text, message = PROFILES[name]
    (tmp_path / "m.yaml").write_text(f"jobs: 1\n{text}\n")
    with pytest.raises(MicotaError, match=message) as refused:
        machines.load(str(tmp_path / "m.yaml"))
    assert KEY not in str(refused.value)
    assert "m.yaml" in str(refused.value)


@pytest.mark.parametrize("name", ["openai", "vllm"])
def test_a_missing_library_is_named_with_the_line_that_installs_it(name: str, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules[{name!r}] = None
from pathlib import Path
from micota.generation.engine import open_engine
from micota.machine import EngineConfig
from micota.store.resolution import LAB_MODELS
from micota.specs import Generate, Problems, Source
source = Source(ref="a/b", revision="c")
spec = Generate(model=source, problems=Problems(source=source))
open_engine(spec, LAB_MODELS / "ta", EngineConfig(engine={name!r}, url="http://127.0.0.1:9/v1"), 1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f'pip install "micota[{name}]"' in done.stderr


def test_an_endpoint_has_no_weights(tmp_path: Path) -> None:
    buyer = Buyer(tmp_path, 2)
    recipe = recipes.load(str(tmp_path / "bought.yaml"))
    with pytest.raises(StageFailed, match="a model behind a server: its weights are not here"):
        Run(Store(tmp_path / "store"), MachineProfile(), Quiet()).go([recipe.named("answers")])
    assert buyer.pooled() == []


def test_a_torn_last_line_is_owed_again_and_nothing_else(tmp_path: Path) -> None:
    buyer = Buyer(tmp_path, 20)
    with FakeServer(said) as server:
        with pytest.raises(StageFailed):
            buyer.run(server, budget=60, batch=1)
        (file,) = tmp_path.glob("store/pools/*/*.jsonl")
        before = len(buyer.pooled())
        file.write_bytes(file.read_bytes()[:-7])  # as a crash leaves it
        assert len(Pool(file.parent)) == before - 1
        buyer.run(server)
    assert len(Pool(file.parent)) == 20
    assert max(server.asked.values()) == 2
    assert sum(server.asked.values()) == 21


def test_a_full_disk_is_said_and_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """A limit on the size of a file stands for the disk: the system writes what fits and refuses the rest."""
    buyer = Buyer(tmp_path, 60)
    (tmp_path / "full.py").write_text(FULL)
    with FakeServer(said) as server:
        (tmp_path / "machine.yaml").write_text(
            f"servers: {{'endpoint:fake': {{url: '{server.url}', batch: 1}}}}\njobs: 1\n"
        )
        command = [sys.executable, "full.py", "run", "bought.yaml", "--machine", "machine.yaml", "--store", "store"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "file too large" in done.stderr and ".jsonl" in done.stderr
        assert "run the same command again" in done.stderr
        (file,) = tmp_path.glob("store/pools/*/*.jsonl")
        kept = len(Pool(file.parent))
        assert 0 < kept < 60
        assert sum(server.asked.values()) - kept <= 1
        buyer.run(server)
        assert sum(server.asked.values()) <= 61
    assert len(Pool(file.parent)) == 60


@pytest.mark.parametrize("keep", ["all", "correct"])
@pytest.mark.parametrize("apart", [True, False])
def test_a_thought_without_an_answer_is_never_trained_on(keep: str, apart: bool, tmp_path: Path) -> None:
    buyer = Buyer(tmp_path, 3)
    form = "{distill: {from: endpoint:fake, data: set, keep: KEEP, prompt: '{problem}', sampling: {max_tokens: 40}}}"
    (tmp_path / "bought.yaml").write_text(
        RECIPE[: RECIPE.index("  answers")] + "  answers: " + form.replace("KEEP", keep)
    )
    said = "<think>\nPerhaps \\boxed{{{}}}, but wait"
    with (
        FakeServer(lambda turn: said.format(turn[9]), apart=apart) as server,
        pytest.raises(StageFailed, match=r"dropped \{'unanswered': 3\}"),
    ):
        buyer.run(server)
    shutil.rmtree(tmp_path / "store")
    with FakeServer(lambda turn: f"{said}</think>\\boxed{{{{{{}}}}}}".format(turn[9], turn[9]), apart=apart) as server:
        assert buyer.run(server).failed == {}


@pytest.mark.parametrize("by", ["semantic", "exact_match"])
@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(
    ("said", "verdict"), [("<think>\\boxed{4}, but", "no_answer"), ("<think>5</think>\\boxed{4}", "correct")]
)
def test_a_box_in_a_thought_that_never_ends_is_no_answer(
    by: str, apart: bool, said: str, verdict: str, tmp_path: Path
) -> None:
    buyer = Buyer(tmp_path, 3)
    (tmp_path / "problems.jsonl").write_text('{"problem": "2+2", "answer": "4"}\n')
    form = "{distill: {from: endpoint:fake, data: set, by: BY, prompt: '{problem}', sampling: {max_tokens: 40}}}"
    (tmp_path / "bought.yaml").write_text(RECIPE[: RECIPE.index("  answers")] + "  answers: " + form.replace("BY", by))
    with FakeServer(lambda turn: said, apart=apart) as server, contextlib.suppress(StageFailed):
        buyer.run(server)  # of no answer there is nothing to train on
    (manifest,) = tmp_path.glob("store/artifacts/verify-*/manifest.json")
    assert json.loads(manifest.read_text())["facts"]["verdicts"] == {verdict: 1}


@pytest.mark.slow
def test_killed_at_random_moments_every_key_is_there_once_and_little_is_paid_for_twice(tmp_path: Path) -> None:
    with FakeServer(said, latency_s=0.05) as server:
        killed = Killed(tmp_path, f"{{engine: openai, url: '{server.url}', batch: 4}}", 60, "endpoint:fake")
        assert soak(killed, 5, rows=10, seed=5)["kills"] == 5
        assert sum(server.asked.values()) <= 60 + 5 * 4  # what was on its way at a kill


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from micota.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
main()
"""
