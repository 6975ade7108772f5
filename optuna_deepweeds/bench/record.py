"""Real learning curves recorded here: small trainings on data that scikit-learn brings or makes.

Each family is a kind of model with a space of its own; a table holds the validation score of so
many random configurations after every epoch. A training that diverges keeps the worst score.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import sklearn.datasets
from numpy.typing import NDArray
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from optuna_deepweeds.bench.curves import Curves
from optuna_deepweeds.bench.problems import random_params
from optuna_deepweeds.schema import choose
from optuna_deepweeds.seeds import derive, generator
from optuna_deepweeds.spaces import Parameter, SearchSpace

Array = NDArray[np.float64]
Params = Mapping[str, Any]
_N_VALIDATION = 300


@dataclass(frozen=True)
class Split:
    """Standardised inputs, and targets: training ones and those of the validation set."""

    X: Array
    y: Array
    X_valid: Array
    y_valid: Array


@dataclass(frozen=True)
class Recording:
    """How a table is recorded.

    Attributes:
        data: Makes the inputs and the targets.
        train: Given the split, a configuration, a seed and a number of epochs, yields the
            validation score after each epoch, larger is better.
        space: What is searched.
        n_epochs: Length of the curves.
        worst: Score of a training that diverged.
    """

    data: Callable[[], tuple[Array, Array]]
    train: Callable[[Split, Params, int, int], Iterator[float]]
    space: Mapping[str, BaseDistribution]
    n_epochs: int
    worst: float = 0.0


def record(family: str, task: str, n_configs: int) -> Curves:
    """The curves of so many random configurations of a task.

    Raises:
        InvalidInputError: There is no such family or task.
    """
    tasks = RECORDINGS[choose("family", family, RECORDINGS)]
    recording = tasks[choose("task", task, tasks)]
    rng = generator(0, "record", family, task)
    parameters = tuple(Parameter(name, d) for name, d in recording.space.items())
    space = SearchSpace(family, parameters)
    rows = tuple(random_params(space, rng) for _ in range(n_configs))
    split = _split(*recording.data())
    values = np.full((n_configs, recording.n_epochs), recording.worst)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for i, row in enumerate(rows):
            seed = derive(0, i, "training", family, task) % 2**31
            curve = recording.train(split, row, seed, recording.n_epochs)
            try:
                for epoch, score in zip(range(recording.n_epochs), curve, strict=False):
                    values[i, epoch] = max(score, recording.worst)
            except ValueError as error:
                if not re.search("finite|NaN|overflow", str(error)):
                    raise
    values = np.nan_to_num(values, nan=recording.worst)
    return Curves(task, values, rows, dict(recording.space), float(np.median(values[:, -1])))


def _split(X: Array, y: Array) -> Split:
    n_valid = min(_N_VALIDATION, len(X) // 3)
    X, X_valid, y, y_valid = train_test_split(X, y, test_size=n_valid, random_state=0)
    scaler = StandardScaler().fit(X)
    return Split(scaler.transform(X), y, scaler.transform(X_valid), y_valid)


def _by_epochs(
    make: Callable[[Params, int], Any], split: Split, params: Params, seed: int, n_epochs: int
) -> Iterator[float]:
    """Scores of a model of scikit-learn that learns by `partial_fit`, in a new order each time."""
    model, rng = make(params, seed), np.random.default_rng(seed)
    options = {} if isinstance(model, MLPRegressor) else {"classes": np.unique(split.y)}
    for _ in range(n_epochs):
        order = rng.permutation(len(split.X))
        model.partial_fit(split.X[order], split.y[order], **options)
        yield float(model.score(split.X_valid, split.y_valid))


def _perceptron(kind: type, params: Params, seed: int) -> Any:
    return kind(
        hidden_layer_sizes=(params["width"],) * params["depth"],
        activation=params["activation"],
        solver=params["solver"],
        alpha=params["alpha"],
        batch_size=params["batch_size"],
        learning_rate_init=params["learning_rate"],
        random_state=seed,
    )


def _linear(params: Params, seed: int) -> Any:
    return SGDClassifier(
        loss=params["loss"],
        penalty=params["penalty"],
        alpha=params["alpha"],
        learning_rate=params["schedule"],
        eta0=params["learning_rate"],
        power_t=params["power"],
        random_state=seed,
    )


def _boosting(split: Split, params: Params, seed: int, n_epochs: int) -> Iterator[float]:
    model = GradientBoostingClassifier(n_estimators=n_epochs, random_state=seed, **params)
    model.fit(split.X, split.y)
    for predicted in model.staged_predict(split.X_valid):
        yield float(np.mean(predicted == split.y_valid))


def _recurrent(split: Split, params: Params, seed: int, n_epochs: int) -> Iterator[float]:
    """A recurrent network of torch reads a row number by number."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    X, X_valid = (
        torch.tensor(x, dtype=torch.float32)[:, :, None] for x in (split.X, split.X_valid)
    )
    y, y_valid = (torch.tensor(labels, dtype=torch.long) for labels in (split.y, split.y_valid))
    kind = nn.GRU if params["cell"] == "gru" else partial(nn.RNN, nonlinearity=params["cell"])
    cell, head = kind(1, params["width"], batch_first=True), nn.Linear(params["width"], 2)
    weights = [*cell.parameters(), *head.parameters()]
    optimiser = {"adam": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}[params["optimiser"]](
        weights, lr=params["learning_rate"], weight_decay=params["weight_decay"]
    )
    for _ in range(n_epochs):
        for batch in torch.randperm(len(X)).split(params["batch_size"]):
            loss = nn.functional.cross_entropy(head(cell(X[batch])[0][:, -1]), y[batch])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, params["clip"])
            optimiser.step()
        with torch.no_grad():
            predicted = head(cell(X_valid)[0][:, -1]).argmax(1)
        yield float((predicted == y_valid).float().mean())


def _loaded(name: str, n: int | None = None) -> tuple[Array, Array]:
    X, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    return X[:n], y[:n]


def _made(**options: Any) -> tuple[Array, Array]:
    X, y = sklearn.datasets.make_classification(random_state=0, **options)
    return X, y


def _signs(length: int, rule: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Series of random signs of two classes."""
    X = np.random.default_rng(0).choice([-1.0, 1.0], size=(600, length))
    return X, rule(X).astype(int)


def _friedman() -> tuple[Array, Array]:
    X, y = sklearn.datasets.make_friedman1(900, noise=1.0, random_state=0)
    return X, (y - y.mean()) / y.std()


def _diabetes() -> tuple[Array, Array]:
    X, y = _loaded("diabetes")
    return X, (y - y.mean()) / y.std()


_PERCEPTRON: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
    "alpha": FloatDistribution(1e-7, 1e-1, log=True),
    "width": IntDistribution(4, 128, log=True),
    "depth": IntDistribution(1, 3),
    "batch_size": IntDistribution(8, 256, log=True),
    "activation": CategoricalDistribution(["relu", "tanh", "logistic"]),
    "solver": CategoricalDistribution(["adam", "sgd"]),
}
_LINEAR: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-5, 10.0, log=True),
    "alpha": FloatDistribution(1e-7, 1.0, log=True),
    "power": FloatDistribution(0.05, 1.0),
    "loss": CategoricalDistribution(["log_loss", "hinge", "modified_huber", "perceptron"]),
    "penalty": CategoricalDistribution(["l1", "l2"]),
    "schedule": CategoricalDistribution(["constant", "invscaling"]),
}
_TREES: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(5e-3, 1.0, log=True),
    "max_depth": IntDistribution(1, 8),
    "subsample": FloatDistribution(0.2, 1.0),
    "min_samples_leaf": IntDistribution(1, 50, log=True),
    "max_features": FloatDistribution(0.1, 1.0),
}
_CELLS: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
    "weight_decay": FloatDistribution(1e-6, 1e-1, log=True),
    "clip": FloatDistribution(0.1, 10.0, log=True),
    "width": IntDistribution(4, 32, log=True),
    "batch_size": IntDistribution(32, 128, log=True),
    "optimiser": CategoricalDistribution(["adam", "rmsprop"]),
    "cell": CategoricalDistribution(["gru", "tanh", "relu"]),
}

_classifier = partial(_by_epochs, partial(_perceptron, MLPClassifier))
_regressor = partial(_by_epochs, partial(_perceptron, MLPRegressor))
_sgd = partial(_by_epochs, _linear)
_many = partial(_made, n_samples=900, n_features=20, n_informative=8, n_classes=5)
_noisy = partial(_made, n_samples=700, n_features=30, n_informative=6, flip_y=0.1)

RECORDINGS: dict[str, dict[str, Recording]] = {
    "mlp": {
        "mlp-digits": Recording(partial(_loaded, "digits", 900), _classifier, _PERCEPTRON, 30),
        "mlp-made": Recording(_many, _classifier, _PERCEPTRON, 30),
    },
    "sgd": {
        "sgd-cancer": Recording(partial(_loaded, "breast_cancer"), _sgd, _LINEAR, 50),
        "sgd-made": Recording(_many, _sgd, _LINEAR, 50),
    },
    "regression": {
        "regression-friedman": Recording(_friedman, _regressor, _PERCEPTRON, 30, -1.0),
        "regression-diabetes": Recording(_diabetes, _regressor, _PERCEPTRON, 30, -1.0),
    },
    "boosting": {
        "boosting-made": Recording(_noisy, _boosting, _TREES, 50),
        "boosting-cancer": Recording(partial(_loaded, "breast_cancer"), _boosting, _TREES, 50),
    },
    "recurrent": {
        "recurrent-parity": Recording(
            partial(_signs, 6, lambda x: x[:, :4].prod(axis=1) > 0), _recurrent, _CELLS, 20
        ),
        "recurrent-count": Recording(
            partial(_signs, 10, lambda x: x.sum(axis=1) > 0), _recurrent, _CELLS, 20
        ),
    },
}
"""Family -> name of the task -> how it is recorded."""
