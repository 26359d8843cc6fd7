"""The rows of a JSONL, JSON, CSV or Parquet file, as they stand there: `012` stays `012`, 18 no 18.0, a date a text.

A file is read anew at each pass, row by row; whatever it holds, a mistake in it is a MicotaError with its line.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from micota.chat import paired
from micota.errors import MicotaError

Row = dict[str, Any]
LONGEST = 64 * 2**20  # bytes of a row, and of a JSON file that is one list
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PACKED = {b"\x1f\x8b": "packed by gzip", b"PK": "a ZIP archive", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_PACKED |= {
    b"BZ": "packed by bzip2",
    b"\xfd7": "packed by xz",
    b"\x28\xb5": "packed by zstd",
    b"PAR1": "a Parquet file",
}


class FileRows:
    """The rows of a file, each with every column; None where a row has no value."""

    def __init__(self, path: Path) -> None:
        self._path = path
        columns, self._count = _parquet_shape(path) if path.suffix == ".parquet" else self._shape()
        if not self._count:
            raise MicotaError(f"{path.name} is empty: it has no rows", where=str(path), fix="check the path")
        self.column_names = list(columns)

    def _shape(self) -> tuple[Iterable[str], int]:
        columns: dict[str, None] = {}
        count = 0
        for count, row in enumerate(self._rows(), 1):  # noqa: B007
            columns |= dict.fromkeys(row)
        return columns, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        empty = dict.fromkeys(self.column_names)
        return ({**empty, **row} for row in self._rows())

    def _rows(self) -> Iterator[Row]:
        try:
            if self._path.suffix == ".parquet":
                yield from _parquet_rows(self._path)
                return
            with open(self._path, "rb") as file:
                start = file.read(4)
            for mark, what in _PACKED.items():
                if start.startswith(mark):
                    raise MicotaError(
                        f"{self._path.name} is {what}", where=str(self._path), fix="store it as plain UTF-8"
                    )
            yield from (_csv_rows if self._path.suffix == ".csv" else _json_rows)(self._path)
        except OSError as error:
            raise MicotaError(f"{self._path} cannot be read: {error.strerror or error}") from None


def check_depth(path: Path) -> None:
    """Refuse JSON whose brackets are too deep: where this process gives up with an error, `datasets` would crash."""
    with open(path, "rb") as file:
        for line in file:
            try:
                json.loads(line)
            except RecursionError:
                raise MicotaError(f"{path.name} holds brackets that are too deep", where=str(path)) from None
            except ValueError:
                continue


def _json_rows(path: Path) -> Iterator[Row]:
    with open(path, "rb") as file:
        while (first := file.read(1)).isspace() or first in (b"\xef", b"\xbb", b"\xbf"):
            pass
        file.seek(0)
        if first == b"[":
            for i, row in enumerate(_json(file.read(LONGEST + 1), path, 1), 1):
                yield _object(row, f"{path.name}, entry {i}")
            return
        number = 0
        while line := file.readline(LONGEST + 1):
            number += 1
            if line.strip():
                yield _object(_json(line, path, number), f"{path.name}, line {number}")


def _json(data: bytes, path: Path, line: int) -> Any:
    where = f"{path.name}, line {line}"
    if len(data) > LONGEST:
        raise MicotaError(f"a row has more than {LONGEST >> 20} MB", where=where, fix="write one row in each line")
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(text, parse_float=_number, parse_constant=_no_number)
    except UnicodeDecodeError:
        raise MicotaError(f"{path.name} is not in UTF-8", where=where, fix="store it as UTF-8") from None
    except RecursionError:
        raise MicotaError("its brackets are too deep", where=where, fix="remove the row") from None
    except ValueError as error:
        what = "it has NUL bytes" if b"\0" in data else str(error)
        raise MicotaError(
            f"no row of JSON: {what:.200}", where=where, fix="write one JSON object in each line"
        ) from None
    return json.loads(paired(json.dumps(value, ensure_ascii=False))) if _SURROGATE.search(data) else value


def _number(text: str) -> float | str:
    """A number that a float holds as it is written; else its text, of which no digit gets lost."""
    return float(text) if repr(float(text)) == text else text


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no value of JSON")


def _object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise MicotaError(f"a row is no JSON object: {row!r:.80}", where=where, fix="write {...} in each line")
    return row


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(LONGEST)
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        try:
            head = next(lines, [])
            if len(set(head)) < len(head):
                raise MicotaError(f"a column stands twice: {', '.join(head):.200}", where=f"{path.name}, line 1")
            for cells in lines:
                if cells and len(cells) != len(head):
                    what = f"a row has {len(cells)} cells, the head {len(head)}"
                    raise MicotaError(what, where=f"{path.name}, line {lines.line_num}", fix="quote cells with commas")
                if cells:
                    yield dict(zip(head, cells, strict=True))
        except UnicodeDecodeError:
            raise MicotaError(f"{path.name} is not in UTF-8", where=str(path), fix="store it as UTF-8") from None
        except csv.Error as error:
            raise MicotaError(f"no row of CSV: {error}", where=f"{path.name}, line {lines.line_num}") from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    with _parquet(path) as file:
        for batch in file.iter_batches(batch_size=256):
            yield from batch.to_pylist()


def _parquet_shape(path: Path) -> tuple[list[str], int]:
    with _parquet(path) as file:
        return list(file.schema_arrow.names), int(file.metadata.num_rows)


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            yield file
    except (pyarrow.ArrowException, ValueError, OSError, RecursionError) as error:
        what = (str(error).splitlines() or [type(error).__name__])[0]
        raise MicotaError(f"{path.name} is no Parquet file that can be read: {what:.200}", where=str(path)) from None
