"""Files that are replaced whole, and JSON that cannot be trusted."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from micota.atomic import atomic, read_json, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(OSError), atomic(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_folders_and_links_take_their_names_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with atomic(tmp_path / "out") as temporary:
        temporary.mkdir()
        (temporary / "file").write_text("x")
        assert not (tmp_path / "out" / "file").exists()
    assert (tmp_path / "out" / "file").read_text() == "x"
    with pytest.raises(OSError), atomic(tmp_path / "out") as temporary:  # it holds something
        temporary.mkdir()
    for target in ("out", "elsewhere"):
        with atomic(tmp_path / "link") as temporary:
            temporary.symlink_to(target)
    assert (tmp_path / "link").readlink() == Path("elsewhere")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out"]


@pytest.mark.parametrize("text", [b"", b'{"a": 1', b"[1]", b"7", b"\xff\xfe\xfa", b"[" * 200_000])
def test_json_from_anywhere_is_an_object_or_nothing(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(text)
    assert read_json(tmp_path / "x.json") == read_json(tmp_path / "missing.json") == {}
    write_json(tmp_path / "x.json", {"b": 1, "a": "é"})
    assert read_json(tmp_path / "x.json") == {"a": "é", "b": 1}
