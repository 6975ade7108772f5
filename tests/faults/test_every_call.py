"""A crash at every statement of a study's life: the next worker ends it as if nothing had been.

The study has four trials, all queued: among them one that pauses, one that is continued and one
that fails. What may differ are the trials that a dead worker left and their numbers.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import Engine, event, exc

from optuna_deepweeds import trials as chains
from optuna_deepweeds.attributes import CHECKPOINT, FAILURE
from optuna_deepweeds.bench.storage import run_worker
from optuna_deepweeds.errors import StorageError
from optuna_deepweeds.files import write_whole
from optuna_deepweeds.priors import PriorTrial
from optuna_deepweeds.studies import manager
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.tasks import Run, run
from tests.faults.training import Recorded, retraining

_RENAME = "RENAME"
# Every so many-th call fails in the default run.
_STRIDE = 71
# Not one that passes by itself, so that the worker ends.
_ERROR = sqlite3.OperationalError("disk I/O error")

_SPEC = StudySpec(
    dataset="demo", space="course-small", sampler="random", pruner="dora", epochs=4, thaw=True
)
_RATES = (0.002, 0.04, 0.01, 0.03)
_FAILING = 0.01
_OTHERS = {
    "n_conv_layers": 1, "use_BN": True, "global_avg_pooling": True, "n_channels_conv_0": 32,
    "n_fc_layers": 1, "n_channels_fc_0": 64, "batch_size": 128,
}  # fmt: skip


def _objective(trial: optuna.Trial, run: Run) -> float:
    curve = json.loads(run.checkpoint.read_text()) if run.checkpoint.exists() else []
    run.catch_up(curve)
    rate = run.config["learning_rate_init"]
    for epoch in range(len(curve) + 1, run.epochs + 1):
        if rate == _FAILING:
            raise ZeroDivisionError("it cannot be trained")
        curve.append(rate * epoch)
        run.report(curve[-1], epoch, save=lambda path: write_whole(path, json.dumps(curve)))
    return float(curve[-1])


def _live(url: str) -> None:
    """What `study run --priors` does, and again when it is called again."""
    study, _ = manager.create("s", _SPEC, Budget(trials=4), open_storage(url))
    priors = [
        PriorTrial(
            {**_OTHERS, "learning_rate_init": rate},
            1 - i / 10,
            "maximize",
            "accuracy",
            "p",
            str(i),
        )
        for i, rate in enumerate(_RATES)
    ]
    manager.add_priors(study, priors, enqueue_best=4)
    run_worker(manager.equip(study), Recorded(_objective, _log(url)))


def _log(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///")).with_name("training.log")


def _end(url: str) -> dict[int, Any]:
    """What came of each training, by the number of the trial that it began with."""
    study = manager.load_plain("s", open_storage(url))
    trials = study.get_trials(deepcopy=False)
    state = progress(trials, study.direction)
    assert (state.running, state.waiting) == (0, 0)
    left = chains.replaced(trials)
    ends: dict[Any, Any] = {"epochs": state.epochs, "finished": state.finished}
    for t in trials:
        if t.number not in left:
            assert chains.root(t) not in ends, "each training ends once"
            ends[chains.root(t)] = (
                t.state, t.values, t.params, t.intermediate_values, t.user_attrs.get(FAILURE),
                t.user_attrs.get(CHECKPOINT),
            )  # fmt: skip
    return ends


@contextmanager
def _calls(at: Callable[[int], None] = lambda n: None) -> Iterator[list[str]]:
    """Every statement, commit and renamed file of this process, and `at` is told the number of
    each before."""
    made: list[str] = []
    replace = os.replace

    def call(what: str) -> None:
        made.append(what)
        at(len(made))

    def statement(connection: Any, cursor: Any, text: str, *others: object) -> None:
        call(text)

    def commit(connection: Any) -> None:
        call("COMMIT")

    def rename(file: Any, to: Any) -> None:
        call(_RENAME)
        replace(file, to)

    os.replace = rename
    event.listen(Engine, "before_cursor_execute", statement)
    event.listen(Engine, "commit", commit)
    try:
        yield made
    finally:
        os.replace = replace
        event.remove(Engine, "before_cursor_execute", statement)
        event.remove(Engine, "commit", commit)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[Any, Any], list[str]]:
    """How the study ends without any crash, and its calls."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with _calls() as made:
        _live(f"sqlite:///{folder}/s.db")
    return _end(f"sqlite:///{folder}/s.db"), made


@pytest.fixture(autouse=True)
def _save_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CHECKPOINT_SECONDS", 0.0)


def test_the_study_pauses_continues_and_fails(undisturbed: tuple[dict[Any, Any], Any]) -> None:
    ends, _ = undisturbed
    assert [ends[i][0] for i in range(4)] == [
        TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED,
    ]  # fmt: skip
    assert (ends["epochs"], ends["finished"]) == (9, 4)


def _ends_as_undisturbed(
    url: str, undisturbed: tuple[dict[Any, Any], list[str]], n: int, crash: Callable[[int], None]
) -> list[str]:
    """Crash before the call `n` of a life, live again, and tell what is not as it should be."""
    ends, calls = undisturbed
    path = Path(url.removeprefix("sqlite:///"))
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    crash(n)
    with contextlib.suppress(sqlite3.OperationalError), sqlite3.connect(path) as file:
        file.execute("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    _live(url)
    found = _end(url)
    return retraining(_log(url)).problems + [
        f"call {n}, {calls[n - 1][:60]}: {key} ends as {found.get(key)}, not {ends.get(key)}"
        for key in {*ends, *found}
        if found.get(key) != ends.get(key)
    ]


@pytest.mark.parametrize("stride", [_STRIDE, pytest.param(1, marks=pytest.mark.slow)])
def test_a_call_that_fails_changes_nothing(
    tmp_path: Path, undisturbed: tuple[dict[Any, Any], list[str]], stride: int
) -> None:
    url = f"sqlite:///{tmp_path}/life/s.db"

    def crash(n: int) -> None:
        def fail(i: int) -> None:
            if i == n and made[i - 1] != _RENAME:
                raise exc.OperationalError("", {}, _ERROR)

        with _calls(fail) as made:
            try:
                _live(url)
            except StorageError as error:
                assert "disk I/O error" in str(error)
            else:  # A file may also be used without; another life may rename one here.
                assert "journal_mode" in made[n - 1] or made[n - 1] == _RENAME

    wrong: list[str] = []
    for n, call in list(enumerate(undisturbed[1], 1))[::stride]:
        if call != _RENAME:  # A file that cannot be renamed is no fault of the storage.
            wrong += _ends_as_undisturbed(url, undisturbed, n, crash)
    assert wrong == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # From Python 3.12 on.
def test_a_kill_changes_nothing(
    tmp_path: Path, undisturbed: tuple[dict[Any, Any], list[str]]
) -> None:
    url = f"sqlite:///{tmp_path}/life/s.db"

    def crash(n: int) -> None:
        def kill(i: int) -> None:
            if i == n:
                os.kill(os.getpid(), signal.SIGKILL)

        child = os.fork()
        if child == 0:
            with _calls(kill):
                _live(url)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL

    # What a kill leaves is what was committed and renamed before it.
    wrong, calls = list[str](), undisturbed[1]
    for n, call in enumerate(calls, 1):
        if {call, calls[n - 2]} & {"COMMIT", _RENAME}:
            wrong += _ends_as_undisturbed(url, undisturbed, n, crash)
    assert wrong == []
