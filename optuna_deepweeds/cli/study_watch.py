"""`study watch`: a study under way, seen from any terminal."""

from __future__ import annotations

import time

import click

from optuna_deepweeds.cli._complete import study_name
from optuna_deepweeds.cli._output import info, storage_option
from optuna_deepweeds.cli._values import Duration


@click.command()
@study_name
@click.option("--every", type=Duration(), default="2s", help="How often to read the storage.")
@storage_option
def watch(name: str, every: float, storage_url: str | None) -> None:
    """Show study NAME as it goes on, until nothing runs any more or Ctrl-C.

    Each trial that ends leaves a line, a terminal also shows what runs now. The study does not
    notice.
    """
    from optuna_deepweeds.cli._display import Display
    from optuna_deepweeds.report.standing import standing_of
    from optuna_deepweeds.studies import manager

    study = manager.find(name, storage_url, single=True)
    display = Display(study, manager.study_budget(study))
    try:
        display.refresh()
        while display.state.running:
            time.sleep(max(0.1, every))
            display.refresh()
    except KeyboardInterrupt:
        pass
    finally:
        display.clear()
    info(standing_of(study))
