"""The slow suites: each has a target and paths that exist, and no slow test is outside of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import suites

ROOT = Path(__file__).parents[1]
SUITES = suites.suites()


def test_every_path_of_a_suite_exists_and_holds_files() -> None:
    assert [(name, path) for name, suite in SUITES.items() for path in suite["paths"] if not suites.files(path)] == []


def test_every_suite_has_a_target_of_its_name() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert [name for name in SUITES if f"\n{name}: " not in makefile] == []


def test_every_file_with_slow_tests_is_a_path_of_their_suite() -> None:
    slow = {path for path in Path(__file__).parent.rglob("test_*.py") if "mark." + "slow" in path.read_text()}
    assert {path.relative_to(ROOT).as_posix() for path in slow} - set(SUITES["test-slow"]["paths"]) == set()


def test_a_suite_is_due_until_it_was_green_and_again_after_a_change(tmp_path: Path) -> None:
    def said(*words: str, code: int = 0) -> str:
        command = [sys.executable, str(tmp_path / "tests" / "suites.py"), *words]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert done.returncode == code, done.stdout
        return done.stdout

    (tmp_path / "tests").mkdir()
    (tmp_path / "src").mkdir()
    shutil.copy(suites.__file__, tmp_path / "tests" / "suites.py")
    (tmp_path / "src" / "a.py").write_text("1")
    (tmp_path / "b.txt").write_text("1")
    (tmp_path / "tests" / "suites.toml").write_text('[fuzz]\nwhat = "noise"\npaths = ["src", "b.txt"]\n')
    (tmp_path / "Makefile").write_text("fuzz:\n\ttest ! -e red\n")
    assert "(changed: src, b.txt)" in said()
    assert "every suite that was due is green" in said("run")
    assert said().startswith("left out  fuzz: noise")
    (tmp_path / "src" / "a.py").write_text("2")
    assert "(changed: src)" in said()
    (tmp_path / "red").touch()
    assert "failed: fuzz" in said("run", code=1)
    assert "(changed: src)" in said()  # a red suite stays due
    (tmp_path / "red").unlink()
    assert "not begun within -1 minutes, still due: fuzz" in said("run", "--minutes", "-1")
    assert "(changed: src)" in said()  # and so does one for which no time was left
    assert "no such suite: noise" in said("run", "noise", code=2)


def test_the_lock_names_only_suites_that_exist() -> None:
    assert set(json.loads(suites.LOCK.read_text())) <= set(SUITES) if suites.LOCK.exists() else True
