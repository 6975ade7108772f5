"""Generated tables are the same everywhere and pose the difficulties they promise."""

from __future__ import annotations

import numpy as np
import pytest

from optuna_deepweeds.bench.generated import GENERATED_FAMILIES, generate_table
from optuna_deepweeds.bench.problems import load_problem
from optuna_deepweeds.bench.tables import Table
from optuna_deepweeds.errors import InvalidInputError

NAMES = [name for members in GENERATED_FAMILIES.values() for name in members]


@pytest.fixture(params=NAMES)
def table(request: pytest.FixtureRequest) -> Table:
    return generate_table(request.param)


def test_a_table_has_a_value_for_every_configuration_and_repeat(table: Table) -> None:
    assert 4_000 <= len(table.values) == np.prod(table.shape) <= 30_000
    assert 3 <= table.values.shape[1] <= 5
    assert ((table.values >= 0.0) & (table.values <= 1.0)).all()


def test_a_table_depends_on_its_name_alone(table: Table) -> None:
    generate_table.cache_clear()
    assert np.array_equal(generate_table(table.name).values, table.values)


def test_repeats_differ_less_than_configurations(table: Table) -> None:
    noise = np.sqrt(table.values.var(axis=1, ddof=1).mean())
    assert 0.001 < noise < table.means.std()


def test_generated_tables_are_problems() -> None:
    problem = load_problem("cell_0")
    assert problem.direction == "maximize"
    assert problem.fraction_better(problem.optimum()) == 0.0


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="cell_0"):
        generate_table("cell_99")
