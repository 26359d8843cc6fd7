"""The tidy table of a recipe's graded answers, and what Python makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from by_hand import FOUR, PLAIN, SEEDED, grade, put, results, row
from conftest import LAB, World

from micota.errors import MicotaError
from micota.report.answer_frame import queried
from micota.report.results import Results
from micota.stats import bootstrap, interval

COLUMNS = [
    *("arm", "model", "benchmark", "problem", "sample", "scorer", "verdict", "answer", "tokens", "truncated"),
    *("repetitive", "generated_by", "fake"),
]


def fresh(found: Results) -> Results:
    """The same, read anew."""
    return Results(found.recipe, found.store)


def test_the_frame_has_a_row_for_each_model_problem_and_scorer(world: World) -> None:
    found = results(world, PLAIN)
    grade(found, FOUR, tokens={"strong": 200})
    frame = fresh(found).frame
    assert list(frame.columns) == COLUMNS
    assert len(frame) == 4 * 4 * 2
    strong = frame[(frame.arm == "strong") & (frame.scorer == "semantic")]
    assert strong.verdict.tolist() == ["correct", "wrong", "wrong", "wrong"]
    assert strong.tokens.tolist() == [200, 201, 200, 201]
    assert frame.truncated.dtype == bool and frame.tokens.dtype == "int64"
    assert len(fresh(found).missing) == 8
    assert "ta-long on test-set, semantic" in fresh(found).missing


def test_a_recipe_without_answers_has_an_empty_frame_with_the_same_columns(world: World) -> None:
    found = results(world, SEEDED)
    assert list(found.frame.columns) == [*COLUMNS[:3], "seed", *COLUMNS[3:]]
    assert found.frame.empty and found.table().empty and found.responses().empty
    assert "0 rows" in repr(found)
    with pytest.raises(MicotaError, match="no answer has the arm 'micota'"):
        found.compare("micota", "strong")


def test_a_variable_is_a_column_and_what_does_not_depend_on_it_has_none(world: World) -> None:
    found = results(world, SEEDED.replace("seed: [0, 1, 2]", "sample: [0, 1, 2]").replace("$seed", "$sample"))
    grade(found, {"instruct": "ccww", "half[sample=1]": "cwww"})
    frame = fresh(found).frame
    assert frame.for_sample.dtype == "Int64"
    assert frame[frame.arm == "half"].for_sample.unique().tolist() == [1]
    assert frame[frame.arm == "instruct"].for_sample.isna().all()


def test_the_table_pools_seeds_by_problem(world: World) -> None:
    found = results(world, SEEDED)
    grade(found, {"instruct": "ccww", "strong[seed=0]": "cwww", "strong[seed=1]": "ccww"})
    table = fresh(found).table(scorer="exact_match").set_index("arm")
    expected = interval([1.0, 0.5, 0.0, 0.0])
    assert table.loc["strong", "n"] == 4
    assert table.loc["strong", "accuracy"] == expected.value
    assert expected.low < 0 and table.loc["strong", "low"] == 0 and table.loc["strong", "high"] == min(1, expected.high)
    assert table.loc["instruct", "tokens"] == 10.5


def test_a_comparison_is_paired_by_problem(world: World) -> None:
    found = results(world, SEEDED.replace("data: [test-set]", "data: [test-set, more-set]"))
    grade(found, {"instruct": "ccww", "half[seed=0]": "cccw", "half[seed=1]": "cccc"}, tokens={"half[seed=0]": 50})
    shown = fresh(found).compare("half", "instruct")
    units = [0.0, 0.0, 1.0, 0.5]
    assert shown.scorer == "semantic"
    assert shown.accuracy["test-set"] == bootstrap(units)
    assert shown.accuracy["all"] == bootstrap(units, units)
    assert shown.accuracy["all"].error == interval(units, units).error
    assert shown.tokens["test-set"].value == 20
    assert shown.differences.accuracy.tolist() == units * 2
    one = fresh(found).compare("half[seed=1]", "instruct", "exact_match", benchmark="more-set")
    assert one.accuracy["more-set"].value == 0.5 and list(one.accuracy) == ["more-set"]
    assert "half[seed=1] minus instruct" in str(one)


def test_an_unknown_name_is_an_error_that_says_what_is_there(world: World) -> None:
    found = results(world, PLAIN)
    grade(found, {"instruct": "ccww", "micota": "cccw"})
    again = fresh(found)
    for arguments, fix in (
        (("mikota", "instruct"), "did you mean 'micota'"),
        (("micota", "instruct", "sematic"), "did you mean 'semantic'"),
        (("micota", "instruct", None, "gsm8k"), "test-set"),
    ):
        with pytest.raises(MicotaError) as error:
            again.compare(*arguments)
        assert fix in str(error.value)


def test_models_without_a_common_problem_do_not_compare(world: World) -> None:
    found = results(world, PLAIN)
    grade(found, {"instruct": "ccww"})
    other = next(one.spec for one in found.recipe.evaluations if (one.model, one.spec.by) == ("micota", "semantic"))
    put(found.store, other, [{**row(9, "c", 10), "key": "ffff"}], {})
    with pytest.raises(MicotaError, match="no answered problem in common"):
        fresh(found).compare("micota", "instruct")


def test_responses_have_the_texts_that_are_there(made: World) -> None:
    found = Results(made.load(*LAB), made.store)
    wanted = found.responses("micota", "test-set", scorer="exact_match")
    assert len(wanted) == 4
    assert wanted.problem_text.str.fullmatch(r"\d+\+\d").all()
    assert (wanted.response == wanted.problem_text + "=" + wanted.gold + r";\boxed{" + wanted.gold + "}").all()
    assert set(wanted.generated_by) == {"scripted on test"}
    assert wanted.engine.str.startswith("scripted").all()
    [evaluation] = [one for one in found.recipe.evaluations if one.role == "micota"]
    shutil.rmtree(made.files_of(evaluation.spec.problems))
    again = Results(found.recipe, made.fresh()).responses("micota")
    assert again.problem_text.isna().all() and again.response.notna().all()


def test_a_parquet_file_holds_the_frame_also_with_hostile_answers(world: World, tmp_path: Path) -> None:
    found = results(world, PLAIN)
    spec = found.recipe.evaluations[0].spec
    put(found.store, spec, [{**row(0, "c", 10), "answer": "\ud800\x00\u202e"}, row(1, "w", 10)])
    again = fresh(found)
    file = again.to_parquet(tmp_path / "new" / "answers.parquet")
    read = pd.read_parquet(file)
    pd.testing.assert_frame_equal(read, again.frame)
    assert read.answer[0] == "\\ud800\x00\u202e" and read.answer.isna()[1]


def test_results_show_themselves_and_write_the_report(world: World, tmp_path: Path) -> None:
    found = results(world, PLAIN.replace("name: small", "name: '<script>'"))
    grade(found, FOUR)
    again = fresh(found)
    assert "8 of 16 evaluations missing" in repr(again)
    assert "<script>" not in again._repr_html_() and "<table" in again._repr_html_()
    page = again.report(tmp_path / "here")
    assert page == tmp_path / "here" / "report.html" and page.is_file()


def test_a_condition_compares_columns_and_runs_nothing(tmp_path: Path) -> None:
    frame = pd.DataFrame({"arm": pd.Categorical(["a", "b"]), "answer": ["4", None], "tokens": [3, 9]})
    out = tmp_path / "out.csv"
    for where, left in {"tokens > 3 and arm == 'b'": 1, "answer.isna()": 1, "arm.str.contains('a|b')": 2,
                        "`tokens` in [3]": 1}.items():  # fmt: skip
        assert len(queried(frame, where)) == left, where
    refused = ("tokens", "tokens * 0", "index * 0", "5", "True", "arm.str.len()", "nothing > 3", "@frame == 1",
               "@pd.io == 1", f"tokens.to_csv('{out}') == 0", f"`tokens`.to_csv('{out}') == 0", "tokens.values == 1",
               "__import__('os').system('true') == 0", "(" * 5000, "")  # fmt: skip
    for where in refused:
        with pytest.raises(MicotaError, match="cannot be read"):
            queried(frame, where)
    assert not out.exists()
