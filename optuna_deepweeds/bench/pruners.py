"""One replayed run of a sampler and a pruner on recorded curves, and the grid of them."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from optuna_deepweeds.bench import priors
from optuna_deepweeds.bench.dyhpo import DyHPO
from optuna_deepweeds.bench.families import curves_of
from optuna_deepweeds.bench.methods import (
    DYHPO,
    make_pruner,
    make_sampler,
    takes_prior_curves,
)
from optuna_deepweeds.bench.replay import Simulation, generator
from optuna_deepweeds.bench.results import Cell
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.schema import choose
from optuna_deepweeds.seeds import derive

NO_PRIORS = "none"


def grid(
    curves: Sequence[str],
    pruners: Sequence[str],
    samplers: Sequence[str] = ("random",),
    *,
    max_resources: Sequence[int] = (),
    workers: Sequence[int] = (1,),
    noises: Sequence[float] = (0.0,),
    misleads: Sequence[float] = (0.0,),
    prior_curves: Sequence[str] = (NO_PRIORS,),
    budget: int,
    seeds: Sequence[int],
) -> list[Cell]:
    """Every combination as a cell, seeds slowest, so that an interrupted grid has whole seeds.

    Pruners that cannot be given prior curves run without, and so does every other one as a
    control. Where there are prior curves at all, every run leaves the same configurations out.

    Args:
        curves: Sources, see `families.curves_of`.
        pruners: Descriptions, see `methods.make_pruner`, or `DYHPO`, under itself alone.
        samplers: Descriptions of what chooses configurations, see `methods.make_sampler`.
        max_resources: Epochs of a full training; none means the curves' own length.
        workers: Simulated workers.
        noises: Standard deviations of the noise on reports.
        misleads: Shares of the first epochs in which the configurations' order is reversed.
        prior_curves: What pruners are given beforehand, of `priors.CURVES`.
        budget: Full trainings to pay for.
        seeds: Of the order, the noise, sampler and pruner, and what is held out.

    Raises:
        InvalidInputError: A name is unknown, curves are too short, two sources have the same task
            name, no pruner can be given prior curves, or there is no other task for related ones.
    """
    kinds = list(dict.fromkeys((NO_PRIORS, *prior_curves)))
    for kind in kinds:
        choose("kind of prior curves", kind, priors.CURVES)
    for sampler in samplers:
        make_sampler(sampler, seed=0)  # what is refused is refused before the first run
    pairs = [(s, p) for s in samplers for p in pruners if p != DYHPO]
    if DYHPO in pruners:
        pairs.append((DYHPO, DYHPO))
    pruners = list(dict.fromkeys(pruner for _, pruner in pairs))
    kinds_of = {name: kinds if takes_prior_curves(name) else [NO_PRIORS] for name in pruners}
    if not pruners or (len(kinds) > 1 and all(len(own) == 1 for own in kinds_of.values())):
        needed = "one of dora and dora-thaw for prior curves" if pruners else "at least one"
        raise InvalidInputError(f"--pruners must name {needed}, but got {', '.join(pruners)!r}.")
    names: dict[str, str] = {}
    cells = []
    for source in curves:
        name = curves_of(source).name
        if names.setdefault(name, source) != source:
            raise InvalidInputError(
                f"every source of curves must have a name of its own, but {source} and "
                f"{names[name]} are both {name!r}."
            )
        others = tuple(other for other in curves if other != source)
        if "related" in kinds and not others:
            raise InvalidInputError(
                f"related prior curves need curves of at least two tasks, but got {source} alone."
            )
        for n_epochs in max_resources or (curves_of(source).n_epochs,):
            table = curves_of(source).cut(n_epochs)
            for pruner in {*pruners} - {DYHPO}:
                make_pruner(pruner, max_resource=n_epochs, seed=0)
            case = {
                "task": name,
                "digest": table.digest,
                "max_resource": n_epochs,
                "held_out": priors.n_held_out(table) if len(kinds) > 1 else 0,
            }
            given = {kind: others if kind == "related" else () for kind in kinds}
            digests = {kind: _digest(given[kind], n_epochs) for kind in kinds}
            for n_workers, noise, mislead, (sampler, pruner), seed in itertools.product(
                workers, noises, misleads, pairs, seeds
            ):
                setting = {**case, "workers": n_workers, "noise": noise, "mislead": mislead}
                for kind in kinds_of[pruner]:
                    method = {"sampler": sampler, "pruner": pruner, "prior_curves": kind}
                    method["prior_digest"] = digests[kind]
                    cells.append(Cell(setting, method, seed, budget, (source, *given[kind])))
    return sorted(cells, key=lambda cell: cell.seed)


def run_cell(cell: Cell, dyhpo_python: str | None = None) -> dict[str, Any]:
    """Replay one cell.

    Returns:
        Figures of `replay.Outcome`; `finished` and `incumbent` are courses of the regret.
    """
    case, method, n_epochs = cell.case, cell.method, cell.case["max_resource"]
    whole, *related = (curves_of(source).cut(n_epochs) for source in cell.sources)
    started = time.perf_counter()
    table, held_out = priors.hold_out(whole, case["held_out"], seed=cell.seed)
    prior = priors.pruner_options(method["prior_curves"], held_out, related, seed=cell.seed)
    reported = table.reported(
        noise=case["noise"], mislead=case["mislead"], rng=generator(cell.seed, table, 1)
    )
    seed = derive(cell.seed, "method", table.name)
    sampler: BaseSampler
    pruner: BasePruner
    if method["pruner"] == DYHPO:
        sampler = pruner = DyHPO(table, seed=seed, python=dyhpo_python)
    else:
        sampler = make_sampler(method["sampler"], seed=seed, space=table.space)
        pruner = make_pruner(method["pruner"], max_resource=n_epochs, seed=seed, prior=prior)
    simulation = Simulation(table, pruner, seed=cell.seed, sampler=sampler, reported=reported)
    try:
        outcome = simulation.run(max_epochs=cell.budget * n_epochs, workers=case["workers"])
    finally:
        if isinstance(pruner, DyHPO):
            pruner.close()
    times = outcome.decision_times + outcome.choice_times
    return {
        "epochs": outcome.epochs,
        "trials": outcome.trials,
        "continuations": outcome.continuations,
        "decision_ms": 1e3 * float(np.median(times or [0.0])),  # the mean tells of a busy machine
        "seconds": time.perf_counter() - started,
        "finished": [[epochs, round(regret, 6)] for epochs, regret in outcome.finished],
        "incumbent": [[epochs, round(regret, 6)] for epochs, regret in outcome.incumbent],
    }


def _digest(sources: Sequence[str], n_epochs: int) -> str:
    """Eight hexadecimal digits for the curves of several tasks; nothing for none."""
    if not sources:
        return ""
    together = "".join(curves_of(source).cut(n_epochs).digest for source in sources)
    return hashlib.sha256(together.encode()).hexdigest()[:8]
