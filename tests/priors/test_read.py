"""Every format is recognised, and every defect is one clear line."""

from __future__ import annotations

import json
import math
from pathlib import Path

import optuna
import pytest

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError, NotFoundError
from optuna_deepweeds.priors import export_priors, match_priors, read_priors, read_study
from optuna_deepweeds.spaces import SPACES, Parameter, SearchSpace
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


# Tables as the programs' own calls write them, cut to two parameters: a whole training with
# x = .25 and on = True that came to .75 after 20 epochs, and one that did not come to its end.
TABLES = {
    "optuna": ",number,value,datetime_start,duration,params_on,params_x,user_attrs_note,state\n"
    '0,0,0.75,2026-11-27 01:12:13,0 days 00:00:00.03,True,0.25,"a, b",COMPLETE\n'
    "1,1,0.5,2026-11-27 01:12:13,0 days 00:00:00.02,False,0.5,,PRUNED\n",
    "optuna, two rows of header": ",number,value,params,params,state\n,,,on,x,\n"
    "0,0,0.75,True,0.25,COMPLETE\n1,1,,False,0.5,FAIL\n",
    "optuna, metric named": ",number,value_validation accuracy,params_on,params_x,state\n"
    "0,0,0.75,True,0.25,complete\n1,1,,False,0.5,RUNNING\n",
    "optuna-dashboard": "Number,State,val_acc,Param on,Param x,UserAttribute note\n"
    "0,COMPLETE,0.75,True,0.25,\n1,FAIL,,False,0.5,\n",
    "mlflow": ",run_id,experiment_id,status,artifact_uri,metrics.train_acc,metrics.val_acc,"
    "params.on,params.x,params.epochs,tags.mlflow.user\n"
    "0,a48e,7303,FINISHED,file:///m/a48e,1.0,0.75,True,0.25,20,root\n"
    "1,d5f7,7303,KILLED,file:///m/d5f7,,,False,0.5,20,root\n",
    "mlflow's page": "Start Time,Duration,Run ID,Name,User,Status,on,x,epochs,val_acc,loss\n"
    "2026-11-27,1.1s,a48e,fast-roo,root,FINISHED,True,0.25,20,0.75,.4\n"
    "2026-11-27,1.1s,a48f,slow-roo,root,FAILED,False,0.5,20,,\n",
    "ray": "val_acc,loss,done,training_iteration,trial_id,time_total_s,config/on,config/x\n"
    "0.75,1.0,False,20,963fc_00000,3.5,True,0.25\n"
    "0.5,1.0,False,2,963fc_00001,0.2,False,0.5\n",
    "ray, curves": ",val_acc,training_iteration,trial_id,time_total_s,config/on,config/x\n"
    "0,0.5,19,963fc_00000,3.4,True,0.25\n1,0.75,20,963fc_00000,3.5,True,0.25\n"
    "0,0.5,2,963fc_00001,0.2,False,0.5\n",
    "wandb": '"Name","State","Notes","Runtime","Sweep","on","x","epochs","train_loss","val_acc"\n'
    '"fair-sun-1","finished","-","3.5","","true","0.25","20","0.1","0.75"\n'
    '"odd-sun-2","crashed","-","0.2","","false","0.5","20","0.1",""\n',
    "wandb.Api": ",summary,config,name\n"
    """0,"{'val_acc': 0.75, '_runtime': 3.5}","{'on': True, 'x': 0.25}",fair-sun-1\n"""
    """1,"{'val_acc': nan, '_wandb': {'runtime': 1}}","{'on': False, 'x': 0.5}",odd-sun-2\n""",
    "wandb.Api, flat": ",val_acc,_step,_runtime,_timestamp,on,x\n"
    "fair-sun-1,0.75,20,3.5,1795741938,True,0.25\nodd-sun-2,NaN,2,.2,1795741938,False,0.5\n",
}


@pytest.mark.parametrize("program", TABLES)
def test_tables_of_other_programs(tmp_path: Path, program: str) -> None:
    space = SearchSpace(
        "two",
        [
            Parameter("x", optuna.distributions.FloatDistribution(0, 1)),
            Parameter("on", optuna.distributions.CategoricalDistribution([False, True])),
        ],
    )
    metric = "accuracy" if program in ("optuna", "optuna, two rows of header") else None
    priors = read_priors(write(tmp_path, TABLES[program]), metric=metric)
    matching = match_priors(priors, space, max_epochs=20)
    assert len(matching.kept) == len(matching.dropped) == 1, matching.lines()
    (kept,) = matching.kept
    assert (kept.params, kept.value) == ({"x": 0.25, "on": True}, 0.75)
    assert kept.curve == ({19: 0.5, 20: 0.75} if program == "ray, curves" else kept.curve)
    assert "epochs" not in matching.ignored


def test_folder_of_a_ray_trial(tmp_path: Path) -> None:
    text = "val_acc,training_iteration,trial_id\n0.5,1,a\n0.75,2,a\n"
    path = write(tmp_path, text, "progress.csv")
    (tmp_path / "params.json").write_text('{"x": 0.25, "off": null}')
    (prior,) = read_priors(path)
    assert prior.params == {"x": 0.25} and prior.curve == {1: 0.5, 2: 0.75}
    (tmp_path / "params.json").write_text("{")
    with pytest.raises(InvalidInputError, match=r"params\.json must be JSON"):
        read_priors(path)


def test_metric_is_asked_for_where_columns_do_not_tell(tmp_path: Path) -> None:
    def runs(metric: str | None = None, columns: str = "loss,top5") -> tuple[str, float]:
        text = f"Name,State,x,{columns}\na,finished,0.5,0.25,0.125\n"
        (prior,) = read_priors(write(tmp_path, text), metric=metric)
        return prior.metric, prior.value

    assert runs("top5") == ("top5", 0.125)
    assert runs("accuracy", "acc,loss") == ("accuracy", 0.25)
    assert runs("test_acc", "val_acc,test_acc") == ("accuracy", 0.125)
    assert runs(None, "test_acc,val_acc") == ("accuracy", 0.125)
    for metric, columns in ((None, "loss,top5"), ("top1", "loss,top5"), (None, "val_acc,dev_acc")):
        with pytest.raises(InvalidInputError, match=f"one of .*{columns.replace(',', ', ')}"):
            runs(metric, columns)
    with pytest.raises(InvalidInputError, match="must have one objective"):
        read_priors(write(tmp_path, "number,values_0,values_1,params_x,state\n"))


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
    study.set_user_attr(attributes.SPEC, {"dataset": str(tmp_path / "photos")})
    path = tmp_path / "deep" / "first.csv"
    assert export_priors(study, path, space=SPACES["course"]) == 5
    again, before = read_priors(path), read_study(study)
    for new, old in zip(again, before, strict=True):
        assert (new.params, new.value, new.curve, new.epochs) == (
            old.params, old.value, old.curve, old.epochs,
        )  # fmt: skip
        assert bool(new.problem) == bool(old.problem)
        assert new.dataset == "photos"
    assert [p.name for p in path.parent.iterdir()] == ["first.csv"]
    export_priors(study, path, digits=2)
    for new, old in zip(read_priors(path), before, strict=True):
        assert new.value == pytest.approx(old.value, rel=0.05)
        assert new.params["x"] == float(f"{old.params['x']:.2g}")


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
