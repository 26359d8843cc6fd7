"""The report's tables, on graded answers that were written by hand so that every figure can be counted."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Sequence

import pytest
from by_hand import BPC, EVALUATE, FOUR, LET, NEUTRAL, PLAIN, SEEDED, cell, grade, put, results, section, table, texts
from conftest import World, with_roles

from micota.errors import MicotaError
from micota.report import page_sections as tables
from micota.report import paper_claims as claims
from micota.report.bits_per_character import measures
from micota.report.cells import grouped
from micota.report.page import Cell, Table
from micota.report.page_sections import sections
from micota.report.reflection import places
from micota.report.results import Results
from micota.specs import LengthDial, Select, Spec
from micota.stages.bpc import summary
from micota.stats import interval
from micota.store.artifacts import Store


def test_table_2_by_hand(world: World) -> None:
    found = results(world, PLAIN)
    grade(found, FOUR | {"teacher": "cccc"}, tokens={"strong": 200})
    grade(found, {"micota": "cccc"}, by="semantic")
    shown = table(found, "table2")
    strong = texts(shown, "Strong Teacher CoT")
    error = f"{100 * math.sqrt(0.25 * 0.75 / 3):.1f}"
    assert strong == [
        *("Strong Teacher CoT", "25.0", error, "25.0", error),
        *("4", "200.5", "0.3", "0.0", "0.0", "0.0"),
    ]
    assert cell(shown, "MiCoTA", "Accuracy, exact match").text == "75.0"
    assert cell(shown, "MiCoTA", "Accuracy, semantic").value == 100
    assert cell(shown, "MiCoTA", "Accuracy, exact match").bold
    tied = [cell(shown, name, "Accuracy, exact match") for name in ("Instruct", "Half-size CoT")]
    assert all(one.underline and not one.bold for one in tied)  # equal values share the second place
    teacher = cell(shown, "Teacher", "Accuracy, exact match")
    assert (teacher.text, teacher.bold, teacher.underline) == ("100.0", False, False)  # no arm: it is not ranked


def test_truncated_and_missing_answers_are_shares_of_the_responses(world: World) -> None:
    found = results(world, PLAIN)
    grade(found, {"instruct": "tttt", "strong": "cwnt"})
    shown = table(found, "table2")
    assert texts(shown, "Instruct")[1:3] == ["0.0", "20.0"]  # none of 4: Wilson's interval, not zero
    assert texts(shown, "Instruct")[-3:] == ["100.0", "0.0", "100.0"]
    assert texts(shown, "Strong Teacher CoT")[-3:] == ["25.0", "0.0", "50.0"]


def test_what_is_missing_is_a_dash_and_said(world: World) -> None:
    found = results(world, PLAIN)
    grade(found, {"instruct": "ccww", "strong": "cwww"})
    grade(found, {"micota": "cccw"}, by="semantic")
    shown = table(found, "table2")
    assert texts(shown, "Half-size CoT") == ["Half-size CoT", *["–"] * 10]
    assert texts(shown, "MiCoTA")[1:5] == ["–", "–", "75.0", "25.0"]
    main = section(found, tables.MAIN)
    assert main is not None
    assert main.text.startswith("11 of 16 evaluations are missing")
    assert [one.verdict for one in claims.claims(found)].count("missing") == 6


def test_files_that_were_removed_are_missing_but_their_facts_stand(world: World) -> None:
    found = results(world, PLAIN)
    grade(found, FOUR)
    one = next(one for one in found.recipe.evaluations if one.model == "micota")
    data = found.recipe.named("mid-cot")
    facts = {"answers": 8, "kept": 6, "mean_tokens": 100.0, "dropped": {"wrong": 2}}
    for manifest in (found.store.manifest(one.spec), put(found.store, data, [], facts)):
        assert manifest is not None
        shutil.rmtree(found.store.files(manifest))
    again = Results(found.recipe, world.fresh())
    assert texts(table(again, "table2"), "MiCoTA")[3] == "–"
    assert texts(table(again, "funnel"), "mid-cot")[-3:] == ["6", "75.0", "100.0"]
    assert "files removed" in [row[-1].text for row in table(again, "stages").rows]


def test_seeds_are_pooled_by_problem(world: World) -> None:
    found = results(world, SEEDED)
    grade(found, {"instruct": "ccww", "strong[seed=0]": "cwww", "strong[seed=1]": "ccww"})
    shown = table(found, "table2")
    assert cell(shown, "Strong Teacher CoT", "Accuracy, exact match").text == "37.5"
    expected = interval([1.0, 0.5, 0.0, 0.0])  # four problems, not eight answers
    assert cell(shown, "Strong Teacher CoT", "± s.e., exact match").text == f"{100 * expected.error:.1f}"
    assert cell(shown, "Strong Teacher CoT", "n").text == "4"
    assert cell(shown, "Strong Teacher CoT", "Seeds").text == "2 of 3"
    spread = cell(shown, "Strong Teacher CoT", "sd over seeds, exact match")
    assert spread.text == f"{100 * 0.25 / math.sqrt(2):.1f}"
    assert cell(shown, "Instruct", "Seeds").text == "1"


def test_arms_matched_in_tokens_have_a_table_and_claims_of_their_own(world: World) -> None:
    assert section(results(world, PLAIN), tables.TOKENS) is None
    more = "  micota_tokens: {role: micota_tokens, train: {base: student, data: mid-cot, target_tokens: 40}}\n"
    text = PLAIN.replace("max_steps: 2", "epochs: 1.0").replace("\nevaluate:", more + "\nevaluate:")
    found = results(world, text)
    grade(found, {"instruct": "ccww", "micota": "cccw", "micota_tokens": "cccc"})
    shown = table(found, "table2b")
    assert [row[0].text for row in shown.rows] == ["Instruct", "MiCoTA"]
    assert cell(shown, "MiCoTA", "Accuracy, exact match").value == 100
    assert cell(table(found, "table2"), "MiCoTA", "Accuracy, exact match").value == 75
    assert [row[0].text for row in table(found, "claims_tokens").rows] == ["MiCoTA is better than Instruct"]


def test_students_have_headings_and_the_papers_own_figures(world: World) -> None:
    students = "for: {student: [Qwen/Qwen2.5-3B-Instruct, ./models/student]}\n"
    text = PLAIN.replace("  student: ./models/student\n", "").replace("base: student", "base: $student")
    text = students + text.replace("model: student}", "model: $student}")
    found = results(world, text)
    label = "student=Qwen/Qwen2.5-3B-Instruct"
    grade(
        found, {f"instruct[{label}]": "ccww", f"micota[{label}]": "cccw", "instruct[student=./models/student]": "cwww"}
    )
    grade(found, {"micota[student=./models/student]": "ccww", "teacher": "cccc"})
    shown = table(found, "table2")
    heads = [row[0].text for row in shown.rows if len(row) == 1]
    assert heads == ["Qwen/Qwen2.5-3B-Instruct", "./models/student", "For all"]
    assert not [head for head in shown.head if "Paper" in head]  # it has other problems
    marked = [row[0].text for row in shown.rows if len(row) > 1 and row[1].bold]
    assert marked == ["MiCoTA", "MiCoTA"]  # the best of each student
    found = results(world, text.replace("data: [test-set]", "data: [aime24, amc23, olympiadbench, math500, gsm8k]"))
    shown = table(found, "table2")
    papers = [row[-1].text for row in shown.rows if row[0].text == "MiCoTA"]
    assert papers == ["43.3", ""]  # where the model is the paper's
    assert texts(table(found, "table2_math500"), "MiCoTA")[-1] == "61.6"
    gains = [row[-1].text for row in table(found, "table1b").rows if row[0].text == "MiCoTA over Instruct"]
    assert gains == ["+10.0", ""]
    few = results(world, text.replace("data: [test-set]", "data: [math500, gsm8k]"))
    assert "Paper, average" not in table(few, "table2").head  # two benchmarks are another average
    assert texts(table(few, "table2_gsm8k"), "MiCoTA")[-1] != ""


def test_arms_without_roles_are_compared_with_the_baseline_and_nothing_is_the_papers(world: World) -> None:
    """Arms may be called like the paper's: nothing follows from that."""
    text = NEUTRAL.replace("train-set:", "other: ./models/ta\n  train-set:")
    found = results(world, text)
    grade(found, {"instruct": "ccww", "strong": "cccw", "half": "wwww", "micota": "cccc", "teacher": "cccc"})
    keys = {item.key for section in sections(found) for item in section.items}
    assert not keys & {"table1", "table1b", "table2", "table3", "table4", "claims", "figure2", "figure3", "figure4"}
    assert {"accuracies", "from_baseline", "arm_lengths"} <= keys
    titles = " ".join(item.title for section in sections(found) for item in section.items)
    assert not re.search("Table|Figure|Teacher|MiCoTA|claim", titles)
    shown = table(found, "from_baseline")
    assert shown.title == "Differences from instruct"
    assert cell(shown, "strong", "Difference, exact match").text == "+25.0"
    assert cell(shown, "half", "Difference, semantic").value == -50
    assert [row[0].text for row in shown.rows] == ["strong", "half", "micota", "teacher", "ta", "ta-long", "ta-mid"]
    other = results(world, text.replace("\nevaluate:", "\nbaseline: micota\nevaluate:"))
    shown = table(other, "from_baseline")
    assert cell(shown, "instruct", "Difference, exact match").value == -50
    world.recipe_file.write_text(text.replace("\nevaluate:", "\nbaseline: ta-medium\nevaluate:"))
    with pytest.raises(MicotaError, match=r"(?s)'ta-medium' is not evaluated.*line.*did you mean"):
        world.load()


def test_several_values_of_a_variable_are_titled_with_its_name(world: World) -> None:
    text = (
        "name: rates\nfor: {lr: [1e-3, 1e-4]}\n"
        + LET
        + """
arms:
  untrained: student
  tuned: {train: {base: student, data: long-cot, lr: $lr}}
"""
        + EVALUATE.replace("arms, teacher, ta, ta-long, ta-mid", "arms")
    )
    found = results(world, text)
    grade(found, {"untrained": "ccww", "tuned[lr=0.001]": "cccw", "tuned[lr=0.0001]": "cwww"})
    shown = table(found, "from_baseline")
    assert [row[0].text for row in shown.rows] == ["lr=0.001", "tuned", "lr=0.0001", "tuned"]
    assert [row[1].text for row in shown.rows if len(row) > 1] == ["+25.0", "-25.0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("role: strong", "role: strongest"), "no role 'strongest'"),
        (("role: strong", "role: half"), "'strong' and 'half' have one role, half"),
        (("role: strong", "role: [strong]"), "is no role"),
        (("role: strong", "role: teacher"), "no role 'teacher'"),
    ],
)
def test_a_role_that_is_none_is_refused_with_its_line(world: World, change: tuple[str, str], message: str) -> None:
    world.recipe_file.write_text(PLAIN.replace(*change))
    with pytest.raises(MicotaError, match=f"(?s){re.escape(message)}.*line"):
        world.load()


def test_roles_and_baseline_change_no_digest_and_survive_a_save(world: World) -> None:
    world.recipe_file.write_text(NEUTRAL)
    plain = world.load()
    world.recipe_file.write_text(PLAIN.replace("\nevaluate:", "\nbaseline: ta\nevaluate:"))
    named = world.load()
    assert {k: v.digest for k, v in plain.names.items()} == {k: v.digest for k, v in named.names.items()}
    assert (plain.roles, plain.baseline, named.baseline) == ({}, "instruct", "ta")
    back = world.load(name=named.save(world.folder / "back.yaml").name)
    assert (back.roles, back.baseline, back.titles) == (named.roles, named.baseline, named.titles)
    assert list(named.roles.values()) == ["instruct", "strong", "half", "micota"]


def test_table_1_is_paired_and_table_3_has_three_arms(world: World) -> None:
    found = results(world, PLAIN)
    grade(found, FOUR | {"ta": "ccww", "ta-long": "cccw"})
    shown = table(found, "table1")
    assert texts(shown, "Student: teacher CoT")[2:7] == [
        "50.0",
        "25.0",
        "-25.0",
        "25.0",
        "[-100.0, +0.0]",
    ]
    assert texts(shown, "Student: assistant CoT")[4:7] == ["+0.0", "0.0", "–"]
    assert texts(shown, "Assistant: teacher CoT")[4] == "+25.0"
    both = [row[1].text for row in shown.rows if row[0].text == "Student: teacher CoT"]
    assert both == ["exact match", "semantic"] and len(shown.head) < 12, "1,200 pixels hold no more"
    assert texts(table(found, "table1b"), "MiCoTA over Strong Teacher CoT")[1] == "+200.0"
    arms = [row[0].text for row in table(found, "table3").rows]
    assert arms == ["Strong Teacher CoT", "Half-size CoT", "MiCoTA"]
    assert cell(table(found, "table3"), "MiCoTA", "test-set (n = 4), exact match").text == "75.0 ± 25.0"


def test_captions_speak_of_nothing_that_a_run_lacks(world: World) -> None:
    found = results(world, re.sub(r"^  half: .*\n", "", PLAIN, flags=re.M))
    grade(found, {name: letters for name, letters in FOUR.items() if name != "half"})
    trained = {"examples": 1, "dropped": {}, "steps": 2, "target_tokens": 50, "learnt_tokens": 100, "final_loss": 0.1}
    put(found.store, found.recipe.named("strong"), [], trained)
    assert table(found, "table3").title == "Table 3: Strong Teacher CoT, MiCoTA"
    said = {name: table(found, name).caption for name in ("table1", "claims", "trainings", "cost")}
    for name, beside in {
        "table1": "The paper's",
        "claims": "Bits",
        "trainings": "pre-trained",
        "cost": "pretrain",
    }.items():
        assert beside not in said[name], name
        assert "  " not in said[name] and said[name].endswith("."), name


def measured(store: Store, spec: Spec, nats: Sequence[float], characters: Sequence[int]) -> None:
    rows = [
        {"key": f"{i:04x}", "sample": 0, "nats": n, "tokens": 5, "characters": c, "bytes": 2 * c}
        for i, (n, c) in enumerate(zip(nats, characters, strict=True))
    ]
    put(store, spec, rows, summary(rows))


def test_table_4_pools_seeds_and_compares_data_under_the_student(world: World) -> None:
    text = SEEDED.replace("from: teacher, data", "from: teacher, sampling: {temperature: 1.0, seed: $seed}, data") + BPC
    found = results(world, text)
    name = "bpc:long-cot[seed={}]@student"
    for seed in range(2):
        measured(found.store, found.recipe.measures[name.format(seed)], [8.0 + seed, 16.0, 3.0], [10, 10, 5])
    for seed in range(3):
        half = found.recipe.measures[f"bpc:half-cot[seed={seed}]@student"]
        measured(found.store, half, [2.0, 5.0, 1.0], [10, 20, 5])
    shown = table(found, "table4")
    bits = (27 + 28) / 50 / math.log(2)
    assert texts(shown, "Strong Teacher CoT: long-cot")[1:] == [f"{bits:.3f}"]
    assert texts(shown, "MiCoTA: mid-cot")[1] == "–"
    first = claims.claim_tables(found)[0].rows
    claim = next(row for row in first if row[0].text.startswith("Strong Teacher CoT has more bits"))
    assert claim[1].text == f"{(55 / 50 - 24 / 105) / math.log(2):+.3f} bits"
    assert claim[4].text == "2 of 2"
    assert len(measures(found)) == 9


DIAL = """{dial: {base: ta, models: [ta-long], method: dare_ties, density: 0.7, rescale: l1, weight: [0.2, 0.8],
    steps: 3, target: {length: 0.5, of: ta-long}, max_loss: 0.2, fallback: FALLBACK, probe: {data: train-set, n: 4,
    prompt: "{problem}", precision: float32, by: exact_match, sampling: {max_tokens: 12}}}}"""
MERGE = "{merge: {base: ta, models: [ta-long], method: dare_ties, density: 0.7, weight: 0.5, rescale: l1}}"


@pytest.mark.parametrize(("letters", "word"), [("cccw", "chosen"), ("cwww", "chosen (fallback)")])
def test_the_dial_shows_every_candidate_and_marks_the_chosen(world: World, letters: str, word: str) -> None:
    found = results(world, PLAIN.replace(MERGE, DIAL.replace("FALLBACK", "nearest")))
    dial = found.recipe.named("ta-mid")
    assert isinstance(dial, LengthDial)
    losses = {"cccw": 0.25, "cwww": 0.75}
    tried = [
        {"weight": weight, "density": 0.7, "lambda": 1.0, "tokens": tokens, "accuracy": 1 - loss, "share": tokens / 200,
         "share_low": tokens / 200 - 0.1, "share_high": tokens / 200 + 0.1, "loss": loss, "loss_low": loss - 0.2,
         "loss_high": loss + 0.2, "truncated": 0.1, "looped": 0.05}
        for weight, tokens, loss in ((0.2, 60.0, 1.0), (0.5, 100.0, losses[letters]), (0.8, 140.0, 0.75))
    ]  # fmt: skip
    searched = {"dial": tried, "reference": {"tokens": 200.0, "accuracy": 1.0}, "target": 0.5}
    put(found.store, dial.search, [], searched)
    assert [row[-1].text for row in table(found, "dial").rows] == ["", "", ""]  # tried, but nothing is chosen yet
    fields = {name: getattr(dial, name) for name in LengthDial.model_fields}
    lenient = dial if word == "chosen (fallback)" else LengthDial(**{**fields, "max_loss": 0.3})
    choice = lenient.next({lenient.search.digest: searched})
    assert not isinstance(choice, tuple)
    assert choice is not None
    seen = {"models": {"0": {"norm": 12.5, "kept": 0.7, "layers": {}}}, "cosines": [], "sign_conflicts": None}
    found.store.link(dial, put(found.store, choice.spec, [], seen), choice.why, choice.facts)
    shown = table(found, "dial")
    loss = {"cccw": ["75.0", "+25.0", "[+5.0, +45.0]"], "cwww": ["25.0", "+75.0", "[+55.0, +95.0]"]}[letters]
    assert texts(shown, "0.5") == ["0.5", "100.0", "50.0", "[40.0, 60.0]", *loss, "10.0", "5.0", word]
    assert [row[0].text for row in shown.rows if row[0].bold] == ["0.5"]
    assert ("No candidate kept within the loss" in shown.caption) == (word != "chosen")
    assert texts(table(found, "task_vectors"), "ta-mid") == ["ta-mid", "ta-long", "12.5", "70.0", "–", "–"]


def test_the_funnel_counts_every_drop(world: World) -> None:
    found = results(world, PLAIN)
    data, arm = found.recipe.named("long-cot"), found.recipe.named("strong")
    assert isinstance(data, Select)
    put(found.store, data.completions.problems, [], {"problems": 10, "duplicates": 1, "conflicting": 0})
    dropped = {"wrong": 3, "truncated": 2, "duplicate": 1}
    put(found.store, data, [], {"answers": 10, "kept": 4, "mean_tokens": 12.5, "dropped": dropped})
    trained = {"examples": 3, "dropped": {"too_long": 1}, "steps": 6, "target_tokens": 40, "final_loss": 0.5}
    put(found.store, arm, [], trained | {"learnt_tokens": 240})
    shown = table(found, "funnel")
    assert shown.head[2:] == (
        *("Problems", "Answers", "truncated", "wrong", "duplicate", "Kept", "Yield", "Mean tokens kept"),
    )
    assert texts(shown, "long-cot") == ["long-cot", "teacher", "10", "10", "2", "3", "1", "4", "40.0", "12.5"]
    assert texts(shown, "half-cot")[2:] == ["10", *["–"] * 7]
    assert texts(table(found, "trainings"), "strong")[3:] == ["3", "1", "6", "4", "40", "240", "0.500"]
    assert texts(table(found, "problems"), "train-set")[2:] == ["10", "1", "0", "–"]


def test_cost_names_what_was_linked_and_reused(world: World) -> None:
    found = results(world, PLAIN)
    data = found.recipe.named("long-cot")
    assert isinstance(data, Select)
    facts = {"rows": 8, "generated": 6, "reused": 2, "tokens": 400, "mean_tokens": 50.0, "truncated": 0}
    put(found.store, data.completions, [], facts)
    trained = {"examples": 1, "dropped": {}, "steps": 2, "target_tokens": 50, "learnt_tokens": 100, "final_loss": 0.1}
    one = put(found.store, found.recipe.named("strong"), [], trained)
    found.store.link(found.recipe.named("half"), one, "same fields and same input contents")
    totals = table(found, "cost")
    assert texts(totals, "generate")[2:] == ["1", "0", "10", "2.0", "300"]
    assert texts(totals, "train")[1:] == ["4", "1", "1", "2", "2.0", "100"]
    assert texts(totals, "all")[-2:] == ["4.0", "–"]
    notes = {(row[0].text, row[1].text): row[-1].text for row in table(found, "stages").rows}
    assert notes["long-cot", "generate"] == "2 of 8 answers reused"
    assert notes["half", "train"].startswith(f"linked to train-{one.digest}: same fields")


def test_a_recipe_without_arms_or_without_anything_made_has_a_report(world: World) -> None:
    found = results(world, "name: small\n" + LET)
    assert [one.title for one in tables.sections(found)] == [tables.MERGING, tables.FUNNEL]
    assert tables.sections(results(world, "name: small\nlet: {student: ./models/student}\n")) == ()
    found = results(world, PLAIN + BPC)
    sections = tables.sections(found)
    assert tables.COST not in [one.title for one in sections]
    rows = [row for one in sections for item in one.items if isinstance(item, Table) for row in item.rows]
    assert rows
    assert {one.verdict for one in claims.claims(found)} == {"missing"}


def test_every_row_has_a_cell_for_each_column(world: World) -> None:
    found = results(world, SEEDED + BPC)
    grade(found, {one.model: "ccwt" for one in found.recipe.evaluations})
    for one in tables.sections(found):
        for item in one.items:
            if isinstance(item, Table):
                assert {len(row) for row in item.rows} <= {1, len(item.head)}, item.key
                assert len(set(item.head)) == len(item.head), item.key


def test_a_real_run_has_reflection_words_and_costs(world: World) -> None:
    """The same tables from manifests that stages wrote, not this file."""
    answers = '{"problem": "*", "text": "Wait, hmm: \\\\boxed{1} Wait"}\n'
    (world.folder / "answers.jsonl").write_text((world.folder / "answers.jsonl").read_text() + answers)
    world.recipe_file.write_text(with_roles(world.recipe_file.read_text()))
    world.run()
    found = results(world)
    assert [one.title for one in tables.sections(found)] == [
        *(
            tables.CLAIMS,
            tables.MAIN,
            tables.GAINS,
            tables.ABLATION,
            tables.CASE,
            tables.MERGING,
            tables.FUNNEL,
            tables.COST,
        )
    ]
    assert texts(table(found, "reflections"), "MiCoTA") == ["MiCoTA", "0.00 ± 0.00"]
    assert int(texts(table(found, "cost"), "all")[2]) > 10
    assert texts(table(found, "funnel"), "long-cot")[2:4] == ["8", "8"]


def test_reflection_words_are_whole_words_in_any_case() -> None:
    text = "Wait, awaiting. HMMM hm redo redone; However, let me recheck re-check"
    assert [text[start:end] for start, end in places(text)] == [
        *("Wait", "HMMM", "redo", "However, let me", "recheck", "re-check")
    ]
    assert len(places("wait " * 200_000)) == 200_000
    assert places("hm" * 1_000_000 + "h" + "m" * 1_000_000 + "x") == ()


def test_headings_stand_only_where_there_are_groups() -> None:
    row = (Cell("a"), Cell("b"))
    assert grouped([("", [row])]) == (row,)
    assert grouped([("7B", [row]), ("", [row])]) == ((Cell("7B"),), row, (Cell("For all"),), row)
