"""Generated learning curves, and which families are kept back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from optuna_deepweeds.bench.curves import load, save
from optuna_deepweeds.bench.families import (
    GENERATED,
    GROUPS,
    TASKS,
    curves_of,
    family_of,
    group_of,
)


@pytest.mark.parametrize("family", GENERATED)
def test_a_generated_task_is_a_table_of_noisy_reports(family: str) -> None:
    quiet, *_, noisy = (curves_of(task) for task in TASKS[family])
    for curves in (quiet, noisy):
        assert curves.values.shape == (1000, 50) == curves.reports.shape
        assert curves.params[0].keys() == curves.distributions.keys()
        for name, distribution in curves.distributions.items():
            assert all(
                distribution._contains(distribution.to_internal_repr(row[name]))
                for row in curves.params
            )
        assert curves.cut(20).reports.shape == (1000, 20)
    errors = [np.abs(c.reports - c.values).mean() for c in (quiet, noisy)]
    assert errors[0] < 0.006 < 0.02 < errors[1]


def test_first_epochs_tell_the_end_or_not_by_family() -> None:
    def early(family: str, epoch: int) -> float:
        values = curves_of(TASKS[family][0]).cut(20).values
        good = values[:, -1] >= np.quantile(values[:, -1], 0.9)
        return float((values[good, epoch - 1][:, None] > values[~good, epoch - 1]).mean())

    assert early("power", 1) > 0.8
    assert early("misleading", 1) < 0.2 < 0.9 < early("misleading", 4)
    assert early("late", 3) < 0.5


def test_every_family_is_in_one_group_and_files_are_of_their_folders() -> None:
    assert {group_of(family) for family in GENERATED} == set(GROUPS)
    assert family_of("power_2") == "power"
    assert family_of("some/where/sklearn/wine-sgd.csv") == "sklearn"
    assert family_of("sqlite:///some/where.db#study") == "studies"


def test_a_saved_table_is_read_as_it_was(tmp_path: Path) -> None:
    curves = curves_of("power_0")
    save(tmp_path / "made" / "power.npz", curves)
    again = load(str(tmp_path / "made" / "power.npz"))
    assert np.allclose(again.values, curves.values, atol=1e-6)
    assert again.params == curves.params
    assert again.distributions == curves.distributions
