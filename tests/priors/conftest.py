"""The published prior file and small tables of trials."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_NAME = "priors/deepweedsx_balanced-epochs-trimmed.csv"

_GOOD_CONFIG: dict[str, object] = {
    "n_conv_layers": 2, "use_BN": True, "global_avg_pooling": False, "n_channels_conv_0": 64,
    "n_channels_conv_1": 128.0, "n_channels_conv_2": "", "n_fc_layers": 1, "n_channels_fc_0": 32,
    "n_channels_fc_1": "", "n_channels_fc_2": "", "batch_size": 32, "learning_rate_init": 0.001,
    "kernel_size": 3, "dropout_rate": 0.2, "device": "cpu",
}  # fmt: skip
GOOD_ROW = {
    "config_id": "1", "budget": "20.0", "cost": "0.4", "time": "12.5",
    "status": "StatusType.SUCCESS",
    **{f"config:{name}": str(value) for name, value in _GOOD_CONFIG.items()},
}  # fmt: skip


def history(*rows: dict[str, str]) -> str:
    """A run-history CSV whose rows are `GOOD_ROW` with changes."""
    lines = [GOOD_ROW, *({**GOOD_ROW, **changes}.values() for changes in rows)]
    return "".join(",".join(line) + "\n" for line in lines)


@pytest.fixture
def course_file() -> Path:
    """The 75 published trials."""
    shared = os.environ.get("DEEPWEEDS_SHARED")
    root = Path(shared) if shared else Path(__file__).resolve().parents[2].parent / "shared"
    if not (root / _NAME).exists():
        pytest.skip(f"the published prior file {_NAME} is not beside this checkout")
    return root / _NAME
