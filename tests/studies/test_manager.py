"""Creating, continuing and refusing studies; checkpoint folders; networks out of studies."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError, NotFoundError, SpecMismatchError
from optuna_deepweeds.pruners import DoraPruner
from optuna_deepweeds.samplers import RandomForestEISampler
from optuna_deepweeds.studies import informants, manager
from optuna_deepweeds.studies.checkpoints import CheckpointFolder
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage
from tests.studies.conftest import Bench


def test_a_study_is_opened_with_its_own_sampler_and_pruner(bench: Bench) -> None:
    bench.study(sampler="rf_ei", pruner="dora")
    study = manager.open_study("study", bench.url)
    assert isinstance(study.sampler, RandomForestEISampler)
    assert isinstance(study.pruner, DoraPruner)
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert study.metric_names == ["validation accuracy"]


def test_another_specification_is_refused_with_what_differs(bench: Bench) -> None:
    bench.study(seed=1, sampler="random")
    before = manager.open_study("study", bench.url).user_attrs
    with pytest.raises(SpecMismatchError, match="sampler is 'random', asked for 'tpe'.*seed is 1"):
        bench.study(seed=2, sampler="tpe")
    assert manager.open_study("study", bench.url).user_attrs == before


def test_an_empty_study_without_specification_is_taken_over_but_no_other_programs(
    bench: Bench,
) -> None:
    """As one whose creator died half-way."""
    storage = open_storage(bench.url)
    for name in ("empty", "theirs"):
        study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
    study.add_trial(optuna.create_trial(value=1.0))
    assert manager.study_spec(bench.study("empty", seed=5)).seed == 5
    with pytest.raises(SpecMismatchError, match="another program"):
        bench.study("theirs")


def test_an_unknown_study_is_answered_with_the_names_there_are(bench: Bench) -> None:
    bench.study("alpha")
    with pytest.raises(NotFoundError, match="no study 'alhpa'. Did you mean 'alpha'"):
        manager.open_study("alhpa", bench.url)
    with pytest.raises(NotFoundError, match="Studies there: alpha"):
        manager.open_study("zzz", bench.url)


def test_limits_given_anew_replace_the_old_ones(bench: Bench) -> None:
    study = bench.study(trials=3)
    assert manager.set_budget(study, Budget(seconds=5)) == Budget(trials=3, seconds=5)
    assert manager.study_budget(bench.study(trials=7)) == Budget(trials=7, seconds=5)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201])
def test_unusable_names_are_refused(bench: Bench, name: str) -> None:
    with pytest.raises(InvalidInputError, match="1 to 200 printable"):
        bench.study(name)


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "/tmp/x", "a/b", "c:\\d", "ü"])
def test_a_name_never_leads_out_of_the_checkpoint_folder(
    tmp_path: Path, bench: Bench, name: str
) -> None:
    folder = CheckpointFolder(tmp_path, bench.study(name)).folder
    assert folder.parent == tmp_path


def test_checkpoints_belong_to_the_study_whatever_it_is_called(
    tmp_path: Path, bench: Bench
) -> None:
    def folder(name: str) -> Path:
        return CheckpointFolder(tmp_path, manager.open_study(name, bench.url)).folder

    uid = bench.study().user_attrs[attributes.UID]
    assert folder("study") == tmp_path / uid
    (tmp_path / f"study-{uid}").mkdir()  # As earlier versions called it.
    with sqlite3.connect(bench.url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE studies SET study_name = 'renamed'")
    connection.close()
    assert folder("renamed") == tmp_path / f"study-{uid}"
    (tmp_path / uid).mkdir()
    assert folder("renamed") == tmp_path / uid
    bench.study()  # Of the same name as the first.
    assert folder("study").name != uid


def test_the_best_network_is_the_one_that_was_measured(bench: Bench) -> None:
    study = bench.study(trials=1)
    bench.work(study)
    trial = study.best_trial
    images = bench.images
    for is_kept in (True, False):
        if not is_kept:
            manager.study_checkpoints(study).delete()
        network = bench.task(study).network(trial, manager.study_checkpoints(study).path(0))
        guesses = network.predict_proba(images.images[images.valid]).argmax(1)
        assert np.mean(guesses == images.labels[images.valid]) == trial.value


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"sampler": "rfei"}, "no sampler 'rfei'"),
        ({"pruner": "hyper"}, "no pruner"),
        ({"space": "curse"}, "Did you mean 'course'"),
        ({"epochs": 21}, "1 <= epochs <= 20"),
        ({"epochs": 0}, "1 <= epochs <= 20"),
        ({"seed": -1}, "0 <= seed"),
        ({"fold": 5}, "0 <= fold <= 4"),
        ({"thaw": True, "pruner": "asha"}, "only the pruner 'dora'"),
    ],
)
def test_a_specification_is_checked(fields: dict[str, object], rule: str) -> None:
    with pytest.raises(InvalidInputError, match=rule):
        StudySpec(**({"dataset": "demo"} | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "limits", [{"trials": 0}, {"seconds": 0}, {"seconds": float("nan")}, {"seconds": 1e9}]
)
def test_a_budget_is_checked(limits: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError, match="must hold"):
        Budget(**limits)  # type: ignore[arg-type]


def test_a_specification_survives_its_storage() -> None:
    spec = StudySpec(dataset="demo", sources=("a", "b"), seed=3)
    assert StudySpec.from_json(spec.to_json()) == spec
    with pytest.raises(InvalidInputError, match="no key 'colour'"):
        StudySpec.from_json({"dataset": "demo", "colour": "green"})


def test_a_study_of_another_task_informs_the_sampler(bench: Bench) -> None:
    bench.work(bench.study("old", trials=2))
    study = bench.study("new", trials=1, sampler="rf_ei", sources=("old",))
    (match,) = manager.source_summary(manager.study_spec(study), study._storage)
    assert (match.name, match.n_used, match.n_dropped) == ("old", 2, 0)
    bench.work(study)
    assert len(study.get_trials()) == 1
    with pytest.raises(NotFoundError, match="no study 'odl'"):
        bench.study("newer", sources=("odl",))
    assert "newer" not in manager.study_names(open_storage(bench.url))


def test_stopped_trials_of_another_task_inform_with_what_was_foreseen(bench: Bench) -> None:
    storage = open_storage(bench.url)
    old = optuna.create_study(study_name="old", storage=storage, direction="minimize")
    ranges = {"x": optuna.distributions.FloatDistribution(0.0, 1.0)}

    def add(state: TrialState, value: float, **attrs: Any) -> None:
        params = {"x": 0.1 * len(old.trials)}
        trial = optuna.create_trial(
            params=params, distributions=ranges, state=state, value=value, user_attrs=attrs
        )
        old.add_trial(trial)

    add(TrialState.COMPLETE, 1.0)
    add(TrialState.PRUNED, 5.0, **{attributes.ANTICIPATION: {"expected": 3.0}})
    add(TrialState.PRUNED, 6.0)  # nothing was foreseen
    add(TrialState.PRUNED, 7.0, **{attributes.ANTICIPATION: {"expected": 4.0}})
    add(TrialState.COMPLETE, 2.0, **{attributes.ORIGIN: 3})  # goes on from the one before
    source = informants.source(old)
    assert list(source.values) == [-1.0, -3.0, -2.0]
    assert [params["x"] for params in source.params] == pytest.approx([0.0, 0.1, 0.4])
