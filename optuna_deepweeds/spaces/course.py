"""The published conditional space of convolutional networks.

Source: final project of the AutoML lecture SS 2023, Freiburg and Hannover.
"""

from __future__ import annotations

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from optuna_deepweeds.spaces.search_space import Condition, Parameter, SearchSpace

COURSE = SearchSpace(
    name="course",
    parameters=(
        Parameter("n_conv_layers", IntDistribution(1, 3)),
        Parameter("use_BN", CategoricalDistribution((False, True))),
        Parameter("global_avg_pooling", CategoricalDistribution((False, True))),
        Parameter("n_channels_conv_0", IntDistribution(32, 512, log=True)),
        Parameter(
            "n_channels_conv_1",
            IntDistribution(16, 512, log=True),
            Condition("n_conv_layers", at_least=2),
        ),
        Parameter(
            "n_channels_conv_2",
            IntDistribution(16, 512, log=True),
            Condition("n_conv_layers", at_least=3),
        ),
        Parameter("n_fc_layers", IntDistribution(1, 3)),
        Parameter("n_channels_fc_0", IntDistribution(32, 512, log=True)),
        Parameter(
            "n_channels_fc_1",
            IntDistribution(16, 512, log=True),
            Condition("n_fc_layers", at_least=2),
        ),
        Parameter(
            "n_channels_fc_2",
            IntDistribution(16, 512, log=True),
            Condition("n_fc_layers", at_least=3),
        ),
        Parameter("batch_size", IntDistribution(1, 1000, log=True)),
        Parameter("learning_rate_init", FloatDistribution(1e-5, 1.0, log=True)),
    ),
    constants={"kernel_size": 3, "dropout_rate": 0.2},
)
