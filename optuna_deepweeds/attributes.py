"""Keys of the attributes that this package writes into studies and trials.

Each key is one constant, so that a reader and a writer in different rooms cannot drift apart.
Optuna's tools show "user" attributes beside a study or trial, and not "system" attributes.
"""

from __future__ import annotations

_PREFIX = "deepweeds:"

# Studies, user attributes.
SPEC = _PREFIX + "spec"
"""dict: the study's specification (see `studies.spec.StudySpec`)."""
BUDGET = _PREFIX + "budget"
"""dict: what the study may spend in total (see `studies.spec.Budget`)."""
STOP = _PREFIX + "stop"
"""str: time (UTC) at which the study was asked to stop, or None; workers finish their trials and
leave."""
FLAT = _PREFIX + "flat"
"""dict: what the rest of the budget promised when the study ended as flat (see
`studies.ending.Outlook`), or None."""
UID = _PREFIX + "uid"
"""str: random identity of a study; it names the folder of its checkpoints, so that a new study
of an old name never meets the files of its predecessor."""
PRIOR_SUMMARY = _PREFIX + "prior_summary"
"""dict: for each imported source what was added, dropped and why."""
EVALUATION = _PREFIX + "evaluation"
"""dict: results on the test split, written by `study evaluate`."""

# Trials, user attributes.
SEED = _PREFIX + "seed"
"""int: the seed of the trial's training run."""
WORKER = _PREFIX + "worker"
"""str: the process that ran the trial (see `studies.storage.identity`)."""
ORIGIN = _PREFIX + "origin"
"""int: number of the trial whose checkpoint and curve this trial continues. The origin is
replaced by this trial in rung counts, sampler history and reports of best networks."""
ROOT = _PREFIX + "root"
"""int: number of the first trial of a chain of continuations; it names the checkpoint."""
RETRY_OF = _PREFIX + "retry_of"
"""int: number of the interrupted trial that this trial runs again (from a checkpoint when
ORIGIN is present too, else from the first epoch)."""
INHERITED = _PREFIX + "inherited"
"""int: epochs of this trial's curve that its origin trained (steps up to and including it)."""
CHECKPOINT = _PREFIX + "checkpoint"
"""int: epoch of the last checkpoint known to be written; the file may be newer, never older."""
SEGMENTS = _PREFIX + "segments"
"""list of [start, end] ISO times: earlier spells of a trial that was put back."""
TRAIN_SECONDS = _PREFIX + "train_seconds"
"""float: seconds spent training in this trial, without inherited epochs."""
ALLOWED = _PREFIX + "allowed"
"""int: reports that the curve of a running trial may come to; those that it has not made yet
count as spent (see `studies.ending`)."""
CLOSING = _PREFIX + "closing"
"""bool: the trial is trained to its end whatever the pruner says, since its study is to end with
its best network trained (see `studies.ending`)."""
ANTICIPATION = _PREFIX + "anticipation"
"""dict: what DORA foresaw at its last decision, with the keys `epoch` (int), `expected`, `low`,
`high` (float, the final value and its interval; the first is None after a report that is not
finite, the others too while nothing is known of gains), `incumbent` (float or None), `decision`
("continue", "stop" or "pause") and `reason` (str)."""
SUGGESTED = _PREFIX + "suggested"
"""str: where the sampler got the configuration: "start" (drawn, there was no model yet), "model",
or "probe", from the model as well, but DORA lets it go on whatever its rank, so that the study
learns where first steps mislead."""
FAILURE = _PREFIX + "failure"
"""str: one line telling why the trial failed."""
TRACEBACK = _PREFIX + "traceback"
"""str: the traceback of a failed trial."""
ENQUEUED_PRIOR = _PREFIX + "enqueued_prior"
"""str: digest of the prior row whose parameters were enqueued as this trial. DORA lets it go on to
its end while nothing has finished."""
PRIOR = _PREFIX + "prior"
"""str: the source of an imported trial. Such trials lie in a study's companion (the study that
`StudySpec.priors` names), never in the study itself."""
PRIOR_ROW = _PREFIX + "prior_row"
"""str: digest of the row that an imported trial came from; no row is imported twice."""

# Trials, system attributes.
INTERRUPTED = _PREFIX + "interrupted"
"""str: the trial failed because its worker died, at the latest at this ISO time; another one runs
it again."""
