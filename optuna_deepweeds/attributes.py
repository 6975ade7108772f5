"""Keys of the attributes that this package writes into studies and trials.

Each key is one constant, so that a reader and a writer in different rooms cannot drift apart.
"User" attributes are shown by the dashboard; "system" attributes decide and are not.
"""

from __future__ import annotations

_PREFIX = "deepweeds:"

# Studies, user attributes.
SPEC = _PREFIX + "spec"
"""dict: the study's specification (see `studies.spec.StudySpec`)."""

# Trials, user attributes.
PRIOR = _PREFIX + "prior"
"""str: the source of an imported trial. Such a trial never counts towards budget, best trial,
report or pruning decisions."""
SEED = _PREFIX + "seed"
"""int: the seed of the trial's training run."""
FAILURE = _PREFIX + "failure"
"""str: one line telling why the trial failed."""
TRACEBACK = _PREFIX + "traceback"
"""str: the traceback of a failed trial."""
TRAIN_SECONDS = _PREFIX + "train_seconds"
"""float: seconds spent training in this trial, without inherited epochs."""
ANTICIPATION = _PREFIX + "anticipation"
"""dict: what DORA foresaw at its last decision, with the keys `epoch` (int), `expected`, `low`,
`high` (float, the final value and its interval), `incumbent` (float or None), `decision`
("continue", "stop" or "pause") and `reason` (str)."""
ORIGIN = _PREFIX + "origin"
"""int: number of the trial whose checkpoint and curve this trial continues. The origin is
replaced by this trial in rung counts, sampler history and reports of best networks."""
ROOT = _PREFIX + "root"
"""int: number of the first trial of a chain of continuations; it names the checkpoint."""
RETRY_OF = _PREFIX + "retry_of"
"""int: number of the interrupted trial that this trial runs again (from a checkpoint when
ORIGIN is present too, else from the first epoch)."""

# Trials, system attributes.
CONTINUED_BY = _PREFIX + "continued_by"
"""int: number of the trial that continues this one (set under the study's lock)."""
RUNG = _PREFIX + "rung:"
"""float: value at a rung; the key is completed by the rung's epoch."""
INTERRUPTED = _PREFIX + "interrupted"
"""bool: the trial was put back by a worker that was told to stop, or reaped after its death."""
