"""A network of PyTorch, with the space apart from the objective:
optuna-deepweeds study run moons --objective moons.py --space moons.py:SPACE --trials 30
"""

import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from sklearn.datasets import make_moons
from torch.nn.functional import cross_entropy

METRIC, DIRECTION, MAX_RESOURCE = "validation loss", "minimize", 16
SPACE = {
    "width": IntDistribution(2, 64, log=True),
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "optimizer": CategoricalDistribution(["SGD", "Adam"]),
}
X, Y = (torch.tensor(a) for a in make_moons(600, noise=0.2, random_state=0))


def objective(trial, run):
    torch.manual_seed(run.seed)
    width, rate, optimizer = (run.config[name] for name in SPACE)
    layers = torch.nn.Linear(2, width), torch.nn.ReLU(), torch.nn.Linear(width, 2)
    model = torch.nn.Sequential(*layers).double()
    optimizer = getattr(torch.optim, optimizer)(model.parameters(), rate)
    state = {"step": 0, "loss": 0.0}
    if run.checkpoint.exists():
        state = torch.load(run.checkpoint)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    for step in range(state["step"] + 1, run.epochs + 1):
        for batch in torch.arange(400).split(20):
            optimizer.zero_grad()
            cross_entropy(model(X[batch]), Y[batch]).backward()
            optimizer.step()
        loss = cross_entropy(model(X[400:]), Y[400:]).item()
        parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        state = {"step": step, "loss": loss, **parts}
        run.report(loss, step, save=lambda path: torch.save(state, path))  # noqa: B023
    return state["loss"]
