"""Muon against torch's own for matrices, and what it promises: an orthogonal update, in Adam's size."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from stylenorm.muon import Muon, Together, orthogonalized

torch.set_num_threads(1)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (9, 9), (1, 30)])
def test_the_update_is_torchs_for_matrices(shape):
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    settings = dict(lr=0.02, momentum=0.9)
    mine = Muon([ours], **settings)
    torchs = torch.optim.Muon([theirs], weight_decay=0.0, nesterov=True, adjust_lr_fn="match_rms_adamw", **settings)
    for step in range(4):
        gradient = torch.randn(shape) * 10**step
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step(), torchs.step()
    moved = (theirs - 1).abs().max()
    assert moved > 0.01
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.03 * moved.item())  # theirs is computed in bfloat16


def test_a_convolution_counts_as_the_matrix_of_its_outputs():
    torch.manual_seed(1)
    weight = torch.randn(8, 3, 3, 3)
    conv = nn.Parameter(weight.clone().to(memory_format=torch.channels_last))
    matrix = nn.Parameter(weight.flatten(1).clone())
    gradient = torch.randn(8, 3, 3, 3)
    for parameter, value in ((conv, gradient.to(memory_format=torch.channels_last)), (matrix, gradient.flatten(1))):
        parameter.grad = value
        Muon([parameter], lr=0.1).step()
    torch.testing.assert_close(conv.flatten(1), matrix)


def test_weights_of_one_shape_move_together_as_each_would_alone():
    torch.manual_seed(4)
    shapes = [(8, 3, 3, 3), (8, 27), (30, 6), (8, 3, 3, 3), (30, 6)]
    together, alone = ([nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2))
    for ours, theirs in zip(together, alone):
        ours.grad = torch.randn(ours.shape)
        theirs.grad = ours.grad.clone()
        Muon([theirs], lr=0.1).step()
    Muon(together, lr=0.1).step()
    for ours, theirs in zip(together, alone):
        torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)
    assert (together[0] - together[3]).abs().max() > 0.01


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (16, 16), (3, 5, 40), (2, 40, 5)])
def test_orthogonalized_keeps_directions_and_evens_their_sizes(shape):
    torch.manual_seed(2)
    matrix = torch.randn(shape)
    found = orthogonalized(1e-4 * matrix)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.5 and values.max() < 1.3
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    assert (s.amax(-1) / s.amin(-1) > 1.4).all()  # so that keeping the sizes would show
    ours = u.mT @ found @ v.mT
    assert (ours - torch.diag_embed(ours.diagonal(dim1=-2, dim2=-1))).abs().max() < 0.03  # in bfloat16


def test_no_gradient_no_step_and_a_gradient_of_zero_does_no_harm():
    idle, still = nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3, 4))
    still.grad = torch.zeros(3, 4)
    Muon([idle, still]).step()
    assert torch.equal(idle, torch.ones(3, 4)) and torch.equal(still, torch.ones(3, 4))


def test_settings_and_a_closure_are_as_torchs():
    ours, theirs = (nn.Parameter(torch.ones(3, 4)) for _ in range(2))
    made = Muon([ours]), torch.optim.Muon([theirs], weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    assert all(made[0].defaults[name] == made[1].defaults[name] for name in ("lr", "momentum"))
    for weight, optimizer in zip((ours, theirs), made):

        def closure():
            optimizer.zero_grad()
            loss = (weight * torch.arange(12.0).view(3, 4)).square().sum()
            loss.backward()
            return loss

        with torch.no_grad():
            assert optimizer.step(closure) == 506
    torch.testing.assert_close(ours, theirs, rtol=0, atol=3e-5)
    assert (ours < 1).any()


def test_vectors_are_refused():
    with pytest.raises(ValueError, match="two dimensions"):
        Muon([nn.Parameter(torch.ones(3))])


def together(model: nn.Module) -> Together:
    muon = Muon([{"params": [model[0].weight], "peak": 1.0}], lr=0.05)
    return Together(muon, torch.optim.Adam([{"params": [model[0].bias]}, {"params": list(model[1].parameters())}], lr=0.05))


def some_steps(model: nn.Module, optimizer: Together, seeds: range) -> None:
    for seed in seeds:
        optimizer.zero_grad()
        x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        model(x).square().mean().backward()
        optimizer.step()


def test_two_optimizers_as_one_move_everything_and_go_on_where_they_stopped():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3))
    start = deepcopy(model.state_dict())
    optimizer = together(model)
    assert [len(g["params"]) for g in optimizer.param_groups] == [1, 1, 2] and optimizer.param_groups[0]["peak"] == 1.0
    some_steps(model, optimizer, range(3))
    assert all(not torch.equal(v, start[k]) for k, v in model.state_dict().items())
    state, weights = deepcopy(optimizer.state_dict()), deepcopy(model.state_dict())
    assert sorted(state["state"]) == [0, 1, 2, 3]
    some_steps(model, optimizer, range(3, 6))
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3))
    other.load_state_dict(weights)
    again = together(other)
    again.load_state_dict(state)
    some_steps(other, again, range(3, 6))
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
