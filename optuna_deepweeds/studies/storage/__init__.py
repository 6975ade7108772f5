"""The storage of studies: opened by `open_storage`, and made to outlive locks, races and restarts.

From below to above: `engine`; `retry`, `locks`; `rows`; `resilient`, `heartbeat`; `open`.
"""

from typing import TYPE_CHECKING, Any

from optuna_deepweeds.studies.storage.engine import default_url, redact
from optuna_deepweeds.studies.storage.open import open_storage

if TYPE_CHECKING:
    from optuna_deepweeds.studies.storage.resilient import ResilientStorage

__all__ = ["ResilientStorage", "default_url", "open_storage", "redact"]


def __getattr__(name: str) -> Any:
    # Imported when asked for: see `open`.
    if name != "ResilientStorage":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from optuna_deepweeds.studies.storage.resilient import ResilientStorage

    return ResilientStorage
