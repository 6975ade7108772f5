"""Loading and disturbing learning curves."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import create_trial

from optuna_deepweeds.bench.curves import TASKSET_FLOOR, Curves, load, unit_cube
from optuna_deepweeds.errors import DeepWeedsError, InvalidInputError, NotFoundError

COURSE = {
    "n_conv_layers": 1, "use_BN": True, "global_avg_pooling": False, "n_channels_conv_0": 64,
    "n_fc_layers": 1, "n_channels_fc_0": 64, "batch_size": 64, "learning_rate_init": 0.01,
}  # fmt: skip


def _taskset(path: Path, loss: np.ndarray, **replaced: Any) -> str:
    arrays = {
        "hyperparameters": np.column_stack([np.logspace(-5, 0, len(loss)), np.arange(len(loss))]),
        "names": np.array(["learning_rate", "beta1"]),
        "valid_loss": loss,
        **replaced,
    }
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return str(path)


def _study(url: str, *, direction: str = "maximize", n: int = 12, first: int = 1) -> str:
    study = optuna.create_study(study_name="curves", storage=url, direction=direction)
    distributions = {"x": FloatDistribution(0, 1)}
    for i in range(n):
        curve = {first + step: 0.1 * i + 0.01 * step for step in range(4)}
        study.add_trial(
            create_trial(
                value=curve[first + 3],
                params={"x": i / n},
                distributions=distributions,
                intermediate_values=curve,
            )
        )
    return f"{url}#curves"


def _prior_file(path: Path, rows: list[dict[str, Any]]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def _prior_rows(n: int = 12, epochs: int = 3, **params: Any) -> list[dict[str, Any]]:
    return [
        {
            "state": "complete", "value": 0.01 * i + 0.1 * epochs, "metric": "accuracy",
            "direction": "maximize",
            **{f"param:{k}": v for k, v in {**COURSE, **params}.items()},
            **{f"epoch_{e}": 0.01 * i + 0.1 * e for e in range(1, epochs + 1)},
        }
        for i in range(n)
    ]  # fmt: skip


def test_taskset_drops_the_value_before_training_and_counts_divergence_as_zero(
    tmp_path: Path,
) -> None:
    loss = np.tile(np.linspace(0.9, 0.2, 6), (20, 1))
    loss[3, 4:] = np.nan
    loss[4, 2] = np.inf
    curves = load(_taskset(tmp_path / "task.npz", loss))
    assert curves.name == "task" and curves.values.shape == (20, 5)
    assert curves.values[0] == pytest.approx(np.exp(-loss[0, 1:]))
    assert curves.values[3, 3:].tolist() == [0.0, 0.0] and curves.values[4, 1] == 0.0
    assert curves.floor == TASKSET_FLOOR
    assert curves.regret(curves.best) == 0.0
    assert curves.regret(TASKSET_FLOOR) == curves.regret(0.0) == 1.0
    learning_rate = curves.distributions["learning_rate"]
    assert isinstance(learning_rate, FloatDistribution) and learning_rate.log


@pytest.mark.parametrize(
    "replaced",
    [
        {"valid_loss": None},
        {"names": np.array(["learning_rate"])},
        {"valid_loss": np.zeros(20)},
        {"names": np.array(["learning_rate", "beta1"], dtype=object)},
        {"valid_loss": np.full((20, 6), 2.0)},
        {"valid_loss": np.full((20, 6), np.nan)},
        None,
    ],
    ids=["absent", "one name", "flat", "pickled", "below the floor", "diverged", "a text"],
)
def test_a_broken_table_is_refused_in_one_line(
    tmp_path: Path, replaced: dict[str, Any] | None
) -> None:
    path = tmp_path / "task.npz"
    path.write_text("not an archive")
    source = str(path)
    if replaced is not None:
        source = _taskset(path, np.full((20, 6), 0.3), **replaced)
    with pytest.raises(InvalidInputError) as error:
        load(source)
    assert "task" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("missing.npz", NotFoundError),
        ("missing.csv", NotFoundError),
        ("curves.txt", InvalidInputError),
        ("sqlite:///missing.db#curves", NotFoundError),
        ("sqlite:///missing.db", InvalidInputError),
    ],
)
def test_an_unknown_source_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, kind: type[DeepWeedsError]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as error:
        load(source)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [0, 1])
def test_a_study_gives_the_curves_of_its_complete_trials(tmp_path: Path, first: int) -> None:
    curves = load(_study(f"sqlite:///{tmp_path}/s.db", first=first))
    assert curves.name == "curves"
    # A report at step 0 was made before training.
    assert curves.values[2] == pytest.approx([0.2, 0.21, 0.22, 0.23][1 - first :])
    assert curves.floor == pytest.approx(np.median(curves.values[:, -1]))


def test_a_minimising_study_is_turned_round(tmp_path: Path) -> None:
    curves = load(_study(f"sqlite:///{tmp_path}/s.db", direction="minimize"))
    assert curves.best == pytest.approx(-0.03)
    assert curves.params[int(np.argmax(curves.values[:, -1]))] == {"x": 0.0}


def test_a_study_without_enough_curves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="at least 10 full learning curves"):
        load(_study(f"sqlite:///{tmp_path}/s.db", n=9))


def test_a_prior_file_keeps_the_distributions_of_our_space(tmp_path: Path) -> None:
    rows = _prior_rows()
    rows[0] = {**rows[0], "epoch_3": ""}
    rows.append({**rows[1], "state": "pruned"})
    curves = load(_prior_file(tmp_path / "ours.csv", rows))
    assert curves.name == "ours" and curves.values.shape == (11, 3)
    assert curves.params[0] == COURSE
    channels = curves.distributions["n_channels_conv_0"]
    assert isinstance(channels, IntDistribution) and channels.high == 512


def test_a_prior_file_of_another_space_gets_distributions_that_hold_its_rows(
    tmp_path: Path,
) -> None:
    rows = _prior_rows(n_conv_layers=9)
    for i, row in enumerate(rows):
        row["param:optimizer"] = ("adam", "sgd")[i % 2]
    curves = load(_prior_file(tmp_path / "theirs.csv", rows))
    for row in curves.params:
        for name, value in row.items():
            distribution = curves.distributions[name]
            assert distribution._contains(distribution.to_internal_repr(value))


def _curves(values: np.ndarray) -> Curves:
    rows = tuple({"x": float(i)} for i in range(len(values)))
    return Curves("made", values, rows, {"x": FloatDistribution(0, len(values))}, 0.0)


def test_cut_ends_training_early_and_refuses_what_is_longer() -> None:
    curves = _curves(np.array([[0.1, 0.9, 0.2], [0.2, 0.3, 0.4]]))
    assert curves.cut(2).best == 0.9
    for n_epochs in (1, 4):
        with pytest.raises(InvalidInputError, match="max-resource"):
            curves.cut(n_epochs)


def test_noise_has_the_standard_deviation_asked_for() -> None:
    curves = _curves(np.random.default_rng(0).random((200, 50)))
    noise = curves.reported(0.03, np.random.default_rng(1)) - curves.values
    assert noise.std() == pytest.approx(0.03, rel=0.05)
    assert np.array_equal(curves.reported(0.0, np.random.default_rng(1)), curves.values)


def test_unit_cube_scales_numbers_and_marks_what_is_absent() -> None:
    distributions = {
        "lr": FloatDistribution(1e-4, 1.0, log=True),
        "act": optuna.distributions.CategoricalDistribution(["relu", "tanh"]),
    }
    points = unit_cube([{"lr": 1e-2, "act": "tanh"}, {"lr": 1.0}], distributions)
    assert points.tolist() == [[pytest.approx(0.5), 0.0, 1.0], [1.0, -1.0, -1.0]]
