"""Small studies that several sampler tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler

from optuna_deepweeds.spaces import Condition, Parameter, SearchSpace

CONDITIONAL = SearchSpace(
    "conditional",
    (
        Parameter("n_layers", IntDistribution(1, 3)),
        Parameter("width_0", IntDistribution(8, 64, log=True)),
        Parameter("width_1", IntDistribution(8, 64, log=True), Condition("n_layers", at_least=2)),
        Parameter("width_2", IntDistribution(8, 64, log=True), Condition("n_layers", at_least=3)),
        Parameter("kind", CategoricalDistribution(("a", "b", "c"))),
        Parameter("rate", FloatDistribution(1e-4, 1.0, log=True), Condition("kind", ("b", "c"))),
    ),
)


def conditional_objective(trial: optuna.Trial) -> float:
    """Best at three layers of 32, kind b; larger is better."""
    params = CONDITIONAL.suggest(trial)
    value = -abs(params["n_layers"] - 3.0) - (params["kind"] != "b")
    return value - sum(abs(params.get(f"width_{i}", 8) - 32) / 32 for i in range(3))


def run(
    sampler: BaseSampler,
    n_trials: int,
    *,
    objective: Callable[[optuna.Trial], float] = conditional_objective,
    **study_options: Any,
) -> optuna.Study:
    """A maximising study of `n_trials` more trials."""
    study = optuna.create_study(
        sampler=sampler, direction="maximize", load_if_exists=True, **study_options
    )
    study.optimize(objective, n_trials=n_trials)
    return study


def params_of(study: optuna.Study) -> list[dict[str, Any]]:
    """What every trial tried, in order."""
    return [trial.params for trial in study.get_trials(deepcopy=False)]
