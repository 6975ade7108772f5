"""The Muon optimiser against its definition."""

from __future__ import annotations

import pytest
import torch

from optuna_deepweeds.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (16, 16)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    result = orthogonal(matrices)
    for before, after in zip(matrices, result, strict=True):
        left, values, right = torch.linalg.svd(before, full_matrices=False)
        seen = left.T @ after @ right.T
        clear = values > 0.1 * values.max()  # the smallest take more iterations
        assert ((seen.diag()[clear] > 0.6) & (seen.diag()[clear] < 1.3)).all()
        assert (seen - seen.diag().diag()).abs().max() < 0.02


def test_only_hidden_kernels_are_orthogonal_and_the_rest_is_adamw() -> None:
    def parameters() -> list[torch.nn.Parameter]:
        generator = torch.Generator().manual_seed(1)
        shapes = [(8, 3, 3, 3), (8, 8, 3, 3), (5, 8), (8,)]
        return [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]

    ours, theirs, rate = parameters(), parameters(), torch.tensor(0.01)
    muon = Muon([{"params": ours, "weight_decay": 0.1}], rate, 0.9)
    adamw = torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1)
    for step in range(3):
        for p in [*ours, *theirs]:
            p.grad = torch.cos(p.detach() + step)
        before = ours[1].detach().clone()
        muon.step()
        adamw.step()
    for index in (0, 2, 3):
        assert torch.allclose(ours[index], theirs[index], atol=1e-6)
    update = (before * (1 - 0.01 * 0.1) - ours[1].detach()).flatten(1)
    singular = torch.linalg.svdvals(update) / (0.01 * 0.2 * 72**0.5)
    assert ((singular > 0.3) & (singular < 1.3)).all()


def test_the_learning_rate_is_read_at_every_step() -> None:
    kernel, rate = torch.nn.Parameter(torch.randn(8, 8, 3, 3)), torch.tensor(0.0)
    muon = Muon([{"params": [kernel], "weight_decay": 0.0}], rate, 0.9)
    start = kernel.detach().clone()
    for value, has_moved in ((0.0, False), (0.1, True)):
        rate.fill_(value)
        kernel.grad = torch.ones_like(kernel)
        muon.step()
        assert torch.equal(kernel.detach(), start) != has_moved


def test_state_is_loaded_to_where_the_parameters_are() -> None:
    def parameters(device: str) -> list[torch.nn.Parameter]:
        return [torch.nn.Parameter(torch.ones(s, device=device)) for s in ((8, 8, 3, 3), (5,))]

    first = Muon([{"params": parameters("cpu")}], torch.tensor(0.01), 0.9)
    for group in first.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    first.step()
    second = Muon([{"params": parameters("meta")}], torch.tensor(0.01), 0.9)
    second.load_state_dict(first.state_dict())
    devices = {t.device.type for values in second.state.values() for t in values.values()}
    assert devices == {"meta"}
