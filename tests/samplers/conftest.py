from __future__ import annotations

from collections.abc import Iterator

import optuna
import pytest

pytest.register_assert_rewrite("optuna.testing.pytest_samplers")


@pytest.fixture(autouse=True)
def _quiet_optuna() -> Iterator[None]:
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(level)
