"""Hostile and broken model folders, by a seed: headers, indexes, configurations, tokenizers, templates.

`python tests/fuzz/folders.py 100` checks so many, each with `micota check --model` in a process of its own. Every one
must end with findings, an error message or a clean bill: no traceback, within TIME seconds of the processor and MEMORY
MiB.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import micota

TIME, MEMORY = 10, 1024
"""Seconds of the processor behind the imports, and MiB, that a check may take."""
STUDENT = Path(micota.__file__).parent / "lab" / "models" / "student"
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**9, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "x", "\x00", "\x1b[31mred", "‮", "\ud800", "9" * 5000, "../../etc/passwd", "{{ 1 }}", "<|endoftext|>"),
    *([], {}, [[]], [None], {"a": {"b": []}}, [1, "x"], list(range(5000))),
)
"""Values that stand where another kind of value belongs."""
RAW = (
    b"",
    b"\x00" * 64,
    b"\xff\xfe{\x00}\x00",
    b"{",
    b"[]",
    b"null",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"version https://git-lfs",
)
TEMPLATES = (
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    *(
        "{{ 'a' * 10**10 }}",
        "{% set x = 9**(9**9) %}",
        "{{ messages }}",
        "{{ undefined.thing }}",
        "{% if %}",
        "{{ raise_exception('\x1b[31m') }}",
    ),
    *(
        "{{ ''.__class__ }}",
        "{% include '/etc/passwd' %}",
        "{{ messages[0]['content'] | upper }}",
        "{{ 'ab' * 10**8 }}",
        "{" * 100_000,
    ),
    *(
        "{{ " + "(" * 5000 + ")" * 5000 + " }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "\x00",
        "{{ messages[0].content ~ range(99999) | list }}",
    ),
)


def header(draw: random.Random, folder: Path) -> str:
    """One entry of a safetensors header is changed, or the header as a whole."""
    file = folder / "model.safetensors"
    data = file.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    entries = json.loads(data[8 : 8 + size])
    name = draw.choice(sorted(entries.keys() - {"__metadata__"}))
    begin, end = entries[name]["data_offsets"]
    changes: dict[str, Callable[[], Any]] = {
        "negative offset": lambda: entries[name].update(data_offsets=[begin - end, 0]),
        "overlap": lambda: entries[name].update(data_offsets=[max(0, begin - 8), max(0, end - 8)]),
        "float offsets": lambda: entries[name].update(data_offsets=[float(begin), float(end)]),
        "beyond the end": lambda: entries[name].update(data_offsets=[begin + 2**40, end + 2**40]),
        "negative shape": lambda: entries[name].update(shape=[-side for side in entries[name]["shape"]]),
        "another shape": lambda: entries[name].update(shape=[*entries[name]["shape"], draw.choice([0, 2, 2**62])]),
        "another dtype": lambda: entries[name].update(
            dtype=draw.choice(["F64", "I8", "F8_E4M3", "X", "", "BOOL", "C64"])
        ),
        "an odd value": lambda: entries[name].update(
            {draw.choice(["shape", "data_offsets", "dtype"]): draw.choice(ODD)}
        ),
        "an odd entry": lambda: entries.update({name: draw.choice(ODD)}),
        "another name": lambda: entries.update(
            {draw.choice(["x", "", "a" * 10**5, "\x1b[31m", "../x"]): entries.pop(name)}
        ),
        "one is gone": lambda: entries.pop(name),
        "many": lambda: entries.update({f"t{i}": entries[name] for i in range(20_000)}),
        "odd metadata": lambda: entries.update(__metadata__=draw.choice(ODD)),
    }
    change = draw.choice([*changes, "length", "cut", "twice"])
    if change in changes:
        changes[change]()
    text = json.dumps(entries).encode()
    if change == "twice":
        text = text[:-1] + b"," + text[1:]
    length = draw.choice([0, 7, 10**8, 2**40, 2**63]) if change == "length" else len(text)
    body = struct.pack("<Q", length) + text + data[8 + size :]
    file.write_bytes(body[: draw.randrange(len(body))] if change == "cut" else body)
    return f"header: {change} of {name[:40]}"


def index(draw: random.Random, folder: Path) -> str:
    """Shards with an index that is wrong."""
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    (folder / "model.safetensors").rename(folder / names[0])
    entries = dict.fromkeys(json.loads(_header(folder / names[0])), names[0])
    entries.pop("__metadata__", None)
    maps = (
        draw.choice(ODD),
        {},
        dict(entries, x=names[1]),
        *(dict.fromkeys(entries, to) for to in ("/etc/passwd", 3, ".")),
    )
    value = draw.choice([*ODD, *({"weight_map": places} for places in maps)])
    (folder / "model.safetensors.index.json").write_text(json.dumps(value))
    return f"index: {str(value)[:60]!a}"


def _header(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(struct.unpack("<Q", stream.read(8))[0])


def settings(draw: random.Random, folder: Path) -> str:
    """One or two values of a JSON file are odd, at any depth."""
    files = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "adapter_config.json")
    name = draw.choice(files)
    value = json.loads((folder / name).read_text()) if (folder / name).is_file() else {}
    places = []
    for _ in range(draw.randint(1, 2)):
        inner = value
        while True:
            key = draw.choice([*inner] if isinstance(inner, dict) and inner else ["eos_token_id"])
            if isinstance(inner.get(key), dict) and inner[key] and draw.random() < 0.7:
                inner = inner[key]
                continue
            inner[key] = draw.choice(ODD)
            places.append(f"{key}={str(inner[key])[:30]!a}")
            break
    (folder / name).write_text(json.dumps(value))
    return f"{name}: {', '.join(places)}"


def raw(draw: random.Random, folder: Path) -> str:
    """A file holds something else, is a folder, a link to nowhere or to itself, or is gone."""
    file = draw.choice(sorted(path for path in folder.iterdir() if path.is_file()))
    how = draw.choice(["bytes", "folder", "nowhere", "itself", "gone", "cut", "mixed"])
    data = file.read_bytes()
    file.unlink()
    if how == "folder":
        file.mkdir()
    elif how in ("nowhere", "itself"):
        file.symlink_to("no-such-file" if how == "nowhere" else file.name)
    elif how == "bytes":
        file.write_bytes(draw.choice(RAW))
    elif how == "cut":
        file.write_bytes(data[: draw.randrange(len(data) or 1)])
    elif how == "mixed":
        noise = bytearray(data)
        for _ in range(20):
            noise[draw.randrange(len(noise))] = draw.randrange(256)
        file.write_bytes(noise)
    return f"{file.name}: {how}"


def template(draw: random.Random, folder: Path) -> str:
    """A chat template that does not end, takes all memory, or is none."""
    text = draw.choice(TEMPLATES)
    (folder / "chat_template.jinja").write_text(text)
    return f"template: {text[:50]!a}"


KINDS = (header, header, index, settings, settings, settings, raw, raw, template)


def make(seed: int, folder: Path) -> str:
    """Make the hostile folder of a seed; returns what is wrong with it."""
    draw = random.Random(seed)
    shutil.copytree(STUDENT, folder)
    return draw.choice(KINDS)(draw, folder)


def main(count: int, first: int = 0) -> int:
    """Check so many folders; returns how many broke a promise."""
    broken = 0
    for seed in range(first, first + count):
        with tempfile.TemporaryDirectory() as place:
            what = make(seed, Path(place) / "model")
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            command = [sys.executable, "-m", "micota", "check", "--model", f"{place}/model"]
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=900, check=False)
            spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds, memory = spent.ru_utime - before, spent.ru_maxrss / 1024
        wrong = done.returncode not in (0, 2) or "Traceback" in done.stderr or "\x1b" in done.stdout + done.stderr
        if wrong or seconds > TIME + 5 or memory > MEMORY:
            broken += 1
            last = done.stderr.strip().splitlines()[-1:] or [""]
            print(f"seed {seed}: {what}: exit {done.returncode}, {seconds:.0f} s, {memory:.0f} MiB: {last[0][:300]!a}")
    print(f"{count} folders, {broken} broken promises, at most {memory:.0f} MiB")
    return broken


if __name__ == "__main__":
    sys.exit(bool(main(*map(int, sys.argv[1:]))))
