"""One replayed run of a sampler and a pruner on recorded curves, and the grid of them."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from optuna_deepweeds.bench import priors
from optuna_deepweeds.bench.dyhpo import DyHPO
from optuna_deepweeds.bench.families import curves_of, family_of
from optuna_deepweeds.bench.methods import (
    DYHPO,
    make_pruner,
    make_sampler,
    takes_priors,
)
from optuna_deepweeds.bench.priors import NO_PRIORS
from optuna_deepweeds.bench.replay import Simulation, generator
from optuna_deepweeds.bench.results import Cell
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.samplers import portfolio
from optuna_deepweeds.seeds import derive


def grid(
    curves: Sequence[str],
    pruners: Sequence[str],
    samplers: Sequence[str] = ("random",),
    *,
    max_resources: Sequence[int] = (),
    workers: Sequence[int] = (1,),
    noises: Sequence[float] = (0.0,),
    given: Sequence[str] = (NO_PRIORS,),
    budget: int,
    seeds: Sequence[int],
) -> list[Cell]:
    """Every combination as a cell, seeds slowest, so that an interrupted grid has whole seeds.

    Samplers that take no priors run without, and so does every other one as a control.

    Args:
        curves: Sources, see `families.curves_of`.
        pruners: Descriptions, see `methods.make_pruner`, or `DYHPO`, under itself alone.
        samplers: Descriptions of what chooses configurations, see `methods.make_sampler`.
        max_resources: Epochs of a full training; none means the curves' own length.
        workers: Simulated workers.
        noises: Standard deviations of the noise on reports.
        given: What samplers are given beforehand of the other tasks of the family: `NO_PRIORS`
            or as `priors.parse` reads it.
        budget: Full trainings to pay for.
        seeds: Of the order, the noise, sampler, pruner and priors.

    Raises:
        InvalidInputError: A name is unknown, curves are too short, two sources have the same task
            name, no sampler takes priors, or no family has several tasks.
    """
    kinds = list(dict.fromkeys((NO_PRIORS, *given)))
    for kind in kinds:
        priors.parse(kind)
    for sampler in samplers:
        make_sampler(sampler, seed=0)  # what is refused is refused before the first run
    pairs = [(s, p) for s in samplers for p in pruners if p != DYHPO]
    if DYHPO in pruners:
        pairs.append((DYHPO, DYHPO))
    if not pairs:
        raise InvalidInputError("--pruners and --samplers must name at least one each.")
    if len(kinds) > 1 and not any(takes_priors(sampler) for sampler in samplers):
        raise InvalidInputError(
            f"--samplers must name rf_ei or dngo for priors, but got {', '.join(samplers)!r}."
        )
    names: dict[str, str] = {}
    cells = []
    for source in curves:
        name = curves_of(source).name
        if names.setdefault(name, source) != source:
            raise InvalidInputError(
                f"every source of curves must have a name of its own, but {source} and "
                f"{names[name]} are both {name!r}."
            )
        family = family_of(source)
        others = tuple(o for o in curves if o != source and family_of(o) == family)
        for n_epochs in max_resources or (curves_of(source).n_epochs,):
            table = curves_of(source).cut(n_epochs)
            for pruner in {pruner for _, pruner in pairs} - {DYHPO}:
                make_pruner(pruner, max_resource=n_epochs, seed=0)
            case = {"task": name, "digest": table.digest, "max_resource": n_epochs}
            digest = _digest(others, n_epochs) if len(kinds) > 1 else ""
            for n_workers, noise, (sampler, pruner), kind, seed in itertools.product(
                workers, noises, pairs, kinds, seeds
            ):
                method = {"sampler": sampler, "pruner": pruner, "priors": kind, "prior_digest": ""}
                sources: tuple[str, ...] = (source,)
                if kind != NO_PRIORS:
                    if not takes_priors(sampler) or not others:
                        continue
                    method["prior_digest"] = digest
                    sources += others
                setting = {**case, "workers": n_workers, "noise": noise}
                cells.append(Cell(setting, method, seed, budget, sources))
    return sorted(cells, key=lambda cell: cell.seed)


def run_cell(cell: Cell, dyhpo_python: str | None = None) -> dict[str, Any]:
    """Replay one cell.

    Returns:
        Figures of `replay.Outcome`; `finished` and `incumbent` are courses of the regret.
    """
    case, method, n_epochs = cell.case, cell.method, cell.case["max_resource"]
    table, *others = (curves_of(source).cut(n_epochs) for source in cell.sources)
    started = time.perf_counter()
    reported = table.reported(case["noise"], generator(cell.seed, table, 1))
    seed = derive(cell.seed, "method", table.name)
    sampler: BaseSampler
    pruner: BasePruner
    enqueued: Sequence[Mapping[str, Any]] = ()
    if method["pruner"] == DYHPO:
        sampler = pruner = DyHPO(table, seed=seed, python=dyhpo_python)
    else:
        kind, n_enqueued = priors.parse(method["priors"])
        known = priors.of_curves(others, table, seed=cell.seed, kind=kind)
        enqueued = portfolio(known, table.distributions, n_enqueued, table.space)
        sampler = make_sampler(method["sampler"], seed=seed, space=table.space, priors=known)
        pruner = make_pruner(method["pruner"], max_resource=n_epochs, seed=seed)
    simulation = Simulation(
        table, pruner, seed=cell.seed, sampler=sampler, reported=reported, enqueued=enqueued
    )
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
    """Eight hexadecimal digits for the curves of several tasks."""
    together = "".join(curves_of(source).cut(n_epochs).digest for source in sources)
    return hashlib.sha256(together.encode()).hexdigest()[:8]
