"""Tasks: what one trial of a study does, and what a worker lends to it meanwhile."""

from __future__ import annotations

from optuna_deepweeds.tasks.function_task import FunctionTask
from optuna_deepweeds.tasks.image_task import ImageTask, make_task
from optuna_deepweeds.tasks.run import Allowance, Run, training_seed
from optuna_deepweeds.tasks.script_task import ScriptTask
from optuna_deepweeds.tasks.task import Task

__all__ = [
    "Allowance",
    "FunctionTask",
    "ImageTask",
    "Run",
    "ScriptTask",
    "Task",
    "make_task",
    "training_seed",
]
