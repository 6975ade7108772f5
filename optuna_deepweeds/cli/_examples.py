"""Examples under the help of every command, in one place, so that they tell one story.

A test parses each of them. A command shows those that begin with its name, a group the first of
each of its commands.
"""

from __future__ import annotations

from collections.abc import Sequence

_PROGRAM = "optuna-deepweeds"
_MOST_OF_A_GROUP = 5

_EXAMPLES = """
study run  # rf_ei and dora on the images there are
study run mine --trials 60 --timeout 2h --seed 7
study run mine --trials 100  # the same study goes on to 100
study run mine --priors runs.csv --enqueue-best 3
study run mine --workers 4 --storage studies.db
study resume mine  # after a crash
study resume mine --trials 200 --workers 4
study status mine
study status mine -f json
study trials mine --state complete --params
study trials mine --failed --traceback
study trials mine -f csv > trials.csv
study best mine
study best mine --save mine.pt
study best mine --trial 17 -f json
study list
study list -f csv
study list --storage postgresql://me@host/studies
study stop mine
study evaluate mine
study evaluate mine --top-k 3 --seeds 5 -f json > test.json
study evaluate mine --recipe tuned --output mine.pt
study report mine
study report mine -o mine.html --png figures/
study compare random-1 random-2 forest-1 forest-2
study compare a b c --pairs --baseline 'random + none'
study compare a b --html compare.html --png figures/
study export mine mine.jsonl.gz
study import mine.jsonl.gz --storage other.db
study import mine.jsonl.gz --name copy
study fork mine mine-2
study reap mine
study delete mine
study delete mine --yes
worker mine --storage postgresql://me@host/studies
worker mine --device cuda:1
data prepare
data prepare --images images.zip --labels labels/
data info
data info deepweeds --fold 2
data info demo -f csv
priors list
priors show runs.csv --space course
priors show 'sqlite:///studies.db#first' --space course
priors import runs.csv --study mine --enqueue-best 3
priors export mine priors/mine.csv
experiment plan published  # what it would cost
experiment plan mine.toml -f csv
experiment run small  # run it, or go on with it
experiment run published --device cuda:0 --jobs 3
experiment run mine.toml --test-seeds 3
experiment report small  # as far as it has come
experiment report small -o small.html --png figures/
predict mine.pt photo.jpg
predict mine.pt photos/ --top 1 -f csv > weeds.csv
dashboard
dashboard --port 8081 --storage storage/other.db
dashboard --host 0.0.0.0 --read-only  # for other machines
bench samplers --quick
bench samplers --tasks fcnet --samplers tpe,rf_ei --seeds 20
bench pruners --curves priors/deepweeds-balanced.csv --quick
bench pruners --curves 'taskset/*.npz' --output runs.jsonl
bench storage --trials 1000
bench storage --storage postgresql://me@localhost/empty
bench cost --samplers tpe,rf_ei --trials 200,1000
bench fcnet --quick
bench accuracy --config course --seeds 1
bench training --quick
""".strip().splitlines()


def epilog_of(path: Sequence[str], *, is_group: bool) -> str | None:
    """The examples of a command or a group as the end of its help page; None without any.

    Args:
        path: Names of the command's groups and its own, without the program's.
        is_group: Whether it is a group.
    """
    lines = [line for line in _EXAMPLES if line.split()[: len(path)] == list(path)]
    if is_group:
        firsts = {line.split()[len(path)]: line for line in reversed(lines)}
        lines = [line for line in lines if line in firsts.values()][:_MOST_OF_A_GROUP]
    if not lines:
        return None
    return "\n".join(["\b", "Examples:", *(f"  {_PROGRAM} {line}" for line in lines)])
