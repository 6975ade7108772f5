"""What a configuration asks of the training loop, apart from the network itself.

A configuration is the flat mapping that a search space suggests. Its training keys are the same
in every space; a key that is missing takes the plain value, so that a `course` configuration
trains as published: Adam at a constant learning rate, cross entropy, no augmentation. Any of the
keys below may be added to a `course` configuration.

| key | meaning |
|---|---|
| `batch_size` | images a step |
| `learning_rate_init` | the (highest) learning rate |
| `optimizer` | `adam`, `adamw`, `sgd` (Nesterov) or `muon`, see `muon.py` |
| `momentum` | of `sgd` and `muon` |
| `weight_decay` | of the optimiser; it acts on matrices and kernels alone |
| `schedule` | `constant` or `one_cycle`, see `schedule.py` |
| `warmup_share` | share of all steps that the learning rate rises in |
| `label_smoothing` | of the cross entropy |
| `flips` | mirror images at both axes at random |
| `rotate90` | turn images by multiples of 90 degrees at random |
| `shift` | largest shift in pixels, the border mirrored |
| `color_jitter` | strength of random brightness, contrast and saturation |
| `cutout` | side of a random square set to the mean colour, in pixels |
| `views` | average the prediction over so many views of an unsure image, see `VIEWS` |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.schema import require

OPTIMIZERS = ("adam", "adamw", "sgd", "muon")
SCHEDULES = ("constant", "one_cycle")
VIEWS = (1, 2, 4, 8)
"""1: the image; 2: and its mirror image; 4: mirrored at both axes; 8: and turned by 90 degrees."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The training keys of a configuration, checked; the module tells what they mean.

    Raises:
        InvalidInputError: If a value is outside its range.
    """

    batch_size: int
    learning_rate_init: float
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup_share: float = 0.25
    label_smoothing: float = 0.0
    flips: bool = False
    rotate90: bool = False
    shift: int = 0
    color_jitter: float = 0.0
    sure: float = 0.0
    cutout: int = 0
    views: int = 1

    def __post_init__(self) -> None:
        lr = self.learning_rate_init
        _check("batch_size >= 1", self.batch_size >= 1, self, "batch_size")
        _check("learning_rate_init > 0", 0 < lr < math.inf, self, "learning_rate_init")
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("views", VIEWS)):
            _check(f"{name} in {known}", getattr(self, name) in known, self, name)
        for name in ("momentum", "label_smoothing", "warmup_share"):
            _check(f"0 <= {name} < 1", 0 <= getattr(self, name) < 1, self, name)
        for name in ("weight_decay", "color_jitter"):
            _check(f"0 <= {name} < inf", 0 <= getattr(self, name) < math.inf, self, name)
        for name in ("shift", "cutout"):
            _check(f"0 <= {name} <= 16", 0 <= getattr(self, name) <= 16, self, name)

    @property
    def augments(self) -> bool:
        """True if a training image is ever changed."""
        return bool(
            self.flips or self.rotate90 or self.shift or self.cutout or self.color_jitter > 0
        )


def _check(rule: str, holds: bool, settings: Settings, name: str) -> None:
    require(holds, rule, **{name: getattr(settings, name)})


def read_settings(config: Mapping[str, Any]) -> Settings:
    """Take the training keys out of `config`.

    Raises:
        InvalidInputError: If a required key is missing, or a value is of the wrong type or
            outside its range.
    """
    kinds = {"int": int, "float": float, "bool": bool, "str": str}
    values: dict[str, Any] = {}
    for field in fields(Settings):
        if field.name not in config:
            if field.name in ("batch_size", "learning_rate_init"):
                raise InvalidInputError(f"a configuration must have {field.name!r}.")
            continue
        value = config[field.name]
        try:
            values[field.name] = kinds[str(field.type)](value)
        except (TypeError, ValueError):
            raise InvalidInputError(
                f"{field.name} must be of type {field.type}, but is {value!r}."
            ) from None
    return Settings(**values)
