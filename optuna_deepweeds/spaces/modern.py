"""A wider space of our own: newer networks, optimisers, schedules and augmentation.

Everything stays within the limits of the published task: 32x32 images, at most 20 epochs, no
pretraining. The keys of training are explained in `training/settings.py`, those of the network
in `training/networks.py`.
"""

from __future__ import annotations

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from optuna_deepweeds.spaces.search_space import Condition, Parameter, SearchSpace

MODERN = SearchSpace(
    name="modern",
    parameters=(
        Parameter("block", CategoricalDistribution(("residual", "plain"))),
        Parameter("n_stages", IntDistribution(2, 4)),
        Parameter("n_blocks", IntDistribution(0, 2)),
        Parameter("width", IntDistribution(16, 96, log=True)),
        Parameter("width_factor", FloatDistribution(1.0, 2.0)),
        Parameter("dropout_rate", FloatDistribution(0.0, 0.5)),
        Parameter("batch_size", IntDistribution(16, 512, log=True)),
        Parameter("optimizer", CategoricalDistribution(("adamw", "sgd", "muon"))),
        Parameter(
            "momentum",
            FloatDistribution(0.6, 0.98),
            Condition("optimizer", values=("sgd", "muon")),
        ),
        Parameter("learning_rate_init", FloatDistribution(1e-4, 1.0, log=True)),
        Parameter("weight_decay", FloatDistribution(1e-5, 1.0, log=True)),
        Parameter("schedule", CategoricalDistribution(("one_cycle", "cosine"))),
        Parameter("warmup_share", FloatDistribution(0.02, 0.5)),
        Parameter("label_smoothing", FloatDistribution(0.0, 0.2)),
        Parameter("flips", CategoricalDistribution((False, True))),
        Parameter("rotate90", CategoricalDistribution((False, True))),
        Parameter("shift", IntDistribution(0, 6)),
        Parameter("color_jitter", FloatDistribution(0.0, 0.5)),
        Parameter("cutout", IntDistribution(0, 16)),
        Parameter("use_mixup", CategoricalDistribution((False, True))),
        Parameter(
            "mixup", FloatDistribution(0.05, 1.0, log=True), Condition("use_mixup", values=(True,))
        ),
        Parameter("use_ema", CategoricalDistribution((False, True))),
        Parameter(
            "ema_decay", FloatDistribution(0.9, 0.999), Condition("use_ema", values=(True,))
        ),
        Parameter("views", CategoricalDistribution((1, 2, 4, 8))),
    ),
)
