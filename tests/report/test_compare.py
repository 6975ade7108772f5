"""Studies grouped into methods and compared over seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest

from optuna_deepweeds import attributes
from optuna_deepweeds.errors import InvalidInputError
from optuna_deepweeds.report.compare import Comparison, compare
from optuna_deepweeds.report.compare_figures import compare_figures
from optuna_deepweeds.report.pages import write_comparison, write_pngs
from optuna_deepweeds.report.view import StudyView
from tests.report.conftest import (
    assert_every_name_has_something_to_see,
    odd_studies,
    specification,
    trial_at,
)

ODD = tuple(odd_studies())


def study(
    values: list[float], seed: int, direction: str = "maximize", **spec: object
) -> StudyView:
    """A study whose trials end with `values`, 5 epochs and 1 s each."""
    made = optuna.create_study(direction=direction, study_name=f"{spec} {seed} {values}")
    made.set_user_attr(attributes.SPEC, specification(seed, **{"epochs": 5} | spec))
    made.add_trials([trial_at(i, i + 1, v, 5) for i, v in enumerate(values)])
    return StudyView.of(made)


def given(view: StudyView, key: str, stored: object) -> StudyView:
    """The same study with an attribute."""
    return replace(view, user_attrs={**view.user_attrs, key: stored})


def scored(view: StudyView, accuracy: float, recipe: str = "study") -> StudyView:
    """The same study with its best network tested."""
    stored = {"trials": [{"trial": 0, "mean": accuracy}], "recipe": recipe}
    return given(view, attributes.EVALUATION, stored)


def grid() -> list[StudyView]:
    """Three seeds of two methods, the second of which is ahead."""
    views = []
    for seed in range(3):
        views.append(study([0.3, 0.4, 0.5 + seed / 100], seed))
        views.append(study([0.5 + seed / 100, 0.6, 0.7], seed, sampler="rf_ei"))
    return views


def methods(n: int, n_seeds: int) -> Comparison:
    """Studies of `n` samplers over as many seeds."""
    samplers = ("random", "tpe", "gp", "rf_ei", "dngo")[:n]
    views = [
        study([0.5 + i / 50 + seed * i / 1000], seed, sampler=name)
        for seed in range(n_seeds)
        for i, name in enumerate(samplers)
    ]
    return compare(views)


def test_seeds_of_one_specification_are_one_method() -> None:
    comparison = compare(grid())
    seeds = {m.label: list(m.views) for m in comparison.methods}
    assert seeds == {"random + none": [0, 1, 2], "rf_ei + none": [0, 1, 2]}
    assert comparison.baseline == "random + none"


def test_differences_are_paired_and_savings_measured_to_the_same_value() -> None:
    comparison = compare(grid())
    (test,) = comparison.tests
    assert (test.first, test.second) == ("rf_ei + none", "random + none")
    assert test.difference.mean == pytest.approx(0.19) and test.p == 0.25
    ratio = comparison.savings(test.first, test.second)
    assert ratio.mean == pytest.approx(3.0)
    text = " ".join(comparison.sentences())
    assert "3 times fewer epochs" in text and "3 seeds tell too little" in text


def test_direction_is_respected() -> None:
    views = [study([0.5, 0.2], s, "minimize") for s in range(3)]
    views += [study([0.5, 0.4], s, "minimize", sampler="gp") for s in range(3)]
    comparison = compare(views)
    assert "random + none is 0.2 better than gp + none" in " ".join(comparison.sentences())
    grid_, ranks = comparison.ranks()
    assert ranks[-1].tolist() == [1.0, 2.0] and grid_[-1] == 10


def test_labels_name_what_differs() -> None:
    thawed = study([0.5], 0, pruner="dora", thaw=True)
    plain = study([0.5], 0, pruner="dora", thaw=False)
    other = study([0.5], 0, dataset="deepweeds")
    labels = [m.label for m in compare([thawed, plain, other]).methods]
    assert labels == [
        "random + dora + thaw, dataset demo",
        "random + dora, dataset demo",
        "random + none, dataset deepweeds",
    ]


def test_second_study_of_a_seed_is_kept() -> None:
    comparison = compare([study([0.5], 0), study([0.6], 0)])
    assert len(comparison.methods) == 1 and len(comparison.methods[0].views) == 2


def test_too_little_data_is_said() -> None:
    text = " ".join(compare([study([], 0), study([0.5], 0, sampler="gp")]).sentences())
    assert "no trial is complete in" in text and "No seed has" in text
    assert "nothing to compare" in " ".join(compare([study([0.5], 0)]).sentences())


def test_unequal_budgets_are_said() -> None:
    text = compare([study([0.5], 0), study([0.5] * 4, 0, sampler="gp")]).sentences()
    assert "5 to 20 epochs" in " ".join(text)


def test_many_methods_are_tested_against_the_baseline_and_corrected() -> None:
    comparison = methods(5, n_seeds=6)
    assert {t.second for t in comparison.tests} == {"random + none"}
    assert all(t.p_holm == pytest.approx(4 * t.p) for t in comparison.tests)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one"):
        compare([])
    with pytest.raises(InvalidInputError, match="one direction"):
        compare([study([0.5], 0), study([0.5], 0, "minimize")])
    with pytest.raises(InvalidInputError, match="the baseline must be one of random \\+ none"):
        compare([study([0.5], 0)], baseline="best")


def test_methods_are_compared_by_test_accuracy_where_there_is_one() -> None:
    views = [scored(view, 0.3 if "rf_ei" in view.name else 0.4) for view in grid()]
    comparison = compare(views)
    assert "random + none is 0.1 better than rf_ei + none in test accuracy" in " ".join(
        comparison.sentences()
    )
    assert comparison.method_table().records[0]["test"] == 0.4
    assert comparison.test_table().records[0]["of"] == "test accuracy"


def test_without_tests_of_one_recipe_values_are_called_optimistic() -> None:
    partly = [scored(view, 0.4) for view in grid()[:-1]] + grid()[-1:]
    mixed = [scored(v, 0.4, "study" if i else "long") for i, v in enumerate(grid())]
    for views, remark in ((grid(), ""), (partly, ""), (mixed, "different recipes (long, study)")):
        text = " ".join(compare(views).sentences())
        assert "is optimistic" in text and "better than random + none in value" in text
        assert remark in text


def test_few_sentences_for_four_methods() -> None:
    comparison = methods(4, n_seeds=3)
    assert len(comparison.tests) == 6
    sentences = comparison.sentences()
    assert len(sentences) <= 3 and not any("-0 " in s or "-0.0 " in s for s in sentences)


def test_the_remark_on_budgets_counts_epochs_as_the_table_does() -> None:
    running = trial_at(0, 1, 0.5, 4)
    views = [study([0.5], 0), study([0.5, 0.6], 0, sampler="gp")]
    views[1] = replace(views[1], trials=(*views[1].trials, running))
    comparison = compare(views)
    epochs = [row["epochs"] for row in comparison.method_table().records]
    assert f"trained {epochs[0]:.0f} to {epochs[1]:.0f} epochs" in " ".join(comparison.sentences())


def balanced(seed: int, **spec: object) -> StudyView:
    """A study on the published task."""
    return study([0.6], seed, dataset="deepweeds-balanced", **spec)


def test_published_values_stand_beside_ours_on_their_task(tmp_path: Path) -> None:
    views = [scored(balanced(seed), 0.5 + seed / 10) for seed in (0, 1)]
    with_priors = [balanced(seed, sampler="rf_ei", pruner="dora") for seed in (0, 1)]
    summary = {"runs.csv": {"added": 1}}
    views += [scored(given(v, attributes.PRIOR_SUMMARY, summary), 0.6) for v in with_priors]
    comparison = compare(views)
    assert [m.label for m in comparison.methods] == ["random + none", "rf_ei with priors + dora"]
    rows = {row["method"]: row for row in comparison.published_table().records}
    assert len(rows) == 6
    assert rows["random + none"]["our_mean"] == pytest.approx(0.55)
    assert rows["random + none"]["published_mean"] == pytest.approx(0.6206, abs=1e-4)
    assert rows["rf_ei with priors + dora"]["our_trials"] == "1; 1"
    assert rows["random + asha"]["our_mean"] is None

    figures = compare_figures(comparison)
    labels = figures["test-accuracy"].figure.layout.xaxis.ticktext
    assert list(labels)[:2] == [m.label for m in comparison.methods] and len(labels) == 6
    assert figures["cumulative"].figure.data[-1].name == "published: test accuracy"
    write_comparison(comparison, tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text()
    assert "0.7050; 0.6017; 0.5967" in page and "other images in each split" in page


def test_published_values_stay_away_from_other_tasks_and_untested_studies() -> None:
    assert compare([study([0.5], 0)]).published == ()
    assert not compare([study([0.5], 0)]).published_table().rows
    assert "test-accuracy" not in compare_figures(compare([balanced(0)]))


def test_page_and_pngs(tmp_path: Path) -> None:
    comparison = compare(grid())
    write_comparison(comparison, tmp_path / "c.html")
    assert "Paired statistics" in (tmp_path / "c.html").read_text()
    assert len(write_pngs(compare_figures(comparison), tmp_path / "png")) == 4


@pytest.mark.parametrize("kind", ODD)
def test_odd_studies_can_be_compared(kind: str, tmp_path: Path) -> None:
    odd = StudyView.of(odd_studies()[kind])
    good = study([0.5, 0.6], 0, odd.direction.name.lower())
    comparison = compare([good, odd])
    assert comparison.sentences()
    write_comparison(comparison, tmp_path / "c.html")
    for chart in compare_figures(comparison).values():
        assert_every_name_has_something_to_see(chart)
