"""A linear classifier of scikit-learn, pass by pass over the data.

optuna-deepweeds study run digits --objective digits.py --trials 30 --workers 4
"""

import pickle

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

METRIC, DIRECTION, MAX_RESOURCE = "accuracy", "maximize", 20
X, X_VALID, Y, Y_VALID = train_test_split(*load_digits(return_X_y=True), random_state=0)


def objective(trial, run):
    model = SGDClassifier(
        loss=trial.suggest_categorical("loss", ["hinge", "log_loss", "huber"]),
        alpha=trial.suggest_float("alpha", 1e-6, 1.0, log=True),
        eta0=trial.suggest_float("eta0", 1e-5, 1e-1, log=True),
        learning_rate="constant",
    )
    done, accuracy = 0, 0.0
    if run.checkpoint.exists():
        model, done, accuracy = pickle.loads(run.checkpoint.read_bytes())
    for step in range(done + 1, run.epochs + 1):
        order = np.random.default_rng([run.seed, step]).permutation(len(X))
        model.partial_fit(X[order], Y[order], classes=range(10))
        accuracy = model.score(X_VALID, Y_VALID)
        state = pickle.dumps((model, step, accuracy))
        run.report(accuracy, step, save=lambda path, state=state: path.write_bytes(state))
    return accuracy
