"""The published prior file and small tables of trials."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_NAME = "priors/deepweedsx_balanced-epochs-trimmed.csv"

HISTORY_HEADER = (
    "config_id,budget,cost,time,status,config:n_conv_layers,config:use_BN,"
    "config:global_avg_pooling,config:n_channels_conv_0,config:n_channels_conv_1,"
    "config:n_channels_conv_2,config:n_fc_layers,config:n_channels_fc_0,"
    "config:n_channels_fc_1,config:n_channels_fc_2,config:batch_size,"
    "config:learning_rate_init,config:kernel_size,config:dropout_rate,config:device"
)
GOOD_ROW = {
    "config_id": "1",
    "budget": "20.0",
    "cost": "0.4",
    "time": "12.5",
    "status": "StatusType.SUCCESS",
    "config:n_conv_layers": "2",
    "config:use_BN": "True",
    "config:global_avg_pooling": "False",
    "config:n_channels_conv_0": "64",
    "config:n_channels_conv_1": "128.0",
    "config:n_channels_conv_2": "",
    "config:n_fc_layers": "1",
    "config:n_channels_fc_0": "32",
    "config:n_channels_fc_1": "",
    "config:n_channels_fc_2": "",
    "config:batch_size": "32",
    "config:learning_rate_init": "0.001",
    "config:kernel_size": "3",
    "config:dropout_rate": "0.2",
    "config:device": "cpu",
}


def history(*rows: dict[str, str]) -> str:
    """A run-history CSV whose rows are `GOOD_ROW` with changes."""
    lines = [HISTORY_HEADER]
    for changes in rows:
        row = {**GOOD_ROW, **changes}
        lines.append(",".join(row[column] for column in HISTORY_HEADER.split(",")))
    return "\n".join(lines) + "\n"


@pytest.fixture
def course_file() -> Path:
    """The 75 published trials."""
    shared = os.environ.get("DEEPWEEDS_SHARED")
    root = Path(shared) if shared else Path(__file__).resolve().parents[2].parent / "shared"
    if not (root / _NAME).exists():
        pytest.skip(f"the published prior file {_NAME} is not beside this checkout")
    return root / _NAME
