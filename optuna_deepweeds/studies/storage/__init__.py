"""The storage of studies: opened by `open_storage`, and made to outlive locks, races and restarts.

From below to above: `engine`; `retry`, `locks`; `rows`; `resilient`, `heartbeat`; `open`.
"""

from optuna_deepweeds.studies.storage.engine import default_url, redact
from optuna_deepweeds.studies.storage.open import open_storage
from optuna_deepweeds.studies.storage.resilient import ResilientStorage

__all__ = ["ResilientStorage", "default_url", "open_storage", "redact"]
