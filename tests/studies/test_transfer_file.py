"""Whole studies moved between storages, and many trials added at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.studies.storage import open_storage
from optuna_deepweeds.studies.storage.bulk import bulk_add_trials
from optuna_deepweeds.studies.transfer_file import export_study, import_study

_DISTRIBUTIONS = {
    "lr": FloatDistribution(1e-5, 1.0, log=True),
    "layers": IntDistribution(1, 3),
    "norm": CategoricalDistribution([True, False, None, "x", 2.5]),
}
_START = datetime(2026, 1, 2, 3, 4, 5, 678)


def _trial(i: int, state: TrialState = TrialState.COMPLETE, **changes: object) -> FrozenTrial:
    trial = create_trial(
        state=state,
        value=0.1 * i if state == TrialState.COMPLETE else None,
        params={"lr": 10.0 ** -(i % 5), "layers": 1 + i % 3, "norm": [True, None, "x"][i % 3]},
        distributions=_DISTRIBUTIONS,
        user_attrs={"i": i, "text": 'a "quoted"\nline'},
        system_attrs={"list": [1, {"a": None}]},
        intermediate_values={1: 0.5, 2: float("nan"), 5: float("inf"), 7: 0.1 * i},
    )
    trial.datetime_start = None if state == TrialState.WAITING else _START + timedelta(seconds=i)
    if state.is_finished():
        trial.datetime_complete = _START + timedelta(seconds=i, minutes=1)
    trial.user_attrs.update(changes)
    return trial


def _mixed_study(url: str) -> optuna.Study:
    storage = open_storage(url)
    study = optuna.create_study(study_name="mixed", storage=storage, direction="maximize")
    study.set_user_attr(attributes.SPEC, {"seed": 1, "priors": "mixed:priors"})
    study.set_metric_names(["validation accuracy"])
    trials = [
        _trial(2),
        _trial(3, TrialState.PRUNED),
        _trial(4, **{attributes.ORIGIN: 1, attributes.ROOT: 1, attributes.INHERITED: 2}),
        _trial(5, TrialState.FAIL),
        _trial(6, TrialState.FAIL),
        _trial(7, TrialState.WAITING),
        _trial(8, TrialState.WAITING, **{attributes.RETRY_OF: 4, attributes.ORIGIN: 4}),
    ]
    trials[4].system_attrs[attributes.INTERRUPTED] = True
    trials[0].user_attrs[attributes.SEGMENTS] = [["2026-01-01T00:00:00", "2026-01-01T01:00:00"]]
    bulk_add_trials(study, trials)
    return study


def _comparable(study: optuna.Study) -> list[object]:
    """Everything about a study but its identity; NaN equals itself in text."""
    hidden = (attributes.SPEC, attributes.UID)
    attrs = {key: value for key, value in study.user_attrs.items() if key not in hidden}
    facts: list[object] = [study.directions, attrs, study.metric_names]
    for trial in study.trials:
        fields = {k.strip("_"): v for k, v in vars(trial).items() if k != "_trial_id"}
        for key, value in fields.items():  # The order of attributes is not promised.
            if isinstance(value, dict):
                fields[key] = sorted(value.items())
        facts.append(repr(fields))
    return facts


@pytest.mark.parametrize("file_name", ["study.jsonl", "study.jsonl.gz"])
def test_study_comes_back_unchanged(storage_url: str, tmp_path: Path, file_name: str) -> None:
    study = _mixed_study(storage_url)
    assert export_study(study, tmp_path / file_name) == 7
    other = import_study(tmp_path / file_name, open_storage(str(tmp_path / "other.db")))
    assert other.study_name == "mixed"
    assert _comparable(other) == _comparable(study)
    assert [p.name for p in tmp_path.glob(".*")] == []


def test_import_under_another_name_beside_the_original(storage_url: str, tmp_path: Path) -> None:
    study = _mixed_study(storage_url)
    export_study(study, tmp_path / "a.jsonl")
    storage = open_storage(storage_url)
    with pytest.raises(InvalidInputError, match="'mixed' is there already"):
        import_study(tmp_path / "a.jsonl", storage)
    assert _comparable(import_study(tmp_path / "a.jsonl", storage, name="b")) == _comparable(study)


def test_a_trial_under_way_waits_in_the_copy(storage_url: str, tmp_path: Path) -> None:
    """Its worker knows nothing of the copy, whose last place it would hold for ever."""
    study = _mixed_study(storage_url)
    running = _trial(8, TrialState.RUNNING, **{attributes.WORKER: "elsewhere/1/2/3"})
    bulk_add_trials(study, [running])
    export_study(study, tmp_path / "a.jsonl")
    copied = import_study(tmp_path / "a.jsonl", open_storage(storage_url), name="b").trials[-1]
    assert copied.state == TrialState.WAITING
    assert copied.params == running.params
    assert list(copied.intermediate_values) == list(running.intermediate_values)
    assert len(copied.user_attrs[attributes.SEGMENTS]) == 1
    assert study.trials[-1].state == TrialState.RUNNING


DAMAGES: dict[str, Callable[[list[str]], str]] = {
    "cut": lambda lines: "".join(lines[:-1]),
    "junk": lambda lines: "".join(lines[:3]) + "{junk\n",
    "empty": lambda lines: "",
    "binary": lambda lines: "".join(map(chr, range(256))),
    "version": lambda lines: "".join(lines).replace('"version": 1', '"version": 2'),
    "state": lambda lines: "".join(lines).replace('"PRUNED"', '"GONE"'),
    "gz": "".join,  # Not compressed, whatever its name says.
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_changes_nothing(tmp_path: Path, damage: str) -> None:
    whole = tmp_path / "a.jsonl"
    export_study(_mixed_study(f"sqlite:///{tmp_path}/a.db"), whole)
    path = tmp_path / ("b.jsonl.gz" if damage == "gz" else "b.jsonl")
    text = DAMAGES[damage](whole.read_text().splitlines(keepends=True))
    path.write_bytes(text.encode("latin-1"))
    storage = open_storage(str(tmp_path / "other.db"))
    with pytest.raises(InvalidInputError) as caught:
        import_study(path, storage)
    assert "\n" not in str(caught.value)
    assert storage.get_all_studies() == []


def test_missing_files_and_unwritable_places_are_refused(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "a.db"))
    with pytest.raises(NotFoundError):
        import_study(tmp_path / "none.jsonl", storage)
    with pytest.raises(InvalidInputError, match="cannot be written"):
        export_study(optuna.create_study(storage=storage), tmp_path / "a.db" / "a.jsonl")


def test_bulk_adds_what_optuna_adds(storage_url: str) -> None:
    trials = [_trial(1), _trial(2, TrialState.PRUNED), _trial(3, TrialState.FAIL)]
    one, many = (optuna.create_study(storage=open_storage(storage_url)) for _ in range(2))
    one.add_trials(trials)
    bulk_add_trials(many, trials[:1])
    bulk_add_trials(many, trials[1:])
    assert _comparable(many) == _comparable(one)


def test_bulk_refuses_what_does_not_fit(storage_url: str) -> None:
    study = optuna.create_study(storage=open_storage(storage_url))
    bulk_add_trials(study, [_trial(1)])
    ranges = {"layers": FloatDistribution(0, 1)}
    other = create_trial(value=1.0, params={"layers": 0.5}, distributions=ranges)
    for wrong in (other, create_trial(values=[1.0, 2.0])):
        with pytest.raises(ValueError):
            bulk_add_trials(study, [_trial(2), wrong])
    assert len(study.trials) == 1
