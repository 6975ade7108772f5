"""Errors that a user can act on; the command line prints each as one line.

The exit code belongs to the class, so that whoever raises decides what a script sees:
0 done; 1 failed; 2 usage; 3 no such study, trial or file; 4 spec mismatch; 5 storage;
129, 130 and 143 interrupted by the loss of the terminal, Ctrl-C and SIGTERM.
"""

from __future__ import annotations


class DeepWeedsError(Exception):
    """Something the user can mend; the message states the rule and then what came."""

    exit_code = 1


class InvalidInputError(DeepWeedsError, ValueError):
    """An option, a file or a value is not of the required form."""

    exit_code = 2


class NotFoundError(DeepWeedsError, LookupError):
    """A named study, trial, data set or file does not exist."""

    exit_code = 3


class SpecMismatchError(DeepWeedsError):
    """A study exists with another specification than the one asked for."""

    exit_code = 4


class StorageError(DeepWeedsError):
    """The storage cannot be reached or does not answer as it should."""

    exit_code = 5


class UnusableCheckpointError(InvalidInputError):
    """A checkpoint is damaged, or belongs to another run or another version."""


class TrainingError(DeepWeedsError):
    """One network could not be trained; its trial fails and the study goes on."""


class DivergedError(TrainingError):
    """The training loss became NaN or infinite."""


class OutOfMemoryError(TrainingError):
    """The network and its batch do not fit into the device's memory."""


class TrainingInterrupted(Exception):
    """`should_stop` became true within an epoch; a signal between callers, not an error."""
