"""The page of one study: complete, offline, escaped, and standing on any study."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.report.cleaned import cleaned
from optuna_deepweeds.report.dashboard_note import publish
from optuna_deepweeds.report.figures import own_figures, study_figures
from optuna_deepweeds.report.pages import note, write_pngs, write_study
from optuna_deepweeds.report.view import StudyView
from tests.report.conftest import (
    EPOCHS,
    assert_every_name_has_something_to_see,
    make_study,
    odd_studies,
    trial_at,
    view_of,
)

ODD = tuple(odd_studies())


def tags_alone(page: str) -> str:
    """A page without what is within its scripts and styles."""
    return re.sub(r"(?s)(<(script|style)\b[^>]*>).*?(?=</\2>)", r"\1", page)


def page(study: optuna.Study, path: Path) -> tuple[str, str]:
    """The page of a study, and the text that one sees of it."""
    write_study(StudyView.of(study), path)
    text = path.read_text()
    return text, " ".join(html.unescape(re.sub("<[^>]*>", " ", tags_alone(text))).split())


def test_page_has_every_part(study: optuna.Study, tmp_path: Path) -> None:
    _, seen = page(study, tmp_path / "r.html")
    for part in (
        "Learning curves", "Optimisation history", "Best trials",
        "Parameter importance", "Slices", "Parallel coordinates", "Timeline",
        "Foreseen and what came", "Every trial",
        "Settings",
    ):  # fmt: skip
        assert part in seen
    assert "18 finished trials: 12 complete, 6 stopped." in seen
    assert set(study_figures(StudyView.of(study))) == {
        "learning-curves", "history", "timeline", "importance", "slices", "parallel",
        "anticipation",
    }  # fmt: skip


def test_page_has_every_figure_once_also_a_new_one(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = study_figures(StudyView.of(study))
    figures["new"] = replace(figures["timeline"], key="new", title="Something new")
    monkeypatch.setattr("optuna_deepweeds.report.figures.study_figures", lambda view: figures)
    text, seen = page(study, tmp_path / "r.html")
    assert [text.count(f'id="figure-{key}"') for key in figures] == [1] * len(figures)
    assert "Something new" in seen


def test_page_loads_nothing_and_holds_plotly_once(study: optuna.Study, tmp_path: Path) -> None:
    text, _ = page(study, tmp_path / "r.html")
    sources = re.findall(r"\b(?:src|href)\s*=\s*[\"']?([^\"'\s>]*)", tags_alone(text))
    assert sources and all(source.startswith("#") for source in sources)
    assert text.count("default-src 'none'") == 1
    assert len(re.findall(r"plotly\.js v\d", text)) == 1
    for figure in re.findall(r'type="application/json" id="[^"]+">(.*?)</script>', text, re.S):
        assert json.loads(figure)["data"]


def test_texts_of_a_study_are_escaped(tmp_path: Path) -> None:
    study = make_study(3, seed=7)
    study.set_user_attr(attributes.PRIOR_SUMMARY, {"<img src=x>": {"read": 1, "added": 1}})
    trial = study.ask()
    trial.set_user_attr(attributes.FAILURE, "</script><script>alert(1)</script>")
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    text, seen = page(study, tmp_path / "r.html")
    assert "alert(1)</script>" not in text and "<img" not in text
    assert "study <7> & more" in seen and "</script><script>alert" in seen


@pytest.mark.parametrize("kind", ODD)
def test_odd_studies_get_page_and_note(kind: str, tmp_path: Path) -> None:
    study = odd_studies()[kind]
    _, seen = page(study, tmp_path / "r.html")
    assert "Settings" in seen
    publish(study)
    for chart in own_figures(StudyView.of(study)):
        assert_every_name_has_something_to_see(chart)


@pytest.mark.parametrize("kind", ["empty", "failures only", "stopped only", "infinite value"])
def test_odd_studies_get_pngs(kind: str, tmp_path: Path) -> None:
    for path in write_pngs(study_figures(StudyView.of(odd_studies()[kind])), tmp_path):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_pngs_are_written_whole(study: optuna.Study, tmp_path: Path) -> None:
    paths = write_pngs(study_figures(StudyView.of(study)), tmp_path / "png")
    assert {p.name for p in (tmp_path / "png").iterdir()} == {p.name for p in paths}
    assert len(paths) == 7


def test_test_results_appear(tmp_path: Path) -> None:
    study = make_study(2)
    tested = {"trial": 0, "valid_accuracy": 0.7, "mean": 0.6543, "sd": 0.01, "seeds": [0.65, 0.66],
              "recall": {"a": 0.5, "b": 1.0}, "confusion": [[1, 1], [0, 2]]}  # fmt: skip
    stored = {"dataset": "demo", "protocol": "holdout", "classes": ["a", "b"], "trials": [tested]}
    study.set_user_attr(attributes.EVALUATION, stored)
    _, seen = page(study, tmp_path / "r.html")
    assert "0.6543" in seen and "Confusion of trial 0" in seen


def test_unwritable_page_is_one_clear_error(study: optuna.Study, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="cannot be written"):
        write_study(StudyView.of(study), tmp_path / "file" / "r.html")


def test_two_objectives_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="one objective"):
        StudyView.of(optuna.create_study(directions=["minimize", "minimize"]))


def test_importance_finds_what_matters_in_shares_of_one() -> None:
    (bars,) = study_figures(StudyView.of(make_study(60)))["importance"].figure.data
    shares = dict(zip(bars.y, bars.x, strict=True))
    assert max(shares, key=lambda name: shares[name]) == "learning_rate_init"
    assert sum(shares.values()) == pytest.approx(1.0) and min(shares.values()) >= 0


def test_importance_needs_trials_and_variance() -> None:
    assert "importance" not in study_figures(StudyView.of(make_study(5)))
    constant = [trial_at(i, i + 1, 0.5, 1) for i in range(20)]
    assert "importance" not in study_figures(view_of(constant))


FORESEEN = {"epoch": 1, "expected": 0.6, "low": 0.5, "high": 0.7}


def chain() -> StudyView:
    """A stopped trial, one that goes on with it, one that is run again, one that never ended."""
    stopped, failed = optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL
    return view_of(
        [
            trial_at(0, 1, 0.5, 1, state=stopped),
            trial_at(1, 2, 0.8, EPOCHS, ORIGIN=0, INHERITED=1),
            trial_at(2, 3, None, 1, state=failed),
            trial_at(3, 4, 0.3, 1, state=stopped, RETRY_OF=2, ANTICIPATION=FORESEEN),
        ]
    )


def test_continued_curve_stands_for_its_parent() -> None:
    (curves, *_) = own_figures(chain())
    names = [trace.name for trace in curves.figure.data if trace.name]
    assert names == ["stopped (1)", "where they would end (1)", "best: trial 1"]


def test_cleaned_study_has_one_trial_a_chain_that_ends_where_it_is_expected_to() -> None:
    assert {t.number: t.value for t in cleaned(chain())} == {1: 0.8, 3: 0.6}
    assert all(t.state.name == "COMPLETE" for t in cleaned(chain()))


def test_figures_of_a_long_study_are_thinned_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optuna_deepweeds.report.drawing.MAX_POINTS", 5)
    monkeypatch.setattr("optuna_deepweeds.report.figures._MAX_CURVES", 4)
    view = StudyView.of(make_study(40))
    figures = study_figures(view)
    best, last = view.ranked[0], view.trials[-1]
    for key in ("learning-curves", "history", "slices", "anticipation"):
        assert re.search(r"\d+ of \d+ [a-z ]+, evenly spread", figures[key].caption), key
    values = {v for trace in figures["history"].figure.data for v in trace.y}
    assert best.value in values and len(values) < 20
    numbers = {n for trace in figures["history"].figure.data for n in trace.x}
    assert {best.number, last.number} <= numbers


def test_history_shows_final_values_where_they_differ_from_the_last_report() -> None:
    study = optuna.create_study()

    def reporting(trial: optuna.Trial) -> float:
        trial.report(trial.suggest_float("x", 5, 6), 1)
        return 1.0

    study.optimize(reporting, n_trials=2)
    drawn = study_figures(StudyView.of(study))["history"].figure
    assert {v for trace in drawn.data for v in trace.y or ()} == {1.0}
    assert drawn.layout.yaxis.range == pytest.approx((0.9, 1.1))  # Not from -1 to 1.


def test_what_there_is_nothing_of_has_no_heading(tmp_path: Path) -> None:
    lone = optuna.create_study()
    lone.add_trials([trial_at(0, 1, 0.5, 5)])
    assert set(study_figures(StudyView.of(lone))) == {"learning-curves"}
    _, seen = page(lone, tmp_path / "r.html")
    for heading in ("Progress", "Parameters", "Foreseen and what came", "Failures"):
        assert heading not in seen


def test_paused_trials_stand_where_they_are_expected_to_end_as_of_now() -> None:
    paused = [trial_at(i, i + 1, 0.2, 1, state=optuna.trial.TrialState.PRUNED,
                       ANTICIPATION={"epoch": 1, "expected": 0.2, "decision": "pause"})
              for i in range(2)]  # fmt: skip
    complete = [trial_at(9 + i, 10 + i, 0.5, 1) for i in range(3)]
    for i, trial in enumerate(complete):
        trial.intermediate_values = {1: 0.2, 2: 0.6 + i / 100}
        trial.values = [0.6 + i / 100]
    few, all_of = view_of([*paused, *complete[:2]]), view_of([*paused, *complete])
    assert few.end_of(few.trials[0]) == 0.2 and "three trials" in few.where_they_stand
    assert all_of.end_of(all_of.trials[0]) == pytest.approx(0.61)
    assert "expected to end" in study_figures(all_of)["history"].caption
    curves = study_figures(all_of)["learning-curves"].figure
    assert {"paused (2)", "where they would end (2)"} <= {trace.name for trace in curves.data}


def test_damaged_attributes_cost_no_page(tmp_path: Path) -> None:
    study = make_study(2)
    for key in (attributes.EVALUATION, attributes.PRIOR_SUMMARY, attributes.BUDGET):
        study.set_user_attr(key, "junk")
    study.add_trial(trial_at(0, 1, 0.5, 2, SEGMENTS="junk", ANTICIPATION=3, ORIGIN="x"))
    _, seen = page(study, tmp_path / "r.html")
    assert "3 finished trials" in seen


def test_narrow_screens_scroll_wide_figures(study: optuna.Study) -> None:
    figures = study_figures(StudyView.of(study))
    assert figures["learning-curves"].min_width == 300
    assert figures["slices"].min_width >= 4 * 200
    assert figures["parallel"].min_width >= 13 * 70


def test_note_tells_state_and_how_to_resume(study: optuna.Study) -> None:
    text = note(StudyView.of(study), {"curves": "/artifacts/1/x"})
    assert text.startswith("![Learning curves](/artifacts/1/x)") and "18 finished trials" in text
    assert "`optuna-deepweeds study resume 'study <0> & more'`" in text
    assert "### Best trials" in text and "![Foreseen" not in text


def test_no_name_opens_the_note_to_html() -> None:
    study = optuna.create_study(study_name="a` <img src=x> ``b")
    study.set_user_attr(attributes.SPEC, {"space": "`<script>`"})
    trial = study.ask()
    trial.set_user_attr(attributes.FAILURE, "<script>")
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    text = note(StudyView.of(study), {})
    assert "```optuna" not in text and "``` optuna-deepweeds study resume 'a` <img" in text
    assert "<script>" not in text


def test_published_twice_is_one_note() -> None:
    study = make_study(3)
    for _ in range(2):
        publish(study)
    from optuna_dashboard import get_note

    assert get_note(study) == note(StudyView.of(study), {})
