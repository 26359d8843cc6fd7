"""Hostile data files, read as problems and as training rows: `python tests/fuzz/data.py 100 --seed 1`."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import datasets  # noqa: F401  (once, before the cases are forked)
import pyarrow
import pyarrow.parquet
from isolated import Case, main

from micota.machine import MachineProfile
from micota.recipe.words import as_source
from micota.run.execution import Run
from micota.specs import Problems, SftData
from micota.store.artifacts import Store

CHAT = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "4", "reasoning": "t"}]
VALUES: list[Any] = [
    *(
        "",
        " ",
        "x",
        "4",
        4,
        -0.0,
        1e308,
        10**400,
        None,
        True,
        [],
        {},
        [[]],
        {"a": 1},
        ["4"],
        "\0",
        "\x1b[2J",
        "\ud835",
        "\u202e",
    ),
    *(
        "x" * 200_000,
        "<think>",
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": None, "weight": 0}],
    ),
    *(
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "4", "reasoning": "t"}],
        [{"from": "gpt", "value": 3}],
    ),
]
COLUMNS = (
    "problem",
    "answer",
    "prompt",
    "response",
    "messages",
    "conversations",
    "instruction",
    "output",
    "system",
    "history",
    "weight",
    "text",
    "reasoning",
    "",
    "a" * 999,
)
BYTES = [
    *(
        b"",
        b"\0" * 999,
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"[",
        b"{" * 99_999,
        b'{"problem":' * 99_999,
        b"[" * 99_999,
        b"NaN",
        b"\xe9",
    ),
    *(
        b'{"problem": "x", "answer": ' + b"9" * 9_999 + b"}",
        b'"',
        b",",
        b"\r",
        b"\n",
        b"PAR1",
        b"PK\3\4",
        b"9" * 999_999,
    ),
]


def cases(count: int, random: Random) -> Iterator[Case]:
    """Rows with hostile values in four formats, whole, cut, packed or mixed with hostile bytes."""
    for number in range(count):
        suffix = random.choice(["jsonl", "jsonl", "json", "csv", "parquet", "folder"])
        data = _file(suffix, random)
        for _ in range(random.choice([0, 0, 0, 1, 2])):
            at = random.randrange(len(data) + 1)
            data = data[:at] + random.choice(BYTES) + data[at + random.choice([0, 1, 50]) :]
        packing = random.choice([None] * 7 + ["gzip", "tar", "utf-16", "latin-1"])
        packed, kind = _packed(data, packing), random.choice([Problems, SftData])
        yield f"{suffix} {packing} {number}", lambda folder, s=suffix, d=packed, k=kind: _read(folder, s, d, k)  # type: ignore[misc]


def _rows(random: Random) -> list[dict[str, Any]]:
    columns = random.choice([("problem", "answer"), ("prompt", "response"), ("messages",), ("instruction", "output")])
    names = [*columns, *random.sample(COLUMNS, random.choice([0, 0, 1, 2]))]
    share = random.choice([0.05, 0.5])
    return [
        {
            name: random.choice(VALUES) if random.random() < share else CHAT if name == "messages" else f"{i}"
            for name in names
        }
        for i in range(random.randint(1, 5))
    ]


def _file(suffix: str, random: Random) -> bytes:
    rows = _rows(random)
    if suffix == "csv":
        return "\n".join(
            ",".join(json.dumps(str(cell)) for cell in row) for row in [list(rows[0]), *map(dict.values, rows)]
        ).encode("utf-8", "replace")
    if suffix == "parquet":
        sink = io.BytesIO()
        pyarrow.parquet.write_table(
            pyarrow.Table.from_pylist([{k: json.dumps(v) for k, v in row.items()} for row in rows]), sink
        )
        return sink.getvalue()
    if suffix == "json":
        return json.dumps(rows).encode()
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _packed(data: bytes, packing: str | None) -> bytes:
    if packing == "gzip":
        return gzip.compress(data)
    if packing == "tar":
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("x"), io.BytesIO())
        return sink.getvalue()
    return data.decode("utf-8", "replace").encode(packing, "replace") if packing else data


def _read(folder: Path, suffix: str, data: bytes, kind: type[Problems | SftData]) -> None:
    file = folder / ("data/train.jsonl" if suffix == "folder" else f"data.{suffix}")
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    source = as_source(str(file.parent if suffix == "folder" else file), "dataset")
    Run(Store(folder / "store"), MachineProfile(), _Quiet()).go([kind(source=source)])


class _Quiet:
    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


if __name__ == "__main__":
    main(cases, 100)
