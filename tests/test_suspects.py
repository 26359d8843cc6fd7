"""Which request crashes engines: the culprit is named, and nobody else, after few crashes."""

from __future__ import annotations

import pytest

from micota.errors import MicotaError
from micota.generation.suspects import Suspects
from micota.store.records import Request


def tried(n: int, culprits: set[int]) -> tuple[int, set[str], str]:
    """Crashes until all suspects are tried, who was answered, and what is said at the end."""
    suspects, crashes, answered = Suspects(), 1, set[str]()
    suspects.add([Request(str(i), 0, "") for i in range(n)], alone=False)
    while suspects.groups:
        group = suspects.groups.popleft()
        if any(int(one.key) in culprits for one in group):
            crashes += 1
            suspects.add(group, alone=True)
        else:
            answered |= {one.key for one in group}
    try:
        suspects.check()
    except MicotaError as error:
        return crashes, answered, str(error)
    return crashes, answered, ""


@pytest.mark.parametrize(("n", "crashes"), [(1, 2), (5, 2), (16, 2), (17, 3), (256, 3), (320, 4), (4096, 4)])
def test_one_culprit_is_named_and_all_others_are_answered(n: int, crashes: int) -> None:
    count, answered, said = tried(n, {n // 2})
    assert count <= crashes and len(answered) == n - 1
    assert f"engines crash over problem {n // 2} (sample 0); everything else is answered" in said


def test_several_culprits_are_named() -> None:
    _, answered, said = tried(100, {3, 4, 77})
    assert "3 (sample 0), 4 (sample 0), 77 (sample 0)" in said and len(answered) == 97


def test_nobody_is_named_who_crashed_nothing_alone() -> None:
    assert tried(100, set()) == (1, {str(i) for i in range(100)}, "")
