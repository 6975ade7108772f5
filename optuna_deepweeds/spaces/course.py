"""The published conditional space of convolutional networks, and its part for slow machines.

Source: final project of the AutoML lecture SS 2023, Freiburg and Hannover.
"""

from __future__ import annotations

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from optuna_deepweeds.spaces.search_space import Condition, Parameter, SearchSpace


def _space(name: str, *, conv: int, dense: int, batch: tuple[int, int]) -> SearchSpace:
    """The published space with at most `conv` channels, `dense` units, and these batch sizes."""

    def width(parameter: str, low: int, high: int, condition: Condition | None) -> Parameter:
        return Parameter(parameter, IntDistribution(low, high, log=True), condition)

    def layers(parent: str, n: int) -> Condition:
        return Condition(parent, at_least=n)

    return SearchSpace(
        name=name,
        parameters=(
            Parameter("n_conv_layers", IntDistribution(1, 3)),
            Parameter("use_BN", CategoricalDistribution((False, True))),
            Parameter("global_avg_pooling", CategoricalDistribution((False, True))),
            width("n_channels_conv_0", 32, conv, None),
            width("n_channels_conv_1", 16, conv, layers("n_conv_layers", 2)),
            width("n_channels_conv_2", 16, conv, layers("n_conv_layers", 3)),
            Parameter("n_fc_layers", IntDistribution(1, 3)),
            width("n_channels_fc_0", 32, dense, None),
            width("n_channels_fc_1", 16, dense, layers("n_fc_layers", 2)),
            width("n_channels_fc_2", 16, dense, layers("n_fc_layers", 3)),
            Parameter("batch_size", IntDistribution(*batch, log=True)),
            Parameter("learning_rate_init", FloatDistribution(1e-5, 1.0, log=True)),
        ),
        constants={"kernel_size": 3, "dropout_rate": 0.2},
    )


COURSE = _space("course", conv=512, dense=512, batch=(1, 1000))

# Networks that a processor trains in seconds an epoch; every point is a point of `course`.
COURSE_SMALL = _space("course-small", conv=64, dense=128, batch=(16, 512))
