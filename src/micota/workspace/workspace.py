"""The front door: a store and a machine profile, joined. It plans what is missing, makes it, and hands back results.

The commands, the rehearsal and notebooks go through it: load, resolve, check, execute is written here, once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from micota import checks as lint
from micota import machine as machines
from micota.atomic import written_path
from micota.checks.machines import check_allocation, check_machine
from micota.checks.recipes import inspect
from micota.errors import MicotaError, Stopped, expected, of_system
from micota.machine import MachineProfile
from micota.recipe.labels import labels
from micota.recipe.merge_constructors import ModelLike, ProblemsLike
from micota.recipe.recipe import Recipe, Section
from micota.recipe.words import as_model
from micota.specs import Problems, Sampling, Source, Spec, Subset, walk
from micota.store.artifacts import Store
from micota.store.resolution import Lock, check_unchanged
from micota.workspace.artifact import Artifact
from micota.workspace.planning import Plan
from micota.workspace.signals import stopping

if TYPE_CHECKING:
    from rich.console import Console

    from micota.report.comparison import Comparison
    from micota.report.results import Results
    from micota.run.execution import Outcome
    from micota.workspace.progress import Bars
    from micota.workspace.ranking import Ranking

SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty", "max_tokens", "stop")
Data = ProblemsLike | Sequence[ProblemsLike] | Mapping[str, ProblemsLike]
Targets = Callable[[Recipe], list[Spec]]


class Workspace:
    """Where artifacts are kept, and the machine that makes them.

    >>> ws = Workspace("runs", machine="one-gpu")  # doctest: +SKIP
    >>> ws.plan(arms)  # nothing is made  # doctest: +SKIP
    >>> results = ws.evaluate(arms, ["math500", "gsm8k"], max_tokens=16_000)  # doctest: +SKIP

    `store` is a folder, made when the first artifact is; `machine` a shipped profile by its name, a YAML file, or a
    MachineProfile; `console` a rich Console, else one of this terminal or notebook. Ctrl-C stops at the next
    checkpoint, and the same call goes on from there. Several workspaces may live in one process.
    """

    def __init__(
        self,
        store: str | Path = "micota-store",
        machine: str | MachineProfile = "laptop",
        console: Console | None = None,
    ) -> None:
        profile = expected(machine, str | Path | MachineProfile, "a machine profile, its name or its file")
        self.machine = profile if isinstance(profile, MachineProfile) else machines.load(str(profile))
        self.store = Store(written_path(str(expected(store, str | Path, "a folder"))), self.machine)
        self._console = console
        warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's, in notebooks without ipywidgets

    @property
    def console(self) -> Console:
        """Where bars and lines go."""
        from micota.terminal import Terminal

        return self._console or Terminal()

    def plan(self, what: Recipe | Spec | Mapping[str, ModelLike], only: str | None = None) -> Plan:
        """What a run would find done, partial or new, with its cost; makes nothing and asks no network."""
        self.store.refresh()
        recipe = self._recipe(what)
        return Plan.of(recipe, self.store, self.machine, targets(only)(recipe))

    @overload
    def make(self, what: Spec) -> Artifact: ...
    @overload
    def make(self, what: Mapping[str, ModelLike]) -> dict[str, Artifact]: ...
    def make(self, what: Spec | Mapping[str, ModelLike]) -> Artifact | dict[str, Artifact]:
        """Make a spec, or several by their names, with what they need; files that were removed are made again."""
        recipe = self._recipe(what)
        recipe, _ = self.run(recipe, lambda one: [*one.names.values()], files=True)
        made = {name: self._artifact(spec) for name, spec in recipe.names.items()}
        return next(iter(made.values())) if isinstance(what, Spec) else made

    def evaluate(
        self,
        arms: Mapping[str, ModelLike] | Recipe,
        data: Data | None = None,
        *,
        name: str = "python",
        **settings: Any,
    ) -> Results:
        """Make the arms, let them answer the problem sets, grade the answers; plans, runs, resumes.

        `data` names benchmarks, files, or problem sets (a mapping gives them names); a Recipe has its own. `settings`
        are those of `evaluate` in a recipe (prompt, sampling, n, precision, by), or of sampling (max_tokens,
        temperature, top_p, top_k, stop), or `roles` and `baseline` as of a Recipe. `name` is the one that the store and
        the report use.
        """
        recipe = self._evaluation(arms, data, name, settings)
        recipe, _ = self.run(recipe)
        return self._results(recipe)

    def results(
        self, arms: Mapping[str, ModelLike] | Recipe, data: Data | None = None, *, name: str = "python", **settings: Any
    ) -> Results:
        """The same table of what is there already; makes nothing."""
        self.store.refresh()
        return self._results(self._locked(self._evaluation(arms, data, name, settings)))

    def compare(self, a: ModelLike, b: ModelLike, data: Data, scorer: str | None = None, **settings: Any) -> Comparison:
        """Evaluate two models and compare them, paired by problem: a minus b, with 95 % intervals."""
        return self.evaluate({"a": a, "b": b}, data, **settings).compare("a", "b", scorer)

    def rank(
        self,
        student: ModelLike | Recipe,
        data_sets: Mapping[str, Any] | None = None,
        *,
        probe: ProblemsLike | None = None,
        evaluate: Section | None = None,
        trials: bool = True,
        held_out: int = 50,
        make: bool = True,
        **training: Any,
    ) -> Ranking:
        """What can be known of data sets before a student is trained on them; plans, runs, resumes.

        `training` says how it would be trained (lr, epochs, ...). With `trials` it is, for a tenth of the length and
        without `held_out` examples of the data; with `probe`, problems that are not those of the evaluation, the
        trial answers them, asked as `evaluate` says. A Recipe says all of this itself: its trained arms are ranked.
        Without `make` the table has what is there.

        >>> ws.rank(student, {"long": long, "short": short}, lr=1e-5).frame  # doctest: +SKIP
        """
        from micota.workspace.ranking import Ranking, as_recipe

        recipe = student if isinstance(student, Recipe) and not data_sets else as_recipe(student, data_sets, training)
        found = Ranking.of(recipe, self.store, self.machine, probe, evaluate or {}, held_out if trials else None)
        every = found.recipe
        return found.resolved(self.run(every, lambda one: [*one.names.values()])[0] if make else self._locked(every))

    def artifact(self, what: Spec | str) -> Artifact:
        """A finished artifact: of a spec, by its id, or by the name that a recipe gave it (`lab/ta-long`)."""
        self.store.refresh()
        if isinstance(what, Spec):
            return self._artifact(self._resolved_spec(what))
        manifest = self.store.find(expected(what, str, "a spec, an id or a name", "ws.artifact('lab/ta-long')"))
        return Artifact(self.store, manifest)

    def forget(self, *what: Spec | str, answers: bool = False) -> list[str]:
        """Remove finished artifacts, with those that are linked to them; returns the ids of what was removed.

        With `answers`, also the completions that they refer to, which are paid for again when they are needed. What a
        running stage reads or makes stays.
        """
        from micota.housekeeping.forgetting import forgettable
        from micota.housekeeping.removal import remove

        found = forgettable(self.store, [self.artifact(one).manifest for one in what], answers)
        return [one.lock for one in found if remove(self.store, one)]

    def run(
        self, recipe: Recipe, wanted: Targets | None = None, files: bool = False, bars: Bars | None = None
    ) -> tuple[Recipe, Outcome]:
        """Make what is `wanted` of a recipe (its targets) and is not there; returns the recipe with its commits.

        With `files`, what is wanted is made again where its files were removed. Raises MicotaError before anything is
        made for what the checks find, Stopped after a request to stop, StageFailed after failures.
        """
        wanted = wanted or (lambda one: one.targets)
        self.store.refresh()
        try:
            recipe = self._checked(recipe, wanted)
        except KeyboardInterrupt:
            raise Stopped("stopped before anything was made; the same call begins again") from None
        specs = wanted(recipe)
        outcome = self.execute(recipe, specs, files, bars)
        self._warn(recipe, specs)
        return recipe, outcome

    def _checked(self, recipe: Recipe, wanted: Targets) -> Recipe:
        """The recipe with its commits, after the checks of what is wanted; the lock is written if they pass."""
        recipe = self._locked(recipe, wanted(recipe))
        specs = wanted(recipe)
        due = [spec for spec in walk(*specs) if not spec.made_elsewhere and not self.store.manifest(spec)]
        inputs = {child.digest: child for spec in due for child in spec.children}
        for source in inputs.values():  # each once: a large model takes long to hash
            if isinstance(source, Source):
                check_unchanged(source)
        findings = inspect(specs, self.store)[1]
        lint.raise_first(findings)
        for finding in findings:
            self.console.print(f"{finding.severity}: {finding.error()}", markup=False, highlight=False, soft_wrap=True)
        if recipe.lock is not None:
            recipe.lock.save()
        return recipe

    def execute(self, recipe: Recipe, specs: list[Spec], files: bool = False, bars: Bars | None = None) -> Outcome:
        """Run the stages with a bar for each; the recipe's names lead to what is done, also after a failure."""
        from micota.run import execution, on_ray
        from micota.workspace.notebook import bars as usual_bars

        for check in (check_machine, check_allocation, on_ray.check):
            check(self.machine, [spec for spec in walk(*specs) if not self.store.manifest(spec)])
        names = labels(recipe)
        with bars or usual_bars(self.console, names) as shown:
            full = {digest: f"{recipe.name}/{name}" for digest, name in names.items()}
            running = execution.Run(self.store, self.machine, shown, full)
            with stopping(running.stop):
                try:
                    return running.go(specs, files)
                finally:
                    self._name(recipe)

    def _name(self, recipe: Recipe) -> None:
        try:
            for name, spec in recipe.names.items():
                self.store.name(recipe.name, name, spec)
        except OSError as error:  # what the stages have to say is more important
            what = of_system(error, self.store.root)
            self.console.print(f"warning: no names lead to the artifacts: {what}", markup=False, soft_wrap=True)

    def _warn(self, recipe: Recipe, specs: Sequence[Spec]) -> None:
        """Say what finished artifacts do not show by themselves: a missed length, and data that is nearly empty."""
        names = labels(recipe)
        for spec in walk(*specs):
            manifest = self.store.manifest(spec)
            if manifest and (text := spec.warning(manifest.facts)):
                self.console.print(f"warning: {names.get(spec.digest, spec.id)}: {text}", markup=False, soft_wrap=True)

    def _recipe(self, what: Recipe | Spec | Mapping[str, ModelLike]) -> Recipe:
        if isinstance(what, Recipe):
            return what
        if isinstance(what, Spec):
            return Recipe({}, let={_word(what): what}, name="python")
        named = expected(what, Mapping, "a recipe, a spec, or a mapping of names to specs")
        specs = {name: value if isinstance(value, Spec) else as_model(value) for name, value in named.items()}
        return Recipe({}, let=specs, name="python")

    def _evaluation(
        self, arms: Mapping[str, ModelLike] | Recipe, data: Data | None, name: str, settings: Any
    ) -> Recipe:
        if isinstance(arms, Recipe):
            if data or settings:
                raise MicotaError("a recipe has its own evaluations", fix="leave out data and settings, or change it")
            return arms
        if isinstance(data, str | Path | Problems | Subset):
            data = [data]
        if not data:
            raise MicotaError("evaluate needs problem sets", fix='ws.evaluate(arms, ["math500", "gsm8k"])')
        sampling = {key: settings.pop(key) for key in SAMPLING if key in settings}
        if sampling:
            given = settings.get("sampling", {})
            settings["sampling"] = {**(given.stated if isinstance(given, Sampling) else given), **sampling}
        about = {key: settings.pop(key) for key in ("roles", "baseline") if key in settings}
        return Recipe(arms, evaluate={"data": data, **settings}, name=name, **about)

    def _results(self, recipe: Recipe) -> Results:
        from micota.report.results import Results

        return Results(recipe, self.store)

    def _locked(self, recipe: Recipe, targets: list[Spec] | None = None) -> Recipe:
        """The recipe with the commits of Hub ids: those of its own lock, else of the store's `hub.lock`.

        Without targets nothing is asked of the Hub: what the lock does not know stays as it is.
        """
        lock = recipe.lock or Lock(self.store.root / "hub.lock")
        return recipe.resolved(recipe.targets if targets is None else targets, lock, ask=targets is not None)

    def _resolved_spec(self, spec: Spec) -> Spec:
        return next(iter(self._locked(self._recipe(spec)).names.values()))

    def _artifact(self, spec: Spec) -> Artifact:
        if isinstance(spec, Source):
            return Artifact.made_elsewhere(self.store, spec)
        manifest = self.store.manifest(spec)
        if manifest is None:
            raise MicotaError(f"{spec.id} is not made yet", fix="Workspace.make(spec) makes it")
        return Artifact(self.store, manifest)


def _word(spec: Spec) -> str:
    """A word for a spec without a name: the model or data set that it begins with."""
    names = (Path(one.ref).name for one in walk(spec) if isinstance(one, Source))
    return f"{spec.kind}-{next(names, spec.kind)}-{spec.digest[:8]}"


def targets(only: str | None) -> Targets:
    """What the recipe wants, or one name of it."""
    return lambda recipe: [recipe.named(only)] if only else recipe.targets
