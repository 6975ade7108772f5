"""Every format is recognised, and every defect is one clear line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import optuna
import pytest

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.priors import export_priors, read_priors, read_study
from optuna_deepweeds.spaces import SPACES
from tests.priors.conftest import history

OWN = (
    "trial,state,value,metric,direction,epochs,seconds,dataset,param:x,param:on,epoch_1,epoch_2\n"
    "4,complete,0.75,accuracy,maximize,2,3.5,demo,0.25,True,0.5,0.75\n"
    "5,pruned,0.25,accuracy,maximize,1,,demo,0.5,,0.25,\n"
)


def write(folder: Path, text: str | bytes, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_published_run_history(course_file: Path) -> None:
    priors = read_priors(course_file)
    assert len(priors) == 75
    assert {p.epochs for p in priors} == {20}
    assert all(p.direction == "minimize" and p.metric == "error" for p in priors)
    assert min(p.value for p in priors) == pytest.approx(0.4062196)
    assert {type(p.params["use_BN"]) for p in priors} == {bool}
    assert priors[0].dataset == "deepweedsx_balanced"


def test_run_history_row(tmp_path: Path) -> None:
    failed = [{"status": status} for status in ("StatusType.CRASHED", "TIMEOUT", "")]
    prior, *others = read_priors(write(tmp_path, history({}, *failed)))
    assert prior.value == 0.4 and prior.seconds == 12.5 and prior.epochs == 20
    assert prior.source == "runs" and prior.where == "line 2"
    assert prior.params["use_BN"] is True
    assert "n_channels_conv_2" not in prior.params
    assert not prior.problem
    assert [other.problem.startswith("status is ") for other in others] == [True] * 3


def test_own_csv_also_as_other_programs_save_it(tmp_path: Path) -> None:
    shouted = OWN.replace("True", "TRUE").replace("complete", "COMPLETE") + "," * 11 + "\n"
    for text in (OWN, "\ufeff" + shouted):
        finished, stopped = read_priors(write(tmp_path, text))
        assert finished.params == {"x": 0.25, "on": True} and not finished.problem
        assert finished.curve == {1: 0.5, 2: 0.75}
        assert stopped.params == {"x": 0.5} and stopped.problem == "stopped early"


SMAC_RUNS = {
    "1.x": lambda status: [
        [1, None, 0, 5.0], [0.5, 2.0, {"__enum__": f"StatusType.{status}"}, 1.0, 3.0, {}],
    ],
    "2.0": lambda status: [1, None, 0, 5.0, 0.5, 2.0, SMAC_STATUS[status], 1.0, 3.0, {}],
    "2.3": lambda status: [1, None, 0, 5.0, 0.5, 2.0, 1.9, SMAC_STATUS[status], 1.0, 3.0, {}],
    "object": lambda status: {
        "config_id": 1, "instance": None, "seed": 0, "budget": 5.0, "cost": 0.5, "time": 2.0,
        "cpu_time": 1.9, "status": SMAC_STATUS[status],
    },
}  # fmt: skip
SMAC_STATUS = {"SUCCESS": 1, "CRASHED": 2}


@pytest.mark.parametrize("version", SMAC_RUNS)
def test_smac_run_history(tmp_path: Path, version: str) -> None:
    runs = [SMAC_RUNS[version](status) for status in SMAC_STATUS]
    document = {"data": runs, "configs": {"1": {"x": 0.5, "off": None}}}
    good, bad = read_priors(write(tmp_path, json.dumps(document), "runhistory.json"))
    assert good.params == {"x": 0.5} and good.value == 0.5 and good.epochs == 5
    assert good.seconds == 2.0 and not good.problem
    assert bad.problem == "status is CRASHED"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff", "UTF-8"),
        (b"cost,budget\0,status\n", "binary"),
        ("name,age\nbob,3\n", "first line"),
        ("[1, 2", "JSON"),
        ('{"data": 3}', "run history"),
        ("cost,config:x\n0.5,1\n", "budget, status is missing"),
        ("cost,cost,budget,status\n1,1,1,1\n", "occurs twice"),
        (history({}) + '"open', "line 3: must be CSV"),
        (OWN.replace("epoch_2", "epoch_two"), "but is epoch_two"),
    ],
)
def test_defect_of_a_file_is_named(tmp_path: Path, text: str | bytes, expected: str) -> None:
    with pytest.raises(InvalidInputError, match="runs.csv") as caught:
        read_priors(write(tmp_path, text))
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (history({}, {"cost": "good"}), "cost is 'good', no number"),
        (history({}, {"cost": ""}), "cost is '', no number"),
        (history({}, {"budget": "6.667"}), "budget is 6.667, no whole number of epochs"),
        (history({}, {"budget": "-1"}), "budget is -1, no whole number of epochs"),
        (history({}) + "1,2\n", "has 2 cells, the header 20"),
        (OWN.replace("pruned", "done"), "state is done"),
        (OWN.replace("0.25,accuracy,maximize", "0.25,accuracy,up"), "direction is up"),
        (OWN.replace(",0.25,\n", ",high,\n"), "epoch_1 is 'high', no number"),
        ('{"data": [[1, 0, 0, 5.0, 0.5, 1.0, 1], [1, null]], "configs": {"1": {"x": 1}}}',
         "must hold config_id (one of `configs`), a single cost, budget and time"),
        ('{"data": [[1, 0, 0, 5.0, 0.5, 1.0, 1], [1, 0, 0, 6.667, 0.5, 1.0, 1]], '
         '"configs": {"1": {"x": 1}}}', "budget is 6.667, no whole number of epochs"),
    ],
)  # fmt: skip
def test_one_odd_row_does_not_refuse_the_others(tmp_path: Path, text: str, problem: str) -> None:
    good, odd = read_priors(write(tmp_path, text))
    assert not good.problem and odd.problem == problem


def test_missing_file_folder_and_huge_file_are_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate(2**29)
    for name, error, words in (
        ("none.csv", NotFoundError, "does not exist"),
        ("", InvalidInputError, "must be a file"),
        ("huge.csv", InvalidInputError, "256 MiB"),
    ):
        with pytest.raises(error, match=words):
            read_priors(tmp_path / name)


def studied() -> optuna.Study:
    study = optuna.create_study(direction="maximize", study_name="first")
    study.set_metric_names(["validation accuracy"])

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        for epoch in (1, 2, 3):
            trial.report(x * epoch / 3, epoch)
            if trial.number % 3 == 1 and epoch == 2:
                raise optuna.TrialPruned
        if trial.number == 5:
            raise ArithmeticError
        return x

    study.optimize(objective, n_trials=6, catch=(ArithmeticError,))
    return study


def test_study_of_one_objective_gives_finished_and_pruned_trials() -> None:
    priors = read_study(studied())
    assert [p.where for p in priors] == [f"trial {n}" for n in range(5)]
    assert [bool(p.problem) for p in priors] == [False, True, False, False, True]
    assert priors[0].metric == "accuracy" and priors[0].epochs == 3
    assert priors[0].curve[3] == pytest.approx(priors[0].value)
    with pytest.raises(InvalidInputError, match="one objective"):
        read_study(optuna.create_study(directions=["maximize", "minimize"]))


def test_continuation_stands_for_its_whole_chain() -> None:
    study = studied()
    parent = study.trials[1]
    study.add_trial(
        optuna.trial.create_trial(
            value=0.9,
            params=parent.params,
            distributions=parent.distributions,
            intermediate_values={1: 0.1, 2: 0.2, 3: 0.9},
            user_attrs={attributes.ORIGIN: 1, attributes.TRAIN_SECONDS: 2.0},
        )
    )
    priors = read_study(study)
    assert "trial 1" not in [p.where for p in priors]
    assert priors[-1].value == 0.9
    assert priors[-1].seconds is not None and priors[-1].seconds >= 2.0


def test_export_reads_back_exactly(tmp_path: Path) -> None:
    study = studied()
    path = tmp_path / "deep" / "first.csv"
    assert export_priors(study, path, space=SPACES["course"]) == 5
    again, before = read_priors(path), read_study(study)
    for new, old in zip(again, before, strict=True):
        assert (new.params, new.value, new.curve, new.epochs) == (
            old.params, old.value, old.curve, old.epochs,
        )  # fmt: skip
        assert bool(new.problem) == bool(old.problem)
    assert [p.name for p in path.parent.iterdir()] == ["first.csv"]


def test_companions_are_read_too_and_not_exported(tmp_path: Path) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    study.set_user_attr(attributes.SPEC, {"priors": "s:priors"})
    assert read_study(study) == []
    companion = optuna.create_study(study_name="s:priors", storage=storage, direction="maximize")
    companion.add_trial(
        optuna.trial.create_trial(
            value=math.pi,
            params={"x": 1.0},
            distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
            user_attrs={attributes.PRIOR: "elsewhere"},
        )
    )
    assert [p.source for p in read_study(study)] == ["elsewhere"]
    with pytest.raises(InvalidInputError, match="has none"):
        export_priors(study, tmp_path / "none.csv")
    assert not (tmp_path / "none.csv").exists()
