"""Identity: what a digest covers, what it leaves out, and a frozen record of every kind so that nothing drifts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from micota.errors import MicotaError
from micota.specs import (
    KINDS,
    Choice,
    Generate,
    Merge,
    Problems,
    Prompt,
    Sampling,
    Select,
    Source,
    Spec,
    Train,
    Verify,
    from_json,
    to_json,
    walk,
)

FROZEN = Path(__file__).parent / "data" / "specs.json"
MODEL = Source(ref="some/model", revision="abc")
SET = Problems(source=Source(ref="some/data", revision="def"))


def data(**generate: Any) -> Select:
    answers = Generate(model=MODEL, problems=SET, **generate)
    return Select(completions=answers, verdicts=Verify(problems=SET, completions=answers))


def kinds_now() -> dict[str, Any]:
    """Each kind with its version, its fields and their defaults: what the digests are taken over."""
    return {
        kind: {
            "version": cls.VERSION,
            "fields": {
                name: "required" if info.is_required() else repr(info.default)
                for name, info in sorted(cls.model_fields.items())
            },
        }
        for kind, cls in sorted(KINDS.items())
    }


def test_kinds_are_as_frozen() -> None:
    """A change here gives artifacts another identity: bump VERSION where the meaning changed, then freeze anew.

    To freeze: python -c "import test_specs as t; t.FROZEN.write_text(t.text())" in this folder.
    """
    assert json.loads(FROZEN.read_text()) == kinds_now()


def text() -> str:
    return json.dumps(kinds_now(), indent=1, sort_keys=True) + "\n"


def test_the_digest_of_a_known_spec_never_changes() -> None:
    spec = Train(base=MODEL, data=data(), lr=1e-5, seed=3)
    assert spec.digest == "e7c698eaaabe5139"


def test_equal_specs_are_one_and_defaults_may_be_written_out() -> None:
    assert Train(base=MODEL, data=data()).digest == Train(base=MODEL, data=data(), epochs=2.0, seed=0).digest
    assert Train(base=MODEL, data=data(), epochs=3).digest == Train(base=MODEL, data=data(), epochs=3.0).digest
    assert Train(base=MODEL, data=data(), seed=1).digest != Train(base=MODEL, data=data()).digest


def test_greedy_sampling_ignores_what_only_drawing_needs() -> None:
    assert data(sampling=Sampling(seed=3, top_p=0.5)).digest == data().digest
    assert data(sampling=Sampling(temperature=1.0, seed=3)).digest != data(sampling=Sampling(temperature=1.0)).digest


def test_the_pool_is_shared_by_any_n_and_any_set_of_problems() -> None:
    warm = Sampling(temperature=1.0)
    one = Generate(model=MODEL, problems=SET, sampling=warm)
    four = Generate(model=MODEL, problems=Problems(source=MODEL), sampling=warm, n=4)
    assert one.pool("weights") == four.pool("weights")
    assert one.pool("weights") != one.pool("other weights")
    assert one.pool("weights") != Generate(model=MODEL, problems=SET, sampling=warm, precision="float32").pool(
        "weights"
    )
    assert one.pool("weights") != Generate(model=MODEL, problems=SET, sampling=warm, prompt=Prompt(system="s")).pool(
        "weights"
    )


def test_a_local_source_is_its_content_wherever_it_lies() -> None:
    assert Source(ref="./a", path="/x/a", revision="h").digest == Source(ref="./b", path="/y/b", revision="h").digest
    assert Source(ref="./a", path="/x/a", revision="h").digest != Source(ref="./a", path="/x/a", revision="i").digest


def test_the_version_of_a_kind_and_of_its_grader_is_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Train(base=MODEL, data=data()).digest
    monkeypatch.setattr(Verify, "VERSION", 99)
    assert Train(base=MODEL, data=data()).digest != before
    semantic, exact = (
        Verify(problems=SET, completions=data().completions, by=by) for by in ("semantic", "exact_match")
    )
    assert semantic.digest != exact.digest


def test_a_value_without_a_stable_form_is_refused_by_name() -> None:
    with pytest.raises(MicotaError, match="'lr' has no stable form: inf"):
        _ = Train(base=MODEL, data=data(), lr=float("inf")).digest


def test_a_spec_comes_back_from_json_as_it_was() -> None:
    merged = Merge(
        base=MODEL,
        models=(Train(base=MODEL, data=data()),),
        method="dare_ties",
        weights=(0.5,),
        rescale="l1",
        lambda_=0.9,
    )
    back = from_json(json.loads(json.dumps(to_json(merged), sort_keys=True)))
    assert back == merged
    assert back.digest == merged.digest


def test_walk_gives_each_spec_once_and_children_first() -> None:
    spec = Train(base=MODEL, data=data())
    order = [one.digest for one in walk(spec, data())]
    assert len(order) == len(set(order))
    for one in walk(spec):
        assert all(order.index(child.digest) < order.index(one.digest) for child in one.children)


def test_a_plain_spec_is_no_search() -> None:
    assert Train(base=MODEL, data=data()).next({}) is None
    assert Choice(MODEL, "because").facts == {}
    assert issubclass(Train, Spec)


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64])
def test_a_seed_that_a_trainer_cannot_take_is_refused_with_the_spec(seed: int) -> None:
    with pytest.raises(ValueError, match="seed"):
        Train(base=MODEL, data=data(), seed=seed)
    assert Train(base=MODEL, data=data(), seed=2**32 - 1).seed == 2**32 - 1
