"""Files for the dashboard: curves, best network, confusion matrix, each once and up to date."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna_dashboard import get_note

from optuna_deepweeds import attributes
from optuna_deepweeds.datasets import Dataset
from optuna_deepweeds.report.artifacts import FOLDER_VARIABLE, artifact_folder, delete_artifacts
from optuna_deepweeds.report.dashboard_note import publish
from tests.studies.conftest import Bench


def files(study: optuna.Study) -> dict[str, str]:
    """File name -> artifact id of what the dashboard lists."""
    attrs = study._storage.get_study_system_attrs(study._study_id)
    entries = [json.loads(v) for k, v in attrs.items() if k.startswith("artifacts:")]
    return {e["filename"]: e["artifact_id"] for e in entries if e}


def publish_tested(study: optuna.Study, accuracy: float = 0.875, **changes: Any) -> None:
    """Publish the study once its first trial has been tested."""
    tested = {"trial": 0, "mean": accuracy, "seeds": [accuracy], "confusion": [[3, 1], [0, 4]],
              "recall": {"dark": 0.75, "bright": 1.0}}  # fmt: skip
    stored = {"dataset": "demo", "protocol": "holdout", "classes": ["dark", "bright"]}
    study.set_user_attr(attributes.EVALUATION, {**stored, "trials": [tested], **changes})
    publish(study)


@pytest.fixture
def bench(tmp_path: Path, tiny_images: Dataset) -> Bench:
    return Bench(tmp_path, tiny_images)


def test_network_and_confusion_are_kept_once_and_replaced(tmp_path: Path, bench: Bench) -> None:
    from optuna_deepweeds.training import TrainedNetwork

    study = bench.study(trials=1, epochs=1)
    bench.work(study)
    for _ in range(2):
        publish(study, task=bench.task(study))
    assert set(files(study)) == {"network-trial-0.pt", "curves-1-epochs.png"}
    assert f"/{files(study)['curves-1-epochs.png']})" in get_note(study).splitlines()[0]
    folder = tmp_path / "artifacts"
    network = TrainedNetwork.load(folder / files(study)["network-trial-0.pt"])
    assert network.predict_proba(bench.images.images[:2]).shape == (2, 2)

    publish_tested(study, 0.875)
    first = files(study)
    assert set(first) == {
        "network-trial-0.pt", "curves-1-epochs.png", "confusion-trial-0-8750.csv",
        "confusionmatrix-trial-0-8750.png",
    }  # fmt: skip
    table = (folder / first["confusion-trial-0-8750.csv"]).read_text()
    assert table.splitlines() == ["class,recall,dark,bright", "dark,0.75,3,1", "bright,1.0,0,4"]
    picture = folder / first["confusionmatrix-trial-0-8750.png"]
    assert picture.read_bytes().startswith(b"\x89PNG")

    publish_tested(study, 0.5)
    assert sorted(files(study).values()) == sorted(first.values())
    assert "confusion-trial-0-5000.csv" in files(study)
    assert len(list(folder.iterdir())) == 4


def test_names_of_classes_are_quoted(tmp_path: Path, bench: Bench) -> None:
    study = bench.study()
    publish_tested(study, classes=['lantana, "pink"', "$x^2$"])
    table = tmp_path / "artifacts" / files(study)["confusion-trial-0-8750.csv"]
    with table.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["class", "recall", 'lantana, "pink"', "$x^2$"]
    assert [len(row) for row in rows] == [4, 4, 4]


def test_file_deleted_in_the_dashboard_comes_back(tmp_path: Path, bench: Bench) -> None:
    study = bench.study()
    publish_tested(study)
    for artifact_id in files(study).values():
        (tmp_path / "artifacts" / artifact_id).unlink()
        study._storage.set_study_system_attr(study._study_id, f"artifacts:{artifact_id}", "null")
    publish(study)
    assert len(files(study)) == 2


def test_deleting_a_study_leaves_the_files_of_others(tmp_path: Path, bench: Bench) -> None:
    one, two = bench.study("one"), bench.study("two")
    for study in (one, two):
        publish_tested(study)
    key = f"artifacts:{next(iter(files(two).values()))}"
    shared = two._storage.get_study_system_attrs(two._study_id)[key]
    one._storage.set_study_system_attr(one._study_id, key, shared)
    delete_artifacts(one)
    left = {path.name for path in (tmp_path / "artifacts").iterdir()}
    assert left == set(files(two).values())


def test_no_attribute_leads_out_of_the_folder(tmp_path: Path, bench: Bench) -> None:
    study = bench.study()
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    entry = {"artifact_id": "../victim", "filename": "confusion-trial-0-1.csv"}
    for key, value in (("x", json.dumps(entry)), ("y", "junk"), ("z", "[1]"), ("null", "null")):
        study._storage.set_study_system_attr(study._study_id, f"artifacts:{key}", value)
    publish_tested(study)
    delete_artifacts(study)
    assert victim.read_text() == "untouched"
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_folder_that_cannot_be_written_costs_no_study(
    tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "file" / "artifacts"))
    publish_tested(bench.study())
    assert "were not written" in caplog.text


def test_folder_of_a_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    assert artifact_folder(f"sqlite:///{tmp_path}/s.db") == tmp_path / "artifacts"
    assert artifact_folder("postgresql://me@host/db") is None
    monkeypatch.setenv(FOLDER_VARIABLE, "/shared/files")
    assert artifact_folder("postgresql://me@host/db") == Path("/shared/files")
