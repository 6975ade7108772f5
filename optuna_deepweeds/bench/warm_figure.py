"""The figure of what priors are worth: how good the best network is against epochs, by kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from optuna_deepweeds.bench.priors import KINDS, NO_PRIORS
from optuna_deepweeds.bench.results import Run
from optuna_deepweeds.bench.summary import course

_NAMES = {
    NO_PRIORS: "no priors",
    "well": "priors that do well",
    "medium": "medium",
    "mislead": "that mislead",
    "deceive": "that deceive (turned around)",
    "unrelated": "that say nothing",
}
_COLOURS = ("#000000", "#1b7837", "#7fbf7b", "#e08214", "#b2182b", "#878787")


def draw(runs: Sequence[Run], n_trainings: int, figure: Any) -> None:
    """Mean regret over tasks of the trial with the best report, were it trained to its end.

    Args:
        runs: Of one sampler and pruner, with and without priors; bands are one standard error of
            the paired difference to no priors.
        n_trainings: End of the axis.
        figure: An empty one of matplotlib.
    """
    from matplotlib.ticker import NullLocator, ScalarFormatter

    found: dict[str, dict[str, list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    length = runs[0].case["max_resource"]
    for run in runs:
        epochs, regrets = zip(*run.results["incumbent"], strict=True)
        kind = run.method["priors"].partition("/")[0]
        line = course(epochs, regrets, n_trainings * length, before=1.0)
        found[kind][run.case["task"]].append(line)
    means = {
        kind: np.array([np.mean(lines, axis=0) for _, lines in sorted(tasks.items())])
        for kind, tasks in found.items()
    }
    axes = figure.subplots()
    x = np.arange(1, n_trainings * length + 1) / length
    for kind, colour in zip((NO_PRIORS, *KINDS), _COLOURS, strict=True):
        if kind not in means:
            continue
        y = means[kind].mean(axis=0)
        axes.step(x, y, where="post", color=colour, label=_NAMES[kind])
        if kind != NO_PRIORS and len(means[kind]) > 1:
            change = means[kind] - means[NO_PRIORS]
            error = change.std(axis=0, ddof=1) / np.sqrt(len(change))
            axes.fill_between(x, y - error, y + error, color=colour, alpha=0.12, linewidth=0)
    axes.set(
        xscale="log",
        xlim=(x[0], n_trainings),
        ylim=(0, 1),
        xlabel=f"epochs, in trainings of {length}",
        ylabel="regret of the network that looks best",
    )
    axes.set_xticks([t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if t <= n_trainings])
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
