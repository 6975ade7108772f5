"""What a suggestion costs, measured in small."""

from __future__ import annotations

import pytest

from optuna_deepweeds.bench.cost import of_suggestions
from optuna_deepweeds.errors import InvalidInputError


def test_time_and_memory_are_given_for_every_size() -> None:
    costs = of_suggestions("cell_0", "tpe", [40, 12])
    assert [cost["trials"] for cost in costs] == [12, 40]
    assert all(0 < cost["ms"] <= cost["worst_ms"] for cost in costs)
    assert all(10 < cost["memory_mib"] < 10_000 for cost in costs)


def test_an_unknown_sampler_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="nosuch"):
        of_suggestions("cell_0", "nosuch", [10])


@pytest.mark.slow
def test_a_sampler_keeps_little_beside_the_trials_of_a_long_study() -> None:
    ours, none = (
        [cost["memory_mib"] for cost in of_suggestions("protein_structure", name, [500, 10_000])]
        for name in ("rf_ei", "random")
    )
    # Codes and ranks of 9,500 trials are 1 MiB; the trials themselves take tens.
    assert (ours[1] - ours[0]) - (none[1] - none[0]) < 15
