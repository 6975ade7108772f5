"""What is imported from private modules of Optuna, nowhere else in this package.

The tables (`models`) and the session that commits or rolls back: to create and claim trials in
transactions of our own, and to insert many trials at once. Beyond these, `resilient` overrides
and calls private methods of Optuna's `RDBStorage`, and `_storage`, `_study_id` and `_trial_id` of
studies and trials, which have no public name, are used where they are needed.
"""

from optuna.distributions import check_distribution_compatibility
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session as scoped_transaction

__all__ = ["check_distribution_compatibility", "models", "scoped_transaction"]
