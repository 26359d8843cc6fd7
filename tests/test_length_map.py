"""The map of lengths: fields, ridge and moves can be counted by hand; a seed that is not whole stays out."""

from __future__ import annotations

import math
from statistics import mean, stdev

import pytest
from by_hand import grade, results, section, table, texts
from conftest import World

from micota.report import drawing
from micota.report.length_map import Student, moved, panels
from micota.report.page import Figure
from micota.report.results import Results
from micota.stats import interval

WINDOWS, SEEDS, LENGTHS = (128, 512), (1, 2, 3), (0.2, 0.5, 1.0)
MAP = """
name: map
for:
  seed: [1, 2, 3]
  window: [128, 512]
  length: [1.0, 0.2, 0.5]
  writer: [{name: ta, seed: 1}, {name: teacher, seed: 2}]
defaults:
  distil: {prompt: "{problem}", precision: float32, by: exact_match, sampling: {max_tokens: 12}}
  train: {precision: float32, batch: 4, cutoff: 64, max_steps: 2, seed: $seed}
let:
  train-set: {problems: {source: ./train.jsonl}}
  test-set: {problems: {source: ./test.jsonl}}
  teacher: ./models/teacher
  ta: ./models/ta
  start: ./models/student
  chains: {distil: {from: ta, data: train-set, sampling: {temperature: $length, seed: $writer.seed}}}
  student: {pretrain: {like: student, seed: $seed, window: $window}}
arms:
  untrained: student
  steps: {name: same steps, train: {base: student, data: chains}}
evaluate: {models: [arms], data: [test-set], prompt: "{problem}", by: exact_match}
"""
# Right answers of 20: by window, for each seed before training and after chains of .2, .5 and 1.
RIGHT = {
    128: {1: (8, 9, 14, 3), 2: (8, 9, 13, 4), 3: (9, 8, 15, 2)},
    512: {1: (8, 9, 12, 14), 2: (8, 9, 13, 12), 3: (9, 8, 12, 16)},
}


def letters(right: int) -> str:
    return "c" * right + "w" * (20 - right)


@pytest.fixture
def found(world: World) -> Results:
    """A map of which the writer `ta` is whole and `teacher` lacks all chains of length 1."""
    mapped = results(world, MAP)
    for window, of_seed in RIGHT.items():
        for seed, (before, *after) in of_seed.items():
            grade(mapped, {f"untrained[seed={seed},window={window}]": letters(before)})
            for length, right in zip(LENGTHS, after, strict=True):
                for writer in ("ta", "teacher") if length < 1 else ("ta",):
                    label = f"steps[length={length},seed={seed},window={window},writer={writer}]"
                    grade(mapped, {label: letters(right)})
    return Results(mapped.recipe, world.fresh())


def test_a_map_has_a_row_for_each_student_and_a_field_for_each_length(found: Results) -> None:
    (panel,) = panels(found)
    assert panel.title == "ta, same steps" and panel.lengths == [0.2, 0.5, 1.0]
    assert [one.name for one in panel.students] == ["window=128", "window=512"]
    narrow = texts(table(found, "ridges"), "window=128")
    assert narrow[1:5] == ["41.7", "0.5", "[0.5, 0.5]", "70.0"]
    gains = [(after[1] - before) / 20 for before, *after in RIGHT[128].values()]
    half = 4.302652729911275 * stdev(gains) / math.sqrt(3)  # t of 2 degrees of freedom
    ends = [f"{100 * (mean(gains) + side * half):+.1f}" for side in (-1, 1)]
    assert narrow[5:7] == [f"{100 * mean(gains):+.1f}", f"[{', '.join(ends)}]"]
    assert narrow[7] == f"{100 * mean((3 - 8, 4 - 8, 2 - 9)) / 20:+.1f}" and narrow[-1] == "3"
    assert texts(table(found, "ridges"), "window=512")[2:4] == ["1", "[0.5, 1]"]


def test_the_best_length_moves_by_what_each_seed_says(found: Results) -> None:
    low, high, by = moved(panels(found)[0].students, "window") or (0, 0, interval([]))
    assert (low, high, by.n) == (128, 512, 3)
    assert by == interval([0.5, 0.0, 0.5])
    shown = texts(table(found, "moves"), "window=128")
    assert shown[1:3] == ["window=512", "+0.33"]


def test_a_map_is_one_figure_in_place_of_one_for_each_field(found: Results) -> None:
    shown = section(found, "The map of lengths")
    assert shown is not None
    figures = [item for item in shown.items if isinstance(item, Figure)]
    assert [item.key for item in figures] == ["map1"]
    assert "window=128: best 0.5 (0.5 to 0.5), 70.0 %" in figures[0].alt
    light = drawing.picture(figures[0])
    assert light.png == drawing.picture(figures[0]).png and light.light != light.dark
    accuracy = section(found, "Accuracy")
    assert accuracy is not None and not [item for item in accuracy.items if isinstance(item, Figure)]


def test_a_seed_that_lacks_a_length_stays_out() -> None:
    after = {0.2: {1: 0.1, 2: 0.9}, 0.5: {1: 0.3, 2: 0.1}, 1.0: {1: 0.2}}
    one = Student("x", {}, {1: 0.2, 2: 0.2, 3: 0.2}, after)
    assert one.seeds == [1] and one.best() == 0.5
    assert math.isnan(one.ridge.low), "of one seed there are no resamples"


def test_of_equal_lengths_the_shortest_is_best() -> None:
    assert Student("x", {}, {1: 0.5}, {1.0: {1: 0.5}, 0.2: {1: 0.5}, 0.5: {1: 0.4}}).best() == 0.2
