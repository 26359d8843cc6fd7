"""The lab's designs: the size of each model and what it is trained on, as specs with seed 0.

A model first learns its world in workings of every length, because merging meets a barrier between models whose common
base does not know both styles. Then it is tuned lightly to one style: a teacher to the long one, the others to the
terse one. A student never sees a document longer than its window, so the teacher's chains of 200 tokens and more are
longer than anything it knows.
"""

from typing import Any

from micota.specs import Phase, Pretrain, Shape

SHIPPED = ("teacher", "ta-base", "ta", "student")
"""The designs whose models lie in `lab/models`, pre-trained with seed 0 by the recipe `lab-models`."""


def _phase(style: str, steps: int, lr: float, batch: int = 64, shortest: int = 1, **rule: float) -> Phase:
    fields = {"style": style, "steps": steps, "lr": lr, "batch": batch, "shortest": shortest}
    return Phase.model_validate({**fields, **rule})


DESIGNS: dict[str, Pretrain] = {
    "teacher": Pretrain(
        shape=Shape(width=128, layers=3, heads=4, feedforward=320),
        phases=(_phase("basics", 500, 2e-3), _phase("mixed", 300, 1.5e-3), _phase("long", 900, 1e-3, 32, 2)),
    ),
    "ta": Pretrain(
        shape=Shape(width=96, layers=3, heads=3, feedforward=256),
        phases=(
            _phase("basics", 1500, 2e-3),
            _phase("mixed", 1000, 1.5e-3),
            _phase("mixed", 1000, 1e-3),
            _phase("instruct", 60, 3e-4, 32, 3),
        ),
    ),
    "student": Pretrain(
        shape=Shape(width=64, layers=2, heads=2, feedforward=128),
        phases=(
            _phase("basics", 1400, 3e-3),
            _phase("mixed", 1200, 2e-3, 64, 2),
            _phase("mixed", 400, 1e-3, 64, 2),
            _phase("terse", 150, 1e-3, 32, 3),
        ),
        window=128,
    ),
}
DESIGNS["steady"] = Pretrain(
    shape=DESIGNS["student"].shape,
    phases=(
        _phase("basics", 1800, 3e-3, 32),
        _phase("mixed", 3000, 2e-3, 32, 2, until=0.4),
        _phase("mixed", 200, 1e-3, 32, 2),
        _phase("terse", 800, 1e-3, 32, 3, until=0.45, every=10),
    ),
    window=128,
)
HARD_BASE = (_phase("mixed", 1200, 2e-3), _phase("mixed", 400, 1e-3), _phase("mixed", 1500, 1.5e-3))
DESIGNS["teacher-hard"] = Pretrain(
    world="arithmetic-hard",
    shape=DESIGNS["ta"].shape,
    phases=(*HARD_BASE, _phase("long", 150, 5e-4, 32, 2)),
)
DESIGNS["ta-hard"] = Pretrain(
    world="arithmetic-hard",
    shape=DESIGNS["ta"].shape,
    phases=(*HARD_BASE, _phase("instruct", 30, 3e-4, 32, 2)),
)
DESIGNS["student-hard"] = Pretrain(
    world="arithmetic-hard",
    shape=DESIGNS["student"].shape,
    phases=(_phase("basics", 2000, 3e-3), _phase("mixed", 3000, 2e-3), _phase("terse", 200, 1e-3, 32, 2)),
    window=160,
)


def design(name: str, **changes: Any) -> Pretrain:
    """A design with some of its fields changed; a base takes the place of the shape."""
    return Pretrain(**fields(name, **changes))


def fields(name: str, **changes: Any) -> dict[str, Any]:
    """The fields of a design, some of them changed: what `like` stands for in a recipe."""
    values = {field: getattr(DESIGNS[name], field) for field in Pretrain.model_fields}
    if changes.get("base"):
        del values["shape"]
    return {**values, **changes}


DESIGNS["ta-base"] = design("ta", phases=DESIGNS["ta"].phases[:-1])
DESIGNS["ta-base-hard"] = design("ta-hard", phases=DESIGNS["ta-hard"].phases[:-1])
