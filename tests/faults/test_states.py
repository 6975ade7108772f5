"""What may happen to a study in any order: hypothesis looks for an order that loses something.

The workers are real ones on a real storage; what they did is kept in books of their own, which
the study must agree with.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import NotFoundError
from optuna_deepweeds.priors import PriorTrial
from optuna_deepweeds.studies import manager, resume, worker
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.copy import fork_study
from optuna_deepweeds.studies.ending import Ending, reached
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import ResilientStorage, open_storage
from optuna_deepweeds.studies.storage.locks import run_locked
from optuna_deepweeds.tasks import run
from optuna_deepweeds.tasks.run import training_seed
from optuna_deepweeds.trials import before, replaced, root, was_interrupted
from tests.faults.puppets import Books, Clock, Killed, Puppet, value_of

N_WORKERS = 4
_EPOCHS = 3
_MOST_FORKS, _MOST_IMPORTS = 1, 2  # Each costs as much as many steps.
_LONGEST_END = 400  # Steps until every study has ended.
_PARAMS = {
    "n_conv_layers": 1, "use_BN": True, "global_avg_pooling": True, "n_channels_conv_0": 32,
    "n_fc_layers": 1, "n_channels_fc_0": 64, "batch_size": 128,
}  # fmt: skip

_clock = Clock()
_storages: list[ResilientStorage] = []
_files: list[sqlite3.Connection] = []  # The same file, without a storage.
_names = (f"study-{i}" for i in itertools.count())
_workers = st.integers(0, N_WORKERS - 1)


@pytest.fixture
def storages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One for each worker and one for the test, of one file."""
    _storages[:] = [open_storage(f"sqlite:///{tmp_path}/s.db") for _ in range(N_WORKERS + 1)]
    _files[:] = [sqlite3.connect(tmp_path / "s.db", isolation_level=None)]
    monkeypatch.setattr(run, "time", _clock)
    monkeypatch.setattr(worker, "POLL_SECONDS", 0.0)
    yield
    _files.pop().close()
    _storages.clear()


class Studies(RuleBasedStateMachine):
    """One study, its workers and what is done to it."""

    @initialize(
        pruner=st.sampled_from(["none", "asha", "dora"]),
        trials=st.none() | st.integers(1, 3),
        epochs=st.integers(2, 7),
        n_workers=st.integers(2, N_WORKERS),
    )
    def create(self, pruner: str, trials: int | None, epochs: int, n_workers: int) -> None:
        self.budget = Budget(trials=trials, epochs=None if trials else epochs)
        spec = StudySpec(
            dataset="demo", space="course-small", sampler="random", pruner=pruner,
            epochs=_EPOCHS, thaw=pruner == "dora",
        )  # fmt: skip
        self.study, _ = manager.create(next(_names), spec, self.budget, _storages[-1])
        self.books = Books()
        self.puppets: list[Puppet | None] = [None] * n_workers
        self.given_away: dict[int, FrozenTrial] = {}
        self.is_deleted = False
        self.folder = manager.study_checkpoints(self.study)
        self.equipped: dict[int, optuna.Study] = {}
        self.n_forks = self.n_imports = 0
        self.seen = -1

    # Workers.

    @rule(i=_workers, order=st.sampled_from(["train", "train", "long", "fail"]))
    def step(self, i: int, order: str) -> None:
        """One starts, claims, trains an epoch, or settles what it had."""
        i %= len(self.puppets)
        puppet = self.puppets[i]
        if puppet is None:
            if not self.is_deleted:
                if i not in self.equipped:
                    study = manager.load_plain(self.study.study_name, _storages[i])
                    self.equipped[i] = manager.equip(study)
                self.puppets[i] = Puppet(self.equipped[i], self.books, _clock)
        elif not puppet.asleep:
            puppet.step(order)
            self._look_at(i)

    @rule(i=_workers, order=st.sampled_from(["killed", "before saving", "before telling"]))
    def kill(self, i: int, order: str) -> None:
        puppet = self.puppets[i % len(self.puppets)]
        if puppet is not None and not puppet.asleep:
            puppet.step(order)
            if isinstance(puppet.ending, Killed):
                self._miss(puppet)
            self._look_at(i % len(self.puppets))

    @rule(i=_workers)
    def lose(self, i: int) -> None:
        """It is stopped, and its heart beats no more."""
        puppet = self.puppets[i % len(self.puppets)]
        if puppet is not None and puppet.trial is not None:
            puppet.asleep = True
            self._miss(puppet)

    @rule(i=_workers)
    def wake(self, i: int) -> None:
        puppet = self.puppets[i % len(self.puppets)]
        if puppet is not None:
            puppet.asleep = False

    @precondition(lambda self: not self.is_deleted)
    @rule(i=_workers, j=_workers, n=st.integers(0, 6), order=st.sampled_from(["train", "long"]))
    def nap(self, i: int, j: int, n: int, order: str) -> None:
        """It is stopped for so long that another one takes what it had."""
        self.step(i, "long")
        self.step(i, "long")
        self.lose(i)
        self.reap()
        for _ in range(n):
            self.step(j, order)
            self.all_is_well()
        self.wake(i)
        self.step(i, "long")

    @rule(i=_workers)
    def beat(self, i: int) -> None:
        puppet = self.puppets[i % len(self.puppets)]
        if puppet is None or puppet.asleep or puppet.trial is None or self.is_deleted:
            return
        backend = puppet.study._storage._backend  # type: ignore[attr-defined]
        if puppet.is_given_away():
            with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
                backend.beat(puppet.trial._trial_id)
        else:
            backend.beat(puppet.trial._trial_id)

    @rule(i=_workers)
    def interrupt(self, i: int) -> None:
        """It is told to put back what it has and to leave."""
        puppet = self.puppets[i % len(self.puppets)]
        if puppet is not None:
            puppet.stop_asked = True

    # What is done to the study.

    @precondition(lambda self: not self.is_deleted)
    @rule(trials=st.integers(0, 1), epochs=st.integers(0, 3))
    def resume(self, trials: int, epochs: int) -> None:
        if self.budget.trials is not None:
            self.budget = Budget(trials=self.budget.trials + trials)
        else:
            self.budget = Budget(epochs=(self.budget.epochs or 0) + epochs)
        manager.set_budget(self.study, self.budget)

    @precondition(lambda self: not self.is_deleted)
    @rule()
    def stop(self) -> None:
        self.study.set_user_attr(attributes.STOP, "2026-01-01T00:00:00+00:00")

    @precondition(lambda self: not self.is_deleted and self.n_imports < _MOST_IMPORTS)
    @rule(first=st.integers(0, 2), n=st.integers(1, 2))
    def import_priors(self, first: int, n: int) -> None:
        self.n_imports += 1
        self.equipped.clear()
        rows = [
            PriorTrial(
                _PARAMS | {"learning_rate_init": 0.01 * (1 + first + i)}, 0.5 + 0.1 * i,
                "maximize", "accuracy", "runs", str(i),
            )
            for i in range(n)
        ]  # fmt: skip
        manager.add_priors(self.study, rows, enqueue_best=n)

    @precondition(lambda self: not self.is_deleted)
    @rule()
    def reap(self) -> None:
        run_locked(
            self.study._storage, self.study._study_id,
            lambda: resume.requeue_dead_trials(self.study, self.folder),
        )  # fmt: skip

    @precondition(lambda self: not self.is_deleted and self.n_forks < _MOST_FORKS)
    @rule()
    def fork(self) -> None:
        self.n_forks += 1
        files = sorted(self.folder.folder.glob("*.pt"))
        copy = fork_study(self.study, next(_names))
        copied = manager.study_checkpoints(copy)
        for ours, theirs in zip(self._trials(), copy.get_trials(), strict=True):
            # Nobody works on the copy of a trial under way.
            is_running = ours.state == TrialState.RUNNING
            assert theirs.state == (TrialState.WAITING if is_running else ours.state)
            for fact in ("values", "params", "intermediate_values"):
                assert getattr(theirs, fact) == getattr(ours, fact)
            assert self.folder.exists(ours) == copied.exists(theirs)
        copied.delete()
        _storages[-1].delete_study(copy._study_id)
        assert sorted(self.folder.folder.glob("*.pt")) == files

    @precondition(lambda self: not self.is_deleted and any(self.puppets))
    @rule(certain=st.integers(0, 9))
    def delete(self, certain: int) -> None:
        if certain == 0:
            self.is_deleted = True
            _storages[-1].delete_study(self.study._study_id)

    # What must hold.

    @invariant()
    def all_is_well(self) -> None:
        assert self.books.problems == []
        version = _files[0].execute("PRAGMA data_version").fetchone()[0]
        if self.is_deleted or version == self.seen:
            return
        self.seen = version
        for first, epoch in self.books.saved.items():
            if (file := self.folder.path(first)).exists():
                assert len(json.loads(file.read_text())) >= epoch, "an older checkpoint came back"
        trials = self._trials()
        state, budget = progress(trials, self.study.direction), self.budget
        assert [t.number for t in trials] == list(range(len(trials)))
        assert budget.trials is None or state.finished + state.running <= budget.trials
        assert budget.epochs is None or state.epochs <= budget.epochs
        stored = {(t.number, s) for t in trials for s in t.intermediate_values}
        assert self.books.reports <= stored
        inherited = stored - self.books.reports
        for t in trials:
            seed = training_seed(0, root(t))
            assert t.intermediate_values == {s: value_of(seed, s) for s in t.intermediate_values}
            links = [u.number for u in trials if t.number in before(u)]
            assert len(links) <= 1, "one successor at most"
            own = {s for n, s in inherited if n == t.number}
            earlier = [trials[n].intermediate_values.keys() for n in before(t)]
            assert own <= set().union(*earlier), "what nobody trained is inherited"
        assert state.epochs == len(self.books.reports)
        gone_on = replaced(trials)
        ends = [root(t) for t in trials if t.state.is_finished() and t.number not in gone_on]
        assert len(ends) == len(set(ends)), "each training ends once"
        for number, then in self.given_away.items():
            assert trials[number] == then, "a trial that was given away has changed"

    def teardown(self) -> None:
        if not hasattr(self, "study"):
            return
        try:
            self._end()
        finally:
            for puppet in self.puppets:
                if puppet is not None and puppet.ending is None:
                    puppet.step("killed")
            self.folder.delete()
            found = _files[0].execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in found.fetchall():
                if table.startswith(("stud", "trial")):
                    _files[0].execute(f"DELETE FROM {table}")

    def _end(self) -> None:
        """Every study ends, whatever was done to it."""
        if not self.is_deleted:
            self.resume(0, 0)
        for n in range(_LONGEST_END):
            i = n % len(self.puppets)
            self.wake(i)
            if self.puppets[i] is None and (self.is_deleted or self._is_over()):
                if not any(self.puppets):
                    break
                continue
            self.step(i, "train")
            self.all_is_well()
        else:
            raise AssertionError("the study does not end")
        if not self.is_deleted:
            trials = self._trials()
            assert TrialState.RUNNING not in {t.state for t in trials}
            left = {t.number for t in trials if was_interrupted(t)}
            assert left <= replaced(trials), "what dead workers left is run again"

    def _is_over(self) -> bool:
        trials = self._trials()
        state = progress(trials, self.study.direction)
        return reached(self.budget, state) is not None and not state.running

    def _look_at(self, i: int) -> None:
        """Forget a worker that has left, for a reason that may be."""
        puppet = self.puppets[i]
        assert puppet is not None
        if puppet.ending is None:
            return
        self.puppets[i] = None
        allowed: tuple[Any, ...] = (Ending, Killed)
        if self.is_deleted:
            allowed += (NotFoundError,)
        if not isinstance(puppet.ending, allowed):
            raise AssertionError("a worker died") from puppet.ending  # type: ignore[arg-type]

    def _miss(self, puppet: Puppet) -> None:
        """Its last heartbeat was long ago."""
        if puppet.trial is None:
            return
        _files[0].execute(
            "UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00' WHERE trial_id = ?",
            (puppet.trial._trial_id,),
        )

    def _trials(self) -> list[FrozenTrial]:
        trials = self.study.get_trials(deepcopy=False)
        for had in (puppet.trial for puppet in self.puppets if puppet is not None):
            if had is not None:
                now = trials[had.number]
                if now.state.is_finished() or now.datetime_start != had.datetime_start:
                    self.given_away.setdefault(had.number, now)
        return trials


# A sequence goes on to the study's end after its steps, and a nap alone has up to ten. So 5,000 of
# ten take a quarter of an hour; of forty they would take three times as long.
@pytest.mark.parametrize(
    ("examples", "steps"), [(200, 6), pytest.param(5000, 10, marks=pytest.mark.slow)]
)
def test_nothing_is_lost_in_any_order(storages: None, examples: int, steps: int) -> None:
    how = settings(
        max_examples=examples, stateful_step_count=steps, derandomize=examples < 5000,
        deadline=None, database=None, print_blob=True, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(Studies, settings=how)
