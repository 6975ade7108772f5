"""The charts of one study; each is None where there is nothing to draw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from optuna_deepweeds.report.chart import Chart, Mark, Panel, scale_colour
from optuna_deepweeds.report.importance import Importance, distribution_of, unit
from optuna_deepweeds.report.incumbent import Trajectory
from optuna_deepweeds.report.outcomes import Outcome, last_value, outcomes
from optuna_deepweeds.report.view import StudyView

_KINDS = ("stopped", "failed", "running", "continued", "finished")
_MAX_CURVES = 1500
_N_SHADES = 8


def learning_curves(view: StudyView) -> Chart | None:
    """Every trial's curve; the parent of a continued trial is part of its successor's curve."""
    trials = [t for t in view.trials if t.intermediate_values and t.number not in view.replaced]
    if not trials:
        return None
    caption = ""
    if len(trials) > _MAX_CURVES:
        caption = f"The last {_MAX_CURVES} of {len(trials)} curves."
        trials = trials[-_MAX_CURVES:]
    opacity = 0.8 if len(trials) <= 30 else 0.5 if len(trials) <= 150 else 0.3
    marks = []
    for kind in _KINDS:
        chosen = [t for t in trials if view.kind(t) == kind]
        if chosen:
            marks.append(
                _curves(chosen, kind, opacity * (0.7 if kind == "stopped" else 1), view.metric)
            )
            if kind in ("stopped", "failed"):
                marks.append(_ends(chosen, kind, opacity))
    best = view.progress.best
    if best is not None and best.intermediate_values:
        marks.append(_curves([best], "best", 1.0, view.metric, name=f"best: trial {best.number}"))
    panel = Panel(tuple(marks), x_label="epoch", y_label=view.metric, is_whole=True)
    return Chart("learning-curves", "Learning curves", (panel,), caption, height=420)


def _curves(
    trials: Sequence[FrozenTrial], kind: str, opacity: float, metric: str, name: str = ""
) -> Mark:
    x: list[float | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for trial in trials:
        for epoch, value in sorted(trial.intermediate_values.items()):
            x.append(epoch)
            y.append(value if math.isfinite(value) else None)
            texts.append(f"trial {trial.number} ({kind}), epoch {epoch}: {metric} {value:.4g}")
        x.append(None)
        y.append(None)
        texts.append("")
    return Mark(
        "line", x, y, name or f"{kind} ({len(trials)})", kind, opacity=opacity, texts=texts,
        width=2.6 if kind == "best" else 1.3,
    )  # fmt: skip


def _ends(trials: Sequence[FrozenTrial], kind: str, opacity: float) -> Mark:
    """Where curves were cut off: with one epoch there is no line to see."""
    x = [max(t.intermediate_values) for t in trials]
    y = [last_value(t) for t in trials]
    texts = [f"trial {t.number} {kind} after epoch {e}" for t, e in zip(trials, x, strict=True)]
    return Mark(
        "points", x, y, colour=kind, opacity=min(1.0, opacity + 0.2), size=4.0,
        symbol="x" if kind == "failed" else "circle",
        texts=texts,
    )  # fmt: skip


def optimisation_history(view: StudyView) -> Chart | None:
    """Values by trial number with the best so far, failed trials at the foot."""
    points = [(t, v) for t in view.trials if (v := _shown_value(t)) is not None]
    failures = view.failures
    if not points:
        return None
    marks = []
    for kind in ("stopped", "continued", "finished"):
        chosen = [(t, v) for t, v in points if view.kind(t) == kind]
        if chosen:
            texts = [f"trial {t.number} ({kind}): {v:.4g}" for t, v in chosen]
            marks.append(
                Mark(
                    "points", [t.number for t, _ in chosen], [v for _, v in chosen],
                    f"{kind} ({len(chosen)})", kind, texts=texts, opacity=0.8,
                    size=5.0 if kind == "stopped" else 7.0,
                )
            )  # fmt: skip
    if failures:
        values = [v for _, v in points]
        foot = min(values) if view.sign > 0 else max(values)
        marks.append(
            Mark(
                "points", [t.number for t in failures], [foot] * len(failures),
                f"failed ({len(failures)})", "failed", symbol="x",
                texts=[f"trial {t.number} failed" for t in failures],
            )
        )  # fmt: skip
    best_x: list[float | None] = []
    best_y: list[float | None] = []
    for trial, value in points:
        if trial.state == TrialState.COMPLETE:
            last = best_y[-1] if best_y else None
            better = last is None or view.sign * value > view.sign * last
            best_x.append(trial.number)
            best_y.append(value if better else last)
    if best_x:
        best_x.append(view.trials[-1].number)
        best_y.append(best_y[-1])
        marks.append(Mark("step", best_x, best_y, "best so far", "best", width=2.0))
    panel = Panel(tuple(marks), x_label="trial", y_label=view.metric, is_whole=True)
    return Chart("history", "Optimisation history", (panel,), height=340)


def _shown_value(trial: FrozenTrial) -> float | None:
    """The final value of a complete trial, the last one of another that has ended, if finite."""
    if trial.state == TrialState.COMPLETE:
        return trial.value if trial.value is not None and math.isfinite(trial.value) else None
    return last_value(trial) if trial.state.is_finished() else None


def spending(view: StudyView, run: Trajectory) -> Chart | None:
    """The incumbent against epochs and against time."""
    if not len(run.values):
        return None
    panels: list[Panel] = []
    for axis, label, scale in (("epochs", "epochs trained", 1.0), ("seconds", "minutes", 60.0)):
        x = run.epochs if axis == "epochs" else run.seconds / scale
        end = (run.total_epochs if axis == "epochs" else run.total_seconds) / scale
        marks = (
            Mark("step", [*x.tolist(), end], [*run.values.tolist(), float(run.values[-1])],
                 colour="finished", width=2.2),
        )  # fmt: skip
        flat = float(run.values[0])
        margin = 0.1 * abs(flat) or 1.0
        panels.append(
            Panel(
                marks, x_label=label,
                y_label="" if panels else f"best {view.metric}",
                x_range=(0.0, end) if end > 0 else None,
                y_range=(flat - margin, flat + margin) if flat == run.values[-1] else None,
            )
        )  # fmt: skip
    return Chart("spending", "Best network against what it cost", tuple(panels), "", 2, 300)


def importance_bars(found: Importance) -> Chart:
    """Importance as horizontal bars."""
    mark = Mark("bars", found.means, found.names, colour="finished", error=found.errors)
    panel = Panel((mark,), x_label="share of the variance of the outcome")
    caption = (
        f"A random forest on {found.n_trials} trials explains {max(found.r2, 0):.0%} of the "
        "variance of held-out trials; a bar is what it loses when the parameter is shuffled among "
        "the trials that have it. Bars show one standard error."
    )
    if found.r2 < 0.2:
        caption += " That is little: do not read much into the order."
    height = 110 + 24 * len(found.names)
    return Chart("importance", "Parameter importance", (panel,), caption, height=height)


def slices(view: StudyView) -> Chart | None:
    """Outcome against each parameter, over the trials in which it is active."""
    found = outcomes(view)
    if not found:
        return None
    values = [outcome.value for outcome in found]
    margin = 0.06 * (max(values) - min(values)) or 0.06 * abs(values[0]) or 1.0
    # One scale for all, so that parameters can be compared.
    heights = (min(values) - margin, max(values) + margin)
    panels = tuple(
        replace(_slice(view, name, found), y_range=heights) for name in view.param_names
    )
    caption = "A parameter that is inactive in a trial is left out there."
    if not all(outcome.is_final for outcome in found):
        caption = f"Stopped trials stand at the value expected of them. {caption}"
    columns = min(4, len(panels))
    return Chart("slices", "Slices", panels, caption, columns, 230)


def _slice(view: StudyView, name: str, found: Sequence[Outcome]) -> Panel:
    distribution = distribution_of(view, name)
    active = [o for o in found if name in o.trial.params]
    marks = []
    for is_final, kind in ((False, "stopped"), (True, "finished")):
        chosen = [o for o in active if o.is_final is is_final]
        if not chosen:
            continue
        if isinstance(distribution, CategoricalDistribution):
            x = [
                distribution.to_internal_repr(o.trial.params[name]) + _jitter(o.trial.number)
                for o in chosen
            ]
        else:
            x = [float(o.trial.params[name]) for o in chosen]
        texts = [
            f"trial {o.trial.number}: {name} = {o.trial.params[name]}, {o.value:.4g}"
            for o in chosen
        ]
        marks.append(
            Mark(
                "points", x, [o.value for o in chosen], kind, kind, texts=texts, size=5.0,
                opacity=0.8 if is_final else 0.5,
            )
        )  # fmt: skip
    share = "" if len(active) == len(found) else f" ({len(active)} of {len(found)})"
    log = False
    ticks: tuple[tuple[float, str], ...] = ()
    ends: tuple[float, float] | None = None
    if isinstance(distribution, CategoricalDistribution):
        ticks = tuple((float(i), str(c)) for i, c in enumerate(distribution.choices))
    elif isinstance(distribution, IntDistribution) and distribution.high - distribution.low < 6:
        span = range(distribution.low, distribution.high + 1, distribution.step)
        ticks = tuple((float(i), str(i)) for i in span)
    elif isinstance(distribution, (IntDistribution, FloatDistribution)) and distribution.log:
        log = True
        ticks = _log_ticks(distribution)
        margin = (distribution.high / distribution.low) ** 0.04
        ends = (distribution.low / margin, distribution.high * margin)
    return Panel(tuple(marks), title=f"{name}{share}", log_x=log, x_ticks=ticks, x_range=ends)


def _log_ticks(distribution: IntDistribution | FloatDistribution) -> tuple[tuple[float, str], ...]:
    """Powers of ten on a wide range, the ends and the middle of a narrow one."""
    low, high = math.log10(distribution.low), math.log10(distribution.high)
    powers = range(math.ceil(low), math.floor(high) + 1)
    if len(powers) >= 3:
        positions = [10.0**k for k in powers[:: 1 if len(powers) < 5 else 2]]
    else:
        positions = [distribution.low, 10 ** ((low + high) / 2), distribution.high]
    if isinstance(distribution, IntDistribution):
        positions = [round(x) for x in positions]
    return tuple((float(x), f"{float(f'{x:.3g}'):g}") for x in positions)


def _jitter(number: int) -> float:
    """A fixed offset from -0.15 to 0.15 that sets neighbours apart (golden-ratio sequence)."""
    return 0.3 * ((number * 0.618034) % 1.0 - 0.5)


def parallel_coordinates(view: StudyView) -> Chart | None:
    """Each trial as a line through its parameters; an inactive parameter lies below the axis."""
    found = outcomes(view)
    names = view.param_names
    if not found or not names:
        return None
    values = [o.value for o in found]
    low, high = min(values), max(values)
    final = sorted((o for o in found if o.is_final), key=lambda o: view.sign * o.value)
    stopped = [o for o in found if not o.is_final]
    marks = []
    if stopped:
        marks.append(_threads(view, names, stopped, low, high, "grid", 0.35, "stopped"))
    for shade in range(_N_SHADES):
        part = final[shade * len(final) // _N_SHADES : (shade + 1) * len(final) // _N_SHADES]
        if part:
            name = {0: "worst finished", _N_SHADES - 1: "best finished"}.get(shade, "")
            ink = scale_colour(shade / (_N_SHADES - 1))
            marks.append(_threads(view, names, part, low, high, ink, 0.85, name))
    ticks = [(float(i), name) for i, name in enumerate(names)]
    ticks.append((float(len(names)), view.metric))
    notes = []
    for i, name in enumerate(names):
        bottom, top = _ends_of(view, name)
        notes += [(float(i), -0.06, bottom), (float(i), 1.06, top)]
    notes += [(float(len(names)), -0.06, f"{low:.3g}"), (float(len(names)), 1.06, f"{high:.3g}")]
    panel = Panel(
        tuple(marks),
        x_ticks=tuple(ticks),
        y_ticks=((_OFF, "inactive"), (0.0, "low"), (1.0, "high")),
        notes=tuple(notes),
        x_range=(-0.4, len(names) + 0.4),
        y_range=(_OFF - 0.06, 1.12),
    )
    return Chart("parallel", "Parallel coordinates", (panel,), height=430)


_OFF = -0.18


def _threads(
    view: StudyView,
    names: Sequence[str],
    found: Iterable[Outcome],
    low: float,
    high: float,
    ink: str,
    opacity: float,
    name: str,
) -> Mark:
    x: list[float | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    distributions = [distribution_of(view, parameter) for parameter in names]
    for outcome in found:
        params = outcome.trial.params
        head = f"trial {outcome.trial.number} ({outcome.value:.4g})"
        for i, parameter in enumerate(names):
            active = parameter in params
            x.append(float(i))
            y.append(unit(distributions[i], params[parameter]) if active else _OFF)
            texts.append(f"{head}: {parameter} = {params[parameter] if active else 'inactive'}")
        x += [float(len(names)), None]
        y += [(outcome.value - low) / (high - low) if high > low else 0.5, None]
        texts += [head, ""]
    return Mark("line", x, y, name, ink, opacity=opacity, width=1.2, texts=texts)


def _ends_of(view: StudyView, name: str) -> tuple[str, str]:
    distribution = distribution_of(view, name)
    if isinstance(distribution, CategoricalDistribution):
        return str(distribution.choices[0]), str(distribution.choices[-1])
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    return f"{distribution.low:g}", f"{distribution.high:g}"
