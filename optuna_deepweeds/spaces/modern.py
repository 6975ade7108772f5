"""A wider space of our own: newer networks, optimisers and augmentation.

Everything stays within the limits of the published task: 32x32 images, at most 20 epochs, no
pretraining. The keys of training are explained in `training/settings.py`, those of the network
in `training/networks.py`.
"""

from __future__ import annotations

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from optuna_deepweeds.spaces.search_space import Condition, Parameter, SearchSpace


def _space(
    name: str,
    *,
    stages: tuple[int, int],
    blocks: int,
    width: tuple[int, int],
    batch: tuple[int, int],
    rate: tuple[float, float],
) -> SearchSpace:
    """The space of networks and trainings within these limits."""
    return SearchSpace(
        name=name,
        parameters=(
            Parameter("stem_stride", IntDistribution(1, 2)),
            Parameter("n_stages", IntDistribution(*stages)),
            Parameter("n_blocks", IntDistribution(0, blocks)),
            Parameter("width", IntDistribution(*width, log=True)),
            Parameter("width_factor", FloatDistribution(1.0, 2.0)),
            Parameter("dropout_rate", FloatDistribution(0.0, 0.5)),
            Parameter("batch_size", IntDistribution(*batch, log=True)),
            Parameter("optimizer", CategoricalDistribution(("adamw", "sgd", "muon"))),
            Parameter(
                "momentum",
                FloatDistribution(0.6, 0.98),
                Condition("optimizer", values=("sgd", "muon")),
            ),
            Parameter("learning_rate_init", FloatDistribution(*rate, log=True)),
            Parameter("weight_decay", FloatDistribution(1e-5, 1.0, log=True)),
            Parameter("warmup_share", FloatDistribution(0.02, 0.5)),
            Parameter("label_smoothing", FloatDistribution(0.0, 0.2)),
            Parameter("flips", CategoricalDistribution((False, True))),
            Parameter("rotate90", CategoricalDistribution((False, True))),
            Parameter("shift", IntDistribution(0, 6)),
            Parameter("color_jitter", FloatDistribution(0.0, 0.5)),
            Parameter("cutout", IntDistribution(0, 16)),
            Parameter("views", CategoricalDistribution((1, 2, 4, 8))),
        ),
        constants={"activation": "gelu", "schedule": "one_cycle"},
    )


MODERN = _space(
    "modern",
    stages=(2, 4),
    blocks=2,
    width=(16, 96),
    batch=(16, 512),
    rate=(1e-4, 1.0),
)

# Networks that a processor trains in seconds an epoch; every point is a point of `modern`.
MODERN_SMALL = _space(
    "modern-small",
    stages=(2, 3),
    blocks=1,
    width=(16, 40),
    batch=(32, 256),
    rate=(5e-4, 0.2),
)
