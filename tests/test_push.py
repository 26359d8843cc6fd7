"""Stores through a bucket, the Hub and a folder: whole, interrupted, damaged, of two machines at once."""

from __future__ import annotations

import gc
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from conftest import LAB, Quiet, World
from local_hub import Hub, hub  # noqa: F401  (a fixture)
from raylets import Generation

from micota.errors import MicotaError
from micota.housekeeping.holdings import size_of
from micota.housekeeping.pulling import pull
from micota.housekeeping.pushing import push
from micota.housekeeping.transfer import Moved
from micota.run.execution import Run
from micota.store.artifacts import Store
from micota.store.checked import StoreWarning
from micota.store.pool import Pool, Writer
from micota.store.pool_pieces import LARGEST
from micota.store.records import Completion
from micota.store.remote import Bucket, connect, masked

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDNEVERSAID", "AWS_SECRET_ACCESS_KEY": "never-said-either", "AWS_REGION": "us-east-1"}
POOL = "0123456789abcdef"


@dataclass
class S3:
    """A server of S3 on loopback with one bucket; files in it can be changed behind everybody's back."""

    address: str
    variables: dict[str, str]
    client: Any

    def names(self) -> dict[str, int]:
        listed = self.client.list_objects_v2(Bucket="bucket").get("Contents", [])
        return {one["Key"].removeprefix("stores/one/"): one["Size"] for one in listed}

    def change(self, name: str, data: bytes | None) -> None:
        key = {"Bucket": "bucket", "Key": f"stores/one/{name}"}
        self.client.put_object(**key, Body=data) if data is not None else self.client.delete_object(**key)

    def data(self, name: str) -> bytes:
        return bytes(self.client.get_object(Bucket="bucket", Key=f"stores/one/{name}")["Body"].read())


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    pytest.importorskip("obstore", reason='no obstore: pip install "micota[push]"')
    server = pytest.importorskip("moto.server", reason="no moto: make test-push").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    variables = {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ALLOW_HTTP": "true"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    import boto3

    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="bucket")
    yield S3("s3://bucket/stores/one", variables, client)
    client.close()
    urlopen(Request(f"{variables['AWS_ENDPOINT_URL']}/moto-api/reset", method="POST")).close()
    server.stop()
    del server
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # moto leaves sockets open
        gc.collect()


def quiet(done: int, total: int) -> None:
    assert 0 <= done <= total


def sent(store: Store, address: str, **how: Any) -> Moved:
    return push(store, connect(address), quiet, **how)


def brought(address: str, folder: Path) -> Moved:
    folder.mkdir(exist_ok=True)
    return pull(Store(folder), connect(address), quiet)


def micota(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **variables}
    return subprocess.run(
        [sys.executable, "-m", "micota", *words], cwd=folder, env=environment, capture_output=True, text=True
    )


def tree(root: Path) -> dict[str, bytes]:
    """What a store holds, without logs and what is told of this machine alone."""
    files = (path for top in ("artifacts", "pools", "inputs") for path in (root / top).rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files if path.name != "log.txt"}


def answer(i: int) -> Completion:
    return Completion(f"{i:016x}", 0, "p", f"answer {i}", "stop", 1, 1, "e")


def answers(store: Store, *numbers: int) -> None:
    with Writer(store.pool_folder(POOL), {"source": "x"}) as writer:
        writer.write(map(answer, numbers))


def numbers(root: Path) -> Counter[int]:
    """The answers of a store's pool, and how often each stands there."""
    lines = [line for path in (root / "pools" / POOL).glob("*.jsonl") for line in path.read_bytes().splitlines()]
    return Counter(int(json.loads(line)["text"].split()[1]) for line in lines if line)


def same_everywhere(address: str, made: World) -> None:
    """Sent and brought, a store has the bytes that it had; a second time moves nothing."""
    first = sent(made.store, address)
    assert first.files and not first.wrong
    again = sent(made.store, address)
    assert (again.files, again.size, again.wrong) == (0, 0, [])
    other = made.folder / "other"
    moved = brought(address, other)
    assert not moved.wrong and tree(other) == tree(made.store.root)
    assert Store(other).links() == made.store.links()
    assert brought(address, other).files == 0 and not (other / "pulling").exists()
    outcome = Run(Store(other), made.machine, Quiet()).go(made.load(*LAB).targets)
    assert outcome.executed == [] and outcome.linked == []


def test_a_folder(made: World) -> None:
    same_everywhere(str(made.folder / "disk"), made)


def test_a_bucket(made: World, s3: S3) -> None:
    same_everywhere(s3.address, made)
    assert all(name.split("/")[0] in ("artifacts", "pools", "names.json") for name in s3.names())


def test_the_hub(made: World, hub: tuple[Hub, str]) -> None:  # noqa: F811
    """In a process of its own, as huggingface_hub reads its address once."""
    there, address = hub
    home = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_neversaid", "HF_HOME": str(made.folder / "hf")}
    there.conflicts = 1  # another machine commits at this moment
    place = "hf://datasets/me/answers/stores/one"
    done = micota(made.folder, "push", "store", place, **home)
    assert done.returncode == 0, done.stderr
    assert there.created["visibility"] == "private" and there.commits == 4
    assert micota(made.folder, "push", "store", place, **home).stdout.startswith("pushing: 0 files, 0.0 MB;")
    done = micota(made.folder, "pull", place, "other", **home)
    assert done.returncode == 0, done.stderr
    assert tree(made.folder / "other") == tree(made.folder / "store")
    there.refuses = True
    refused = micota(made.folder, "push", "store", place, **home)
    assert refused.returncode == 2 and "hf_neversaid" not in refused.stdout + refused.stderr
    assert "does not do what is asked" in refused.stderr


def test_a_bucket_that_was_changed_is_said_and_made_good(made: World, s3: S3) -> None:
    sent(made.store, s3.address)
    whole = {name: s3.data(name) for name in s3.names()}
    weights = next(name for name in whole if name.endswith("model.safetensors") and "train-" in name)
    rows = next(name for name in whole if name.endswith("rows.jsonl"))
    manifest = next(name for name in whole if name.endswith("manifest.json") and "merge-" in name)
    piece = next(name for name in whole if name.startswith("pools/") and not name.endswith("pool.json"))
    flipped = bytearray(whole[weights])
    flipped[-1] ^= 1
    s3.change(weights, bytes(flipped))
    s3.change(rows, None)
    s3.change(manifest, b"{}")
    s3.change(piece, whole[piece][:-1])
    folder = made.folder / "damaged"
    with pytest.warns(match="is damaged|cannot be read"):
        moved = brought(s3.address, folder)
    wrong = " ".join(moved.wrong)
    assert len(moved.wrong) == 2  # without any file it is one whose files were removed before it was sent
    for name in (weights, manifest):
        assert name.split("/")[1] in wrong
        assert not (folder / "artifacts" / name.split("/")[1] / "manifest.json").exists()
    with pytest.warns(match="is damaged"):
        assert sent(made.store, s3.address).files == 4  # a manifest, rows with theirs, a piece
    with pytest.warns(match="is damaged"):
        assert sent(made.store, s3.address, verify=True).files == 2
    assert {name: s3.data(name) for name in s3.names()} == whole
    assert not brought(s3.address, folder).wrong and tree(folder) == tree(made.store.root)
    assert sent(made.store, s3.address, verify=True).files == 0


def test_what_is_damaged_here_is_not_sent(made: World, tmp_path: Path) -> None:
    path = next(made.store.root.glob("artifacts/train-*/files/model.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    moved = sent(made.store, str(tmp_path / "disk"))
    assert [word.split(" ")[0] for word in moved.wrong] == [path.parts[-3]]
    assert not (tmp_path / "disk/artifacts" / path.parts[-3]).exists()


def test_two_machines_lose_no_answers_of_each_other(tmp_path: Path) -> None:
    """They begin with the same, add their own, merge each its files into one of the same name, and send that."""
    first, second, third = (Store(tmp_path / name) for name in ("first", "second", "third"))
    disk = str(tmp_path / "disk")
    answers(first, *range(10))
    sent(first, disk)
    brought(disk, second.root)
    for i in range(64):  # so many files are merged
        answers(first, 100 + i)
        answers(second, 200 + i)
    for store in (first, second):
        Pool(store.pool_folder(POOL)).merge()
        assert len(list(store.pool_folder(POOL).glob("*.jsonl"))) == 1
    sent(first, disk)
    sent(second, disk)
    everything = {*range(10), *range(100, 164), *range(200, 264)}
    brought(disk, third.root)
    assert set(numbers(third.root)) == everything
    brought(disk, first.root)
    assert set(numbers(first.root)) == everything
    assert sent(first, disk).files == 0 and sent(third, disk).files == 0


def test_a_line_that_no_piece_holds_is_told(tmp_path: Path) -> None:
    store, disk = Store(tmp_path / "store"), f"file://{tmp_path}/a%20disk"
    with Writer(store.pool_folder(POOL), {"source": "x"}) as writer:
        writer.write([answer(0)])
        (path,) = store.pool_folder(POOL).glob("*.jsonl")
    with open(path, "ab") as file:
        file.write(b"x" * (LARGEST + 1) + b"\n")
    with pytest.warns(StoreWarning, match="not sent from byte .*more than 64 MiB"):
        sent(store, disk)
    assert [one.stat().st_size for one in (tmp_path / "a disk").glob(f"pools/{POOL}/*.jsonl")] == [
        len(answer(0).line())
    ]


def test_a_file_that_grows_is_sent_once(tmp_path: Path) -> None:
    store, disk, other = Store(tmp_path / "store"), str(tmp_path / "disk"), tmp_path / "other"
    with Writer(store.pool_folder(POOL), {"source": "x"}) as writer:
        for i in range(5):
            writer.write([answer(i)])
            (path,) = store.pool_folder(POOL).glob("*.jsonl")
            with open(path, "ab") as file:
                file.write(b'{"key":"00')  # a line that is being written
            assert sent(store, disk).size <= len(answer(i).line()) + 300  # the first with pool.json
            os.truncate(path, path.stat().st_size - 10)
            assert brought(disk, other).files == 1
    assert numbers(other) == dict.fromkeys(range(5), 1)
    assert len(list((other / "pools" / POOL).glob("*.jsonl"))) == 1  # the same file again
    assert sorted(size for size in (path.stat().st_size for path in other.glob("pools/*/*.jsonl"))) == [
        path.stat().st_size
    ]


def test_artifacts_that_differ_and_invented_ones(made: World, tmp_path: Path) -> None:
    """The first stays where it is; what is real takes the place of what is invented."""
    one, two, disk = made.store, Store(tmp_path / "two"), str(tmp_path / "disk")
    sent(one, disk)
    shutil.copytree(one.root, two.root, symlinks=True)
    manifest = next(m for m in one.all() if m.kind == "train" and not m.same_as)
    path = two.root / "artifacts" / manifest.id
    (path / "files" / "model.safetensors").write_bytes(b"other weights")
    from micota.specs import sha
    from micota.store.checked import sealed, written

    data = json.loads((path / "manifest.json").read_text())
    data.pop("seal")
    data["files"] = {name: vars(info) for name, info in written(path / "files").items()}
    data["content"] = sha({name: info["sha256"] for name, info in data["files"].items()})
    data["facts"]["fake"] = ["scripted"]
    (path / "manifest.json").write_text(json.dumps(sealed(data), indent=1, sort_keys=True) + "\n")
    two = Store(two.root)
    with pytest.warns(match="is another one in .*, and stays there"):
        assert sent(two, disk).files == 0
    assert brought(disk, two.root).files == 1 + len(manifest.files)
    assert tree(two.root) == tree(one.root)


def hostile(disk: Path, manifest: Any, name: str) -> None:
    """A manifest whose hashes agree, with a file that would lie elsewhere."""
    from micota.specs import sha
    from micota.store.checked import sealed

    data = json.loads((disk / "artifacts" / manifest.id / "manifest.json").read_text())
    data.pop("seal")
    data["files"] = {name: {"size": 3, "sha256": "0" * 64}}
    data["content"] = sha({name: "0" * 64})
    (disk / "artifacts" / manifest.id / "manifest.json").write_text(json.dumps(sealed(data)))


@pytest.mark.parametrize("name", ["../../../../stolen", "/tmp/stolen", "a\x1bb", ""])
def test_a_hostile_bucket_writes_nowhere_else(made: World, tmp_path: Path, name: str) -> None:
    disk, victim = tmp_path / "disk", tmp_path / "deep" / "victim"
    victim.mkdir(parents=True)
    sent(made.store, str(disk))
    manifest = next(m for m in made.store.all() if m.kind == "train" and not m.same_as)
    shutil.rmtree(disk / "artifacts" / manifest.id / "files")
    hostile(disk, manifest, name)
    (disk / f"artifacts/{manifest.id}/files").mkdir()
    (disk / f"artifacts/{manifest.id}/files/x").write_bytes(b"abc")
    for bad in ("pools/..", "pools/.hidden", "artifacts/train-zz"):
        (disk / bad).mkdir(parents=True, exist_ok=True)
        (disk / bad / "x.0-3-0123456789abcdef.jsonl").write_bytes(b"abc")
    (disk / "names.json").write_text(json.dumps({"../../x/y": manifest.id, "a/..": manifest.id, "b/c": "../../etc"}))
    (disk / "locks").mkdir()
    (disk / "locks/hub.lock").write_text(json.dumps({"model:a/b": "main; rm", "model:c/d": "e" * 40}))
    before = {path for path in tmp_path.rglob("*") if victim not in path.parents}
    brought(str(disk), victim)
    assert {path for path in tmp_path.rglob("*") if victim not in path.parents} == before
    assert json.loads((victim / "hub.lock").read_text()) == {"model:c/d": "e" * 40}
    assert not list((victim / "names").glob("*/*"))
    assert {path.name for path in (victim / "pools").iterdir()} <= {
        path.name for path in (made.store.root / "pools").iterdir()
    }
    assert not (victim / "artifacts" / manifest.id / "files").exists()


@pytest.mark.parametrize("change", ["gone", "pipe", "larger", "fake", "accidents"])
def test_one_bad_artifact_holds_up_no_other(tmp_path: Path, change: str) -> None:
    """A file that is not there or less than its manifest says, and facts that no stage writes."""
    from micota.store.checked import sealed

    store, disk = Store(tmp_path / "store"), tmp_path / "disk"
    make_artifacts(store, 2, 1000)
    sent(store, str(disk))
    bad, good = sorted(path.parent for path in disk.glob("artifacts/*/manifest.json"))
    data = json.loads((bad / "manifest.json").read_text())
    data.pop("seal")
    if change in ("gone", "pipe"):
        (bad / "files/rows.jsonl").unlink()
    if change == "pipe":
        os.mkfifo(bad / "files/rows.jsonl")
    if change == "larger":
        data["files"]["rows.jsonl"]["size"] = 10**30
    if change in ("fake", "accidents"):
        data["facts"][change] = {"fake": 5, "accidents": "x"}[change]
    (bad / "manifest.json").write_text(json.dumps(sealed(data)))
    (disk / "x\nartifacts" / bad.name).mkdir(parents=True)
    (disk / "x\nartifacts" / bad.name / "manifest.json").write_text("{}")
    own = tmp_path / "here/artifacts" / bad.name / "files/rows.jsonl"  # of a run that was killed before its manifest
    own.parent.mkdir(parents=True)
    own.write_text("{ }")
    with pytest.warns(match="is damaged|cannot be read"):
        moved = brought(str(disk), tmp_path / "here")
    assert [word.split()[0] for word in moved.wrong] == [bad.name]
    assert [one.id for one in Store(tmp_path / "here").all()] == [good.name]
    assert own.read_text() == "{ }"


def test_what_a_killed_run_has_left_gives_way_to_what_is_whole(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    make_artifacts(store, 1, 1000)
    sent(store, str(tmp_path / "disk"))
    (one,) = store.all()
    own = tmp_path / "here/artifacts" / one.id / "files"
    own.mkdir(parents=True)
    (own / "rows.jsonl").write_text("[]\n")  # as many bytes as the whole one
    (own / "more").write_text("x")
    assert not brought(str(tmp_path / "disk"), tmp_path / "here").wrong
    assert not Store(tmp_path / "here").damaged(one) and not (own / "more").exists()


@pytest.mark.parametrize("word", ["push", "pull"])
def test_a_store_is_no_remote_side(made: World, word: str) -> None:
    """Its completions would stay behind in silence, or stand there twice."""
    before = tree(made.store.root)
    with pytest.raises(MicotaError, match="is a store itself"):
        (sent(made.store, str(made.store.root)) if word == "push" else brought(str(made.store.root), made.folder / "x"))
    assert tree(made.store.root) == before


@pytest.mark.parametrize("word", ["push", "pull"])
def test_killed_in_the_middle_and_again(tmp_path: Path, s3: S3, word: str) -> None:
    """`kill -9` of the command at random moments; then it ends, and a whole store is on the other side."""
    source, dice = tmp_path / "source", random.Random(0)
    store = Store(source)
    answers(store, *range(3000))
    make_artifacts(store, 12, 3 * 2**20)
    command, target = [sys.executable, "-m", "micota", "push", str(source), s3.address], tmp_path / "target"
    if word == "pull":
        sent(store, s3.address)
        command = [sys.executable, "-m", "micota", "pull", s3.address, str(target)]
    kills = 0
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        before = len(s3.names()) if word == "push" else size_of(target)
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            if (len(s3.names()) if word == "push" else size_of(target)) > before:
                break
            time.sleep(0.01)
        time.sleep(dice.random() / 20)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        for name in s3.names():  # what is done is whole
            if name.endswith("manifest.json"):
                files = json.loads(s3.data(name))["files"]
                assert all(
                    s3.names()[f"{name[: -len('manifest.json')]}files/{one}"] == files[one]["size"] for one in files
                )
    assert kills >= 2
    last = subprocess.run(command, capture_output=True, text=True)
    assert last.returncode == 0, last.stderr
    brought(s3.address, target)
    found = {name: data for name, data in tree(target).items() if not name.startswith("inputs/")}
    assert found == tree(source)
    assert not Store(target).damaged(Store(target).all()[0])


def make_artifacts(store: Store, n: int, size: int) -> None:
    """Finished artifacts with a large file each, made by no stage."""
    from micota.specs import sha
    from micota.store.checked import sealed, written

    for i in range(n):
        identity = {"kind": "rows", "version": "1", "fields": {"n": i}}
        folder = store.root / "artifacts" / f"rows-{sha(identity)}"
        (folder / "files" / "deep").mkdir(parents=True)
        (folder / "files" / "deep" / "model.bin").write_bytes(random.Random(i).randbytes(size))
        (folder / "files" / "rows.jsonl").write_text("{}\n")
        files = {name: vars(info) for name, info in written(folder / "files").items()}
        data = {
            **identity,
            "digest": sha(identity),
            "children": {},
            "inputs_key": f"{i:016x}",
            "files": files,
            "pools": [],
        }
        data |= {"content": sha({name: info["sha256"] for name, info in files.items()}), "facts": {}, "made": {}}
        data |= {"same_as": None}
        (folder / "manifest.json").write_text(json.dumps(sealed(data), indent=1, sort_keys=True) + "\n")


def test_a_spot_machine_that_is_taken_away(tmp_path: Path, s3: S3) -> None:
    """A run is killed with half of its answers sent; another machine brings them and pays for none of them again."""
    first = Generation(tmp_path / "first", 60, seconds=(0.1, 0.3))
    first.profile(None)
    process = first.start()
    first.reach(30, process)
    assert micota(first.folder, "push", "store", s3.address).returncode == 0
    process.kill()
    process.communicate()
    had = set(first.counts())
    second = Generation(tmp_path / "second", 60)
    second.profile(None)
    done = micota(second.folder, "pull", s3.address, "store")
    assert done.returncode == 0, done.stderr
    kept = set(second.counts())
    assert 25 <= len(kept) <= len(had) and kept <= had
    second.finish()
    assert set(second.counts().values()) == {1} and len(second.counts()) == 60
    assert second.content() == second.expected()
    assert micota(second.folder, "push", "store", s3.address).returncode == 0
    third = Generation(tmp_path / "third", 60)
    third.profile(None)
    assert micota(third.folder, "pull", s3.address, "store").returncode == 0
    assert "0 stages executed" in third.finish()


def test_the_commands_of_the_page(tmp_path: Path, s3: S3) -> None:
    """Those for spot machines in docs/clusters.md as they stand there, on two machines one after the other."""
    page = (Path(__file__).parents[1] / "docs/clusters.md").read_text()
    block = re.findall(r"^## Spot machines.*?```console\n(.*?)```", page, re.S | re.M)[0]
    lines = [line for line in block.splitlines() if "pip" not in line and "venv" not in line]
    assert len(lines) == 4
    text = "\n".join(lines).replace("s3://my-bucket/store", s3.address).replace("RECIPE", "fleet.yaml")
    text = (
        text.replace("fsdp2", "machine.yaml")
        .replace("sleep 120", "sleep 4")
        .replace("micota ", f"{sys.executable} -m micota ")
    )
    for name, said in (("first", "2 stages executed"), ("second", "0 stages executed")):
        machine = Generation(tmp_path / name, 20, seconds=(0.1, 0.2))
        machine.profile(None)
        sent = "for i in {1..90}; do grep -q pushing pushes.log && break; sleep 1; done"
        script = f"set -e\n{text}\n{sent}; kill %1; wait %1 || true; grep -c pushing pushes.log"
        done = subprocess.run(["bash", "-mc", script], cwd=machine.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert said in done.stdout


def test_commits_come_with_the_recipe(tmp_path: Path) -> None:
    """RECIPE.lock travels: another machine takes the commits of the first, and keeps its own where it has some."""
    for name in ("one", "two", "three"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "mine.yaml").write_text("name: mine\narms: {a: some/model}\n")
    answers(Store(tmp_path / "one/store"), 1)
    (tmp_path / "one/mine.lock").write_text(json.dumps({"model:some/model": "a" * 40}))
    (tmp_path / "three/mine.lock").write_text(json.dumps({"model:some/model": "b" * 40}))
    disk = str(tmp_path / "disk")
    assert micota(tmp_path / "one", "push", "store", disk, "--recipe", "mine.yaml").returncode == 0
    for name, commit in (("two", "a"), ("three", "b")):
        done = micota(tmp_path / name, "pull", disk, "store", "--recipe", "mine.yaml")
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / name / "mine.lock").read_text()) == {"model:some/model": commit * 40}


def test_mistakes_are_said_and_keys_never(tmp_path: Path, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(Store(tmp_path / "store"), 1)
    for address, said in (
        ("s3://AKIDNEVERSAID:never-said-either@bucket/x", "the address holds more than a place"),
        ("ftp://x/y", "is no storage that micota knows"),
        ("hf://me", "is no place on the Hub"),
        ("s3://no-such-bucket/x", "NoSuchBucket"),
    ):
        done = micota(tmp_path, "push", "store", address)
        assert done.returncode == 2 and said in done.stderr
        assert "NEVERSAID" not in done.stderr and "never-said" not in done.stderr
    assert micota(tmp_path, "pull", "s3://bucket/empty", "first", "--new").stdout.startswith("pulling: 0 files")
    done = micota(tmp_path, "pull", "s3://bucket/empty", "other")
    assert done.returncode == 2 and "there is no store in s3://bucket/empty" in done.stderr
    assert masked("x never-said-either y AKIDNEVERSAID") == "x *** y ***"
    assert masked("GET http://h/a?X-Amz-Signature=abc&b=c failed") == "GET http://h/a?*** failed"
    assert isinstance(connect("s3://bucket/x"), Bucket)
    with pytest.raises(MicotaError, match="no store"):
        brought(str(tmp_path / "nothing"), tmp_path / "other")
