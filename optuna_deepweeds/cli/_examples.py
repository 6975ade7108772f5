"""Examples under the help of every command that brings none of its own.

They stand together so that they tell one story, and a test parses each of them.
"""

from __future__ import annotations

from collections.abc import Sequence

_PROGRAM = "optuna-deepweeds"

EXAMPLES: dict[str, tuple[str, ...]] = {
    "study resume": (
        "study resume mine",
        "study resume mine --trials 200 --workers 4",
    ),
    "study stop": ("study stop mine",),
    "study list": (
        "study list",
        "study list -f csv",
        "study list --storage postgresql://me@host/studies",
    ),
    "study status": ("study status mine", "study status mine -f json"),
    "study best": (
        "study best mine",
        "study best mine --save mine.pt",
        "study best mine --trial 17 -f json",
    ),
    "study trials": (
        "study trials mine --state complete --params",
        "study trials mine --failed --traceback",
        "study trials mine -f csv > trials.csv",
    ),
    "study evaluate": (
        "study evaluate mine",
        "study evaluate mine --top-k 3 --seeds 5 -f json > test.json",
        "study evaluate mine --recipe tuned --output mine.pt",
    ),
    "study export": ("study export mine mine.jsonl.gz",),
    "study import": (
        "study import mine.jsonl.gz --storage other.db",
        "study import mine.jsonl.gz --name copy",
    ),
    "study reap": ("study reap mine",),
    "study delete": ("study delete mine", "study delete mine --yes"),
    "worker": (
        "worker mine --storage postgresql://me@host/studies",
        "worker mine --device cuda:1",
    ),
    "data": ("data prepare", "data info", "data info deepweeds-balanced"),
    "data info": ("data info", "data info deepweeds --fold 2", "data info demo -f csv"),
    "data prepare": (
        "data prepare",
        "data prepare --images images.zip --labels labels/",
    ),
    "priors list": ("priors list",),
    "priors show": (
        "priors show runs.csv --space course",
        "priors show 'sqlite:///studies.db#first' --space course",
    ),
    "priors import": ("priors import runs.csv --study mine --enqueue-best 3",),
    "priors export": ("priors export mine priors/mine.csv",),
    "experiment plan": ("experiment plan published", "experiment plan mine.toml -f csv"),
    "experiment report": (
        "experiment report small",
        "experiment report small -o small.html --png figures/",
    ),
    "predict": (
        "predict mine.pt photo.jpg",
        "predict mine.pt photos/ --top 1 -f csv > weeds.csv",
    ),
    "bench": (
        "bench samplers --quick",
        "bench pruners --curves priors/deepweeds-balanced.csv --quick",
        "bench storage --trials 1000",
    ),
    "bench samplers": (
        "bench samplers --quick",
        "bench samplers --tasks fcnet --samplers tpe,rf_ei --seeds 20",
    ),
    "bench cost": ("bench cost --samplers tpe,rf_ei --trials 200,1000",),
    "bench fcnet": ("bench fcnet --quick",),
    "bench pruners": (
        "bench pruners --curves priors/deepweeds-balanced.csv --quick",
        "bench pruners --curves 'taskset/*.npz' --output runs.jsonl",
    ),
    "bench accuracy": ("bench accuracy --config course --seeds 1",),
    "bench training": ("bench training --quick",),
    "bench storage": (
        "bench storage --trials 1000",
        "bench storage --storage postgresql://me@localhost/empty",
    ),
}


def epilog_of(path: Sequence[str]) -> str | None:
    """The examples of a command as the end of its help page; None without any.

    Args:
        path: Names of the command's groups and its own, without the program's.
    """
    lines = EXAMPLES.get(" ".join(path))
    if lines is None:
        return None
    return "\n".join(["\b", "Examples:", *(f"  {_PROGRAM} {line}" for line in lines)])
