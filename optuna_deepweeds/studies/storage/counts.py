"""What studies have spent and reached, counted by the database instead of loading trials.

`counted_progress` equals `accounting.progress` over the same trials.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, bindparam, text

from optuna_deepweeds import attributes
from optuna_deepweeds.studies.accounting import Progress, Spell, covered_seconds, segments
from optuna_deepweeds.studies.storage.reading import Reader, StudyRow, study_rows
from optuna_deepweeds.trials import whole_number

_KEYS = {
    "prior": attributes.PRIOR,
    "inherited": attributes.INHERITED,
    "interrupted": attributes.INTERRUPTED,
}
_IS_PRIOR = (
    "EXISTS (SELECT 1 FROM trial_user_attributes a WHERE a.trial_id = t.trial_id "
    "AND a.key = :prior)"
)
_IS_REAPED = (
    "(t.state = 'FAIL' AND EXISTS (SELECT 1 FROM trial_system_attributes s "
    "WHERE s.trial_id = t.trial_id AND s.key = :interrupted))"
)
# Infinite values are stored as a type beside an empty value.
_RANK = "CASE v.value_type WHEN 'INF_POS' THEN 1 WHEN 'INF_NEG' THEN -1 ELSE 0 END"
_INFINITE = {"INF_POS": float("inf"), "INF_NEG": float("-inf")}


@dataclass(frozen=True)
class StudyCounts(StudyRow):
    """One study of a storage at a glance; priors count as such and nowhere else.

    Attributes:
        states: Number of trials by state; those whose worker died left out.
        best_value: Value of the best complete trial; None without one or with many objectives.
        last_activity: When a trial last started or ended, in the workers' local time.
    """

    states: dict[TrialState, int] = field(default_factory=dict)
    priors: int = 0
    best_value: float | None = None
    last_activity: datetime | None = None

    @property
    def finished(self) -> int:
        """Trials that count towards the study's total."""
        return self.states.get(TrialState.COMPLETE, 0) + self.states.get(TrialState.PRUNED, 0)


@dataclass(frozen=True)
class BestTrial:
    """The best complete trial of a study that is no prior, the earliest of equals."""

    trial_id: int
    number: int
    value: float


def list_studies(reader: Reader) -> list[StudyCounts]:
    """Every study of a storage with its counts, oldest first."""

    def count(connection: Connection) -> list[StudyCounts]:
        studies = study_rows(connection)
        states, priors, activity = _states(connection)
        counts = []
        for study in studies:
            best = _best(connection, study)
            counts.append(
                StudyCounts(
                    **vars(study),
                    states=dict(states[study.study_id]),
                    priors=priors[study.study_id],
                    best_value=None if best is None else best.value,
                    last_activity=activity.get(study.study_id),
                )
            )
        return counts

    return reader.read(count)


def counted_progress(reader: Reader, study_id: int, now: datetime | None = None) -> Progress:
    """What the study has spent and reached, as `accounting.progress` tells it.

    Its best trial is left out; see `best_trial`.
    """
    return reader.read(lambda connection: _progress(connection, study_id, now or datetime.now()))


def trial_states(reader: Reader, study_id: int) -> Counter[TrialState]:
    """Number of the study's trials by state, priors included."""
    query = "SELECT t.state, count(*) FROM trials t WHERE t.study_id = :study_id GROUP BY t.state"
    rows = reader.read(lambda connection: _run(connection, query, study_id))
    return Counter({TrialState[state]: int(count) for state, count in rows})


def best_trial(reader: Reader, study: StudyRow) -> BestTrial | None:
    """The best trial of a study with one objective; None without a complete one."""
    return reader.read(lambda connection: _best(connection, study))


def foreseen_trials(reader: Reader, study_id: int) -> list[FrozenTrial]:
    """The study's trials as far as it takes to judge anticipations, priors left out.

    They have number, state, value, last step and the attributes ANTICIPATION and ORIGIN alone;
    trials without any of these are missing.
    """
    return reader.read(lambda connection: _foreseen(connection, study_id))


def _progress(connection: Connection, study_id: int, now: datetime) -> Progress:
    """All of the progress but the best trial."""
    keys = (attributes.PRIOR, attributes.INHERITED, attributes.ROOT, attributes.SEGMENTS)
    attrs = _attributes(connection, study_id, keys)
    reaped = {
        row[0]
        for row in _run(
            connection,
            "SELECT t.trial_id FROM trials t JOIN trial_system_attributes s "
            "ON s.trial_id = t.trial_id AND s.key = :interrupted WHERE t.study_id = :study_id",
            study_id,
        )
    }
    now_utc = _as_utc(now)
    states: Counter[str] = Counter()
    failed = 0
    roots: set[int] = set()
    spells: list[Spell] = []
    trials = _run(
        connection,
        "SELECT t.trial_id, t.number, t.state, t.datetime_start, t.datetime_complete "
        "FROM trials t WHERE t.study_id = :study_id",
        study_id,
    )
    for trial_id, number, state, start, complete in trials:
        own = attrs.get(trial_id, {})
        states[state] += 1
        if state in ("COMPLETE", "PRUNED"):
            roots.add(whole_number(own.get(attributes.ROOT), number))
        failed += state == "FAIL" and trial_id not in reaped
        # In UTC, as stored: the length of a spell is the same.
        if attributes.SEGMENTS in own:
            earlier = segments(own[attributes.SEGMENTS])
            spells += [(_as_utc(begin), _as_utc(end)) for begin, end in earlier]
        if start is not None and state != "WAITING":
            spells.append((_parsed(start), now_utc if complete is None else _parsed(complete)))
    finished = states["COMPLETE"] + states["PRUNED"]
    return Progress(
        complete=states["COMPLETE"],
        pruned=states["PRUNED"],
        failed=failed,
        running=states["RUNNING"],
        waiting=states["WAITING"],
        continued=finished - len(roots),
        epochs=_epochs(connection, study_id, attrs),
        seconds=covered_seconds(spells),
        best=None,
    )


def _epochs(connection: Connection, study_id: int, attrs: dict[int, dict[str, Any]]) -> int:
    """Epochs that the study's own trials trained, each counted once."""
    steps = _run(
        connection,
        "SELECT v.trial_id, count(*) FROM trial_intermediate_values v "
        "JOIN trials t ON t.trial_id = v.trial_id WHERE t.study_id = :study_id "
        "GROUP BY v.trial_id",
        study_id,
    )
    total = sum(
        count for trial_id, count in steps if attributes.PRIOR not in attrs.get(trial_id, {})
    )
    inherited = _run(
        connection,
        "SELECT v.trial_id, v.step FROM trials t JOIN trial_user_attributes a "
        "ON a.trial_id = t.trial_id AND a.key = :inherited "
        "JOIN trial_intermediate_values v ON v.trial_id = t.trial_id "
        "WHERE t.study_id = :study_id",
        study_id,
    )
    return int(total) - sum(
        step <= whole_number(attrs[trial_id].get(attributes.INHERITED), -1)
        for trial_id, step in inherited
        if attributes.PRIOR not in attrs[trial_id]
    )


def _foreseen(connection: Connection, study_id: int) -> list[FrozenTrial]:
    attrs = _attributes(connection, study_id, (attributes.ANTICIPATION, attributes.ORIGIN))
    if not attrs:
        return []
    query = (
        "SELECT t.trial_id, t.number, t.state, v.value, v.value_type, "
        "(SELECT max(i.step) FROM trial_intermediate_values i WHERE i.trial_id = t.trial_id) "
        "FROM trials t LEFT JOIN trial_values v ON v.trial_id = t.trial_id AND v.objective = 0 "
        f"WHERE t.study_id = :study_id AND NOT {_IS_PRIOR}"
    )
    return [
        FrozenTrial(
            number=number,
            state=TrialState[state],
            value=_INFINITE.get(kind, value),
            datetime_start=None,
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs=attrs[trial_id],
            system_attrs={},
            intermediate_values={} if last is None else {last: float("nan")},
            trial_id=trial_id,
        )
        for trial_id, number, state, value, kind, last in _run(connection, query, study_id)
        if trial_id in attrs
    ]


def _attributes(
    connection: Connection, study_id: int, keys: Iterable[str]
) -> dict[int, dict[str, Any]]:
    """User attributes of those keys, by trial; without the trials that have none."""
    query = text(
        "SELECT t.trial_id, a.key, a.value_json FROM trials t JOIN trial_user_attributes a "
        "ON a.trial_id = t.trial_id WHERE t.study_id = :study_id AND a.key IN :keys"
    ).bindparams(bindparam("keys", expanding=True))
    found: dict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, key, value in connection.execute(
        query, {"study_id": study_id, "keys": list(keys)}
    ).all():
        # Of priors only that they are counts, and there are thousands.
        found[trial_id][key] = None if key == attributes.PRIOR else json.loads(value)
    return dict(found)


def _best(connection: Connection, study: StudyRow) -> BestTrial | None:
    if len(study.directions) != 1:
        return None
    order = "DESC" if study.directions[0] == StudyDirection.MAXIMIZE else "ASC"
    rows = _run(
        connection,
        "SELECT t.trial_id, t.number, v.value, v.value_type FROM trials t "
        "JOIN trial_values v ON v.trial_id = t.trial_id AND v.objective = 0 "
        f"WHERE t.study_id = :study_id AND NOT {_IS_PRIOR} AND t.state = 'COMPLETE' "
        f"ORDER BY {_RANK} {order}, v.value {order}, t.number LIMIT 1",
        study.study_id,
    )
    for trial_id, number, value, kind in rows:
        return BestTrial(int(trial_id), int(number), _INFINITE.get(kind, value))
    return None


def _states(
    connection: Connection,
) -> tuple[dict[int, dict[TrialState, int]], dict[int, int], dict[int, datetime]]:
    """Counts by state, counts of priors and last activity, each by study."""
    states: dict[int, dict[TrialState, int]] = defaultdict(dict)
    priors: dict[int, int] = defaultdict(int)
    activity: dict[int, datetime] = {}
    rows = connection.execute(
        text(
            f"SELECT study_id, is_prior, is_reaped, state, count(*), max(datetime_start), "
            f"max(datetime_complete) FROM (SELECT t.*, {_IS_PRIOR} AS is_prior, {_IS_REAPED} AS "
            "is_reaped FROM trials t) own GROUP BY study_id, is_prior, is_reaped, state"
        ),
        {"prior": attributes.PRIOR, "interrupted": attributes.INTERRUPTED},
    )
    for study_id, is_prior, is_reaped, state, count, started, completed in rows:
        if is_prior:
            priors[study_id] += int(count)
            continue
        if not is_reaped:
            states[study_id][TrialState[state]] = int(count)
        moments = [_as_local(_parsed(m)) for m in (started, completed) if m is not None]
        if moments:
            activity[study_id] = max(moments + [activity.get(study_id, datetime.min)])
    return states, priors, activity


def _run(connection: Connection, query: str, study_id: int) -> Sequence[Any]:
    values = {key: value for key, value in _KEYS.items() if f":{key}" in query}
    return connection.execute(text(query), {"study_id": study_id, **values}).all()


def _parsed(moment: Any) -> datetime:
    """A date and time of the tables, which is naive UTC, and text on SQLite."""
    parsed = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    assert isinstance(parsed, datetime)
    return parsed


def _as_utc(local: datetime) -> datetime:
    return local.astimezone(UTC).replace(tzinfo=None)


def _as_local(utc: datetime) -> datetime:
    return utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
