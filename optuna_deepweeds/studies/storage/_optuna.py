"""The private names of Optuna that this room cannot do without, in one place.

The tables (`models`) and the session that commits or rolls back: to create and claim trials in
transactions of our own, and to insert many trials at once.
"""

from optuna.distributions import check_distribution_compatibility
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session as scoped_transaction

__all__ = ["check_distribution_compatibility", "models", "scoped_transaction"]
