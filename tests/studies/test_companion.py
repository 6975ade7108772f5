"""Imported trials lie in a companion study: they inform, count nowhere and share its lot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError, NotFoundError, SpecMismatchError
from optuna_deepweeds.priors import PriorTrial, export_priors, n_imported
from optuna_deepweeds.samplers import RandomForestEISampler
from optuna_deepweeds.spaces import SPACES
from optuna_deepweeds.studies import informants, manager
from optuna_deepweeds.studies.accounting import progress
from optuna_deepweeds.studies.copy import fork_study
from optuna_deepweeds.studies.spec import Budget, StudySpec
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.transfer_file import export_study, import_study
from tests.studies.conftest import Bench

SPACE = SPACES["course-small"]


def priors(n: int = 4, source: str = "runs") -> list[PriorTrial]:
    """`n` rows of different values with whole curves, the best last."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    found = []
    for i in range(n):
        trial = study.ask()
        SPACE.suggest(trial)
        value = 0.9 + i / 100
        curve = {1: value / 2, 2: value}
        where = f"line {i}"
        found.append(
            PriorTrial(trial.params, value, "maximize", "accuracy", source, where, curve, 2)
        )
    return found


def test_optunas_own_tools_show_a_trial_that_the_study_trained(bench: Bench) -> None:
    study = bench.study(trials=2)
    manager.add_priors(study, priors())
    bench.work(study)
    plain = optuna.load_study(study_name="study", storage=bench.url)
    assert plain.best_trial.number in (0, 1) and plain.best_value < 0.9
    assert [attributes.PRIOR in t.user_attrs for t in plain.trials] == [False, False]
    state = progress(plain.trials, plain.direction)
    assert (state.finished, state.epochs, n_imported(plain.user_attrs)) == (2, 4, 4)
    companion = optuna.load_study(study_name="study:priors", storage=bench.url)
    assert companion.best_value == pytest.approx(0.93)
    assert companion.metric_names == ["validation accuracy"]


def test_the_sampler_learns_from_each_source_of_priors(bench: Bench) -> None:
    study = bench.study(sampler="rf_ei", pruner="dora", thaw=False)
    manager.add_priors(study, [*priors(), *priors(6, "b")])
    companion = informants.companion(study)
    assert companion is not None
    sources = informants.imported_sources(companion)
    assert [(s.name, len(s.values)) for s in sources] == [
        ("study:priors/b", 2), ("study:priors/runs", 4),
    ]  # fmt: skip
    assert sources[1].values == pytest.approx([0.9, 0.91, 0.92, 0.93])
    equipped = manager.equip(study)
    assert isinstance(equipped.sampler, RandomForestEISampler)
    first = equipped.ask()
    SPACE.suggest(first)
    # From the first trial on.
    assert equipped.get_trials()[0].user_attrs[attributes.SUGGESTED] == "model"


def test_four_processes_that_import_one_file_add_each_row_once(
    bench: Bench, tmp_path: Path
) -> None:
    bench.work(bench.study("first", trials=1))
    file = tmp_path / "runs.csv"
    assert export_priors(manager.open_study("first", bench.url), file) == 1
    study = bench.study()
    command = [sys.executable, "-m", "optuna_deepweeds", "priors", "import", str(file)]
    command += ["--study", "study", "--storage", bench.url]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    companion = informants.companion(study)
    assert companion is not None and len(companion.trials) == 1


@pytest.mark.parametrize("way", ["file", "fork"])
def test_a_copy_has_the_priors_and_an_identity_of_its_own(
    bench: Bench, tmp_path: Path, way: str
) -> None:
    study = bench.study(trials=2)
    manager.add_priors(study, priors(), enqueue_best=1)
    bench.work(study)
    if way == "file":
        export_study(study, tmp_path / "study.jsonl")
        copied = import_study(tmp_path / "study.jsonl", open_storage(bench.url), name="copy")
    else:
        copied = fork_study(study, "copy")
    assert copied.user_attrs[attributes.UID] != study.user_attrs[attributes.UID]
    assert manager.study_spec(copied).priors == "copy:priors"
    assert [t.values for t in copied.trials] == [t.values for t in study.trials]
    companion = informants.companion(copied)
    assert companion is not None and len(companion.trials) == 4
    assert n_imported(copied.user_attrs) == 4
    assert not manager.add_priors(copied, priors()).added
    folders = [manager.study_checkpoints(s).folder for s in (study, copied)]
    files = [list(folder.glob("*")) for folder in folders]
    assert files[0] and len(files[1]) == (len(files[0]) if way == "fork" else 0)
    manager.study_checkpoints(copied).delete()
    assert folders[0].exists()


def test_a_name_is_taken_whatever_lies_there(bench: Bench) -> None:
    with pytest.raises(InvalidInputError, match="must not end with ':priors'"):
        bench.study("mine:priors")
    with pytest.raises(InvalidInputError, match="begin with a dash"):
        bench.study("-x")
    left = optuna.create_study(study_name="study:priors", storage=open_storage(bench.url))
    study = bench.study()
    manager.add_priors(study, priors())
    assert left.trials == []
    name = manager.study_spec(study).priors
    assert name.startswith("study-") and name.endswith(":priors")
    assert bench.study().user_attrs == study.user_attrs  # Going on asks for no name.
    with pytest.raises(InvalidInputError, match=f"'{name}' holds the priors of study 'study'"):
        informants.refuse_companion(manager.load_plain(name, open_storage(bench.url)))
    informants.refuse_companion(left)


def test_a_study_is_read_as_prior_with_its_companion_and_nothing_is_created(
    bench: Bench, tmp_path: Path
) -> None:
    manager.add_priors(bench.study(), priors())
    assert [p.source for p in manager.read_source(f"{bench.url}#study")] == ["runs"] * 4
    with pytest.raises(NotFoundError, match="no study 'studdy'.*Did you mean 'study'"):
        manager.read_source(f"{bench.url}#studdy")
    with pytest.raises(NotFoundError, match="none.db"):
        manager.read_source(f"sqlite:///{tmp_path}/none.db#a")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(InvalidInputError, match="URL#STUDY"):
        manager.read_source(bench.url)


def test_a_copy_of_another_programs_study_keeps_all_its_trials(bench: Bench) -> None:
    study = optuna.create_study(study_name="theirs", storage=open_storage(bench.url))
    for attrs in ({}, {attributes.PRIOR: "what they call a prior"}):
        study.add_trial(create_trial(value=0.5, user_attrs=attrs))
    copied = fork_study(study, "copy")
    assert [t.user_attrs for t in copied.trials] == [t.user_attrs for t in study.trials]
    assert copied.user_attrs == {}


def test_junk_in_place_of_the_summary_stops_no_import(bench: Bench) -> None:
    study = bench.study()
    for junk in ("junk", {"runs": "junk", "b": {"enqueued": "many"}}):
        study.set_user_attr(attributes.PRIOR_SUMMARY, junk)
        manager.add_priors(study, [*priors(), *priors(1, "b")])
        assert n_imported(study.user_attrs) == 4


OLD_SPEC = {
    "dataset": "demo", "space": "course-small", "sampler": "random", "pruner": "dora", "seed": 0,
    "fold": 0, "epochs": 2, "thaw": True, "sources": [], "dataset_fingerprint": "tiny",
    "direction": "maximize", "metric": "validation accuracy",
}  # fmt: skip
"""A specification as commit a4ad5b5 stored it."""


def old_study(url: str) -> optuna.Study:
    """A study as commit a4ad5b5 made it: two priors, then trials that refer to one another."""
    study = optuna.create_study(study_name="old", storage=open_storage(url), direction="maximize")
    ranges = {"batch_size": SPACE["batch_size"].distribution}

    def add(state: TrialState, value: float | None, batch_size: int, **attrs: Any) -> None:
        study.add_trial(
            create_trial(
                state=state, value=value, params={"batch_size": batch_size},
                distributions=ranges, user_attrs={f"deepweeds:{k}": v for k, v in attrs.items()},
                intermediate_values={1: 0.1},
            )
        )  # fmt: skip

    for row in (1, 2):
        add(TrialState.COMPLETE, 0.9, 16 + row, prior="runs", prior_row=f"mark {row}")
    add(TrialState.PRUNED, 0.5, 20, seed=7)
    add(TrialState.COMPLETE, 0.6, 20, origin=2, root=2, seed=7, inherited=1)
    add(TrialState.FAIL, None, 21, seed=8)
    add(TrialState.WAITING, None, 21, retry_of=4, root=4)
    study.set_user_attr("deepweeds:uid", "0123abcd")
    study.set_user_attr("deepweeds:spec", OLD_SPEC)
    study.set_user_attr("deepweeds:budget", {"trials": 6, "seconds": None, "epochs": None})
    summary = {"runs": {"read": 2, "added": 2, "enqueued": 0, "dropped": {}, "ignored": {}}}
    study.set_user_attr("deepweeds:prior_summary", summary)
    folder = manager.study_checkpoints(study)
    folder.folder.mkdir(parents=True)
    folder.path(2).write_bytes(b"network")
    return study


def test_a_study_with_priors_inside_is_refused_and_brought_over_by_one_command(
    bench: Bench, tmp_path: Path
) -> None:
    old = old_study(bench.url)
    storage = open_storage(bench.url)
    for open_it in (
        lambda: manager.open_study("old", bench.url),
        lambda: manager.load_plain("old", storage),
        lambda: manager.create_or_continue("old", StudySpec("demo"), Budget(), storage),
    ):
        with pytest.raises(SpecMismatchError, match="`study fork old old-2` copies it"):
            open_it()
    before = [(t.number, t.params, t.user_attrs) for t in old.trials]
    command = [sys.executable, "-m", "optuna_deepweeds", "study", "fork", "old", "old-2"]
    subprocess.run([*command, "--storage", bench.url], check=True)
    assert [(t.number, t.params, t.user_attrs) for t in old.trials] == before
    new = manager.open_study("old-2", bench.url)
    links = (attributes.ORIGIN, attributes.ROOT, attributes.RETRY_OF, attributes.SEED)
    assert [[t.user_attrs.get(key) for key in links] for t in new.trials] == [
        [None, None, None, 7], [0, 0, None, 7], [None, None, None, 8], [None, 2, 2, None],
    ]  # fmt: skip
    assert new.best_value == 0.6
    assert manager.study_checkpoints(new).path(0).read_bytes() == b"network"
    companion = informants.companion(new)
    assert companion is not None and companion.best_value == 0.9
    assert n_imported(new.user_attrs) == 2
    # By file too, as it comes from another machine.
    export_study(old, tmp_path / "old.jsonl")
    moved = import_study(tmp_path / "old.jsonl", open_storage(str(tmp_path / "other.db")))
    assert len(moved.trials) == 4 and n_imported(moved.user_attrs) == 2


def test_a_study_of_the_version_before_without_priors_goes_on(bench: Bench) -> None:
    study = bench.study()
    stored = study.user_attrs[attributes.SPEC]
    del stored["priors"]
    study.set_user_attr(attributes.SPEC, stored)
    opened = bench.study()
    assert manager.add_priors(opened, priors()).added
    assert manager.study_spec(opened).priors == "study:priors"
