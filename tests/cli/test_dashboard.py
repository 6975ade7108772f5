"""The dashboard as a browser meets it: a real server on a real storage."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna

from optuna_deepweeds import attributes
from optuna_deepweeds.studies.storage import open_storage


@contextmanager
def _dashboard(url: str, *options: str) -> Iterator[str]:
    """The address of a running dashboard."""
    command = [sys.executable, "-m", "optuna_deepweeds", "dashboard", "--port", "0", *options]
    with subprocess.Popen(
        [*command, "--storage", url],
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in the background ignore Ctrl-C, and their children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line.startswith("Dashboard: "):
                    yield line.split()[1]
                    break
        finally:
            process.send_signal(signal.SIGINT)
            process.stderr.read()
    assert process.returncode == 0


def _status(address: str, method: str) -> int:
    request = urllib.request.Request(f"{address}api/studies/1", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_it_serves_the_studies_and_read_only_refuses_changes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    study = optuna.create_study(study_name="mine", storage=open_storage(url))
    study.set_user_attr(attributes.SPEC, {"sampler": "rf_ei", "seed": 0, "folder": ""})
    foreseen = {"epoch": 1, "expected": 0.5, "low": 0.25, "high": 0.75, "decision": "pause"}
    told = {attributes.SEED: 1, attributes.ANTICIPATION: foreseen}
    study.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.PRUNED, intermediate_values={1: 1.0}, user_attrs=told
        )
    )
    with _dashboard(url, "--read-only") as address:
        with urllib.request.urlopen(f"{address}api/studies", timeout=30) as answer:
            assert [s["study_name"] for s in json.load(answer)["study_summaries"]] == ["mine"]
        with urllib.request.urlopen(f"{address}api/studies/1", timeout=30) as answer:
            page = json.load(answer)
        assert page["user_attrs"] == [{"key": attributes.SPEC, "value": "sampler rf_ei, seed 0"}]
        said = {attr["key"]: attr["value"] for attr in page["trials"][0]["user_attrs"]}
        assert said["foreseen"] == "0.5 (0.25 to 0.75)" and "{" not in str(said.values())
        assert said["train it again"].startswith("optuna-deepweeds study best mine --trial 0")
        assert _status(address, "DELETE") == 403
    with _dashboard(url) as address:
        assert _status(address, "DELETE") == 204
    assert open_storage(url).get_all_studies() == []
