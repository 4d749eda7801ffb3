"""The lab's experiments, each with the numbers that the command shows, and wrong layers, which must make them fail."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import nn

from stylenorm import functional, lab_descent, lab_gradients, lab_running, lab_style, layers
from stylenorm.errors import StylenormError
from stylenorm.lab import EXPERIMENTS, run_lab
from stylenorm.lab_layers import group_moments, group_numbers, randn
from stylenorm.lab_names import CLAIMS, NAMES, chosen
from stylenorm.lab_result import Result, Row, near, shown, slope

torch.set_num_threads(1)


def broken(result: Result) -> list[str]:
    return [f"{row.quantity}: {row.expectation}, not {row.measured}" for row in result.rows if not row.holds]


@cache
def measured(name: str) -> Result:
    """What an experiment measures by the right layers, for several tests."""
    return EXPERIMENTS[name](True, 0)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_predicted_is_measured(name):
    result = measured(name)
    assert broken(result) == []
    assert result.holds and result.name == name and result.plot and result.formula


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_is_predicted_is_measured_in_full(name):
    assert broken(EXPERIMENTS[name](False, 0)) == []


@pytest.mark.parametrize("name", ["standardizing", "undoing", "coupling", "momentum", "shift", "batch-noise"])
def test_another_seed_gives_other_numbers_and_the_same_verdict(name):
    results = [measured(name), *(EXPERIMENTS[name](True, seed) for seed in (7, 0))]
    first, second, again = ([row.measured for row in result.rows] for result in results)
    assert broken(results[1]) == []
    assert first != second
    assert again == pytest.approx(first, rel=1e-12)  # a sum's last digit goes by where its numbers lie in memory


def test_gradients_are_measured_where_the_caller_has_switched_them_off():
    with torch.no_grad():
        assert next(run_lab(["epsilon"], quick=True)).holds


def test_every_name_has_an_experiment_and_every_docstring_its_paper():
    assert tuple(EXPERIMENTS) == NAMES == tuple(CLAIMS)
    assert all("Paper:" in function.__doc__ and function.__doc__.count("\n") > 8 for function in EXPERIMENTS.values())


# ---- wrong layers ------------------------------------------------------------------------------


def instance_over_all_channels(patch):
    right = functional._split
    patch.setattr(functional, "_split", lambda x, kind, groups: right(x, "layer" if kind == "instance" else kind, groups))


def batch_over_one_sample(patch):
    right = functional._split
    patch.setattr(functional, "_split", lambda x, kind, groups: right(x, "instance" if kind == "batch" else kind, groups))


def layer_over_one_channel(patch):
    right = functional._split
    patch.setattr(functional, "_split", lambda x, kind, groups: right(x, "instance" if kind == "layer" else kind, groups))


def no_epsilon(patch):
    patch.setattr(functional, "_scaled", lambda eps, factor: 0.0)


def unbiased_variance(patch):
    right = functional._centre

    def centre(x, dims):
        centred, mean, var, factor = right(x, dims)
        count = x.numel() // var.numel()
        return centred, mean, var * count / (count - 1), factor

    patch.setattr(functional, "_centre", centre)


def mean_left_in(patch):
    """RMS normalization (Zhang and Sennrich 2019)."""

    def centre(x, dims):
        wide = functional.widen(x).clone()
        var = wide.square().mean(dims, keepdim=True)
        return wide, torch.zeros_like(var), var, None

    patch.setattr(functional, "_centre", centre)


def moments_taken_for_constants(patch):
    def backward(ctx, dy, *_):
        _, gamma, _, var, _ = ctx.saved_tensors
        return (dy if gamma is None else dy * gamma) * torch.rsqrt(var + ctx.eps), None, None, None, None

    patch.setattr(functional._Renormalize, "backward", staticmethod(backward))


def running_moments_ignored(patch):
    right = layers._Norm._restyle

    def restyle(self, x, gamma, beta, moments):
        return layers.renormalize(x, gamma, beta, self.kind, self.num_groups, self.eps)[0] if not self.training else right(
            self, x, gamma, beta, moments
        )

    patch.setattr(layers._Norm, "_restyle", restyle)


def running_moments_in_training(patch):
    def restyle(self, x, gamma, beta, moments):
        if self.running_mean is None:
            return layers.renormalize(x, gamma, beta, self.kind, self.num_groups, self.eps)[0]
        return layers.inject(x, self.running_mean[:, None, None], self.running_var[:, None, None], gamma, beta, self.eps)

    patch.setattr(layers._Norm, "_restyle", restyle)


def momentum_of_the_old(patch):
    right = layers._Norm._track

    def track(self, mean, var, x):
        kept, self.momentum = self.momentum, 1 - self.momentum
        right(self, mean, var, x)
        self.momentum = kept

    patch.setattr(layers._Norm, "_track", track)


def no_norm(patch):
    patch.setattr(lab_descent, "norm_layer", lambda *a, **k: nn.Identity())


def deviation_left_out(patch):
    def adain(content, style):
        return content - content.mean((2, 3), keepdim=True) + style.mean((2, 3), keepdim=True)

    patch.setattr(lab_style, "adain", adain)
    patch.setattr(lab_style, "_inverted", lambda vgg, wanted, start, steps: start)


def epsilon_too_small(patch):
    from stylenorm import lab_epsilon

    patch.setattr(lab_epsilon, "minimum_epsilon", lambda dtype: torch.finfo(dtype).max ** -1)


MISTAKES = [
    ("standardizing", instance_over_all_channels),
    ("standardizing", no_epsilon),
    ("standardizing", unbiased_variance),
    ("standardizing", mean_left_in),
    ("grouping", instance_over_all_channels),
    ("grouping", batch_over_one_sample),
    ("grouping", layer_over_one_channel),
    ("epsilon", no_epsilon),
    ("epsilon", epsilon_too_small),
    ("undoing", unbiased_variance),
    ("undoing", instance_over_all_channels),
    ("drift", mean_left_in),
    ("drift", no_norm),
    ("gradient-noise", instance_over_all_channels),
    ("gradient-noise", layer_over_one_channel),
    ("coupling", moments_taken_for_constants),
    ("coupling", instance_over_all_channels),
    ("coupling", batch_over_one_sample),
    ("inference", running_moments_ignored),
    ("inference", batch_over_one_sample),
    ("momentum", momentum_of_the_old),
    ("shift", running_moments_ignored),
    ("shift", mean_left_in),
    ("descent", moments_taken_for_constants),
    ("descent", no_norm),
    ("batch-noise", running_moments_in_training),
    ("batch-noise", batch_over_one_sample),
    ("style", deviation_left_out),
]


@pytest.mark.parametrize("name, mistake", MISTAKES, ids=[f"{name}-{mistake.__name__}" for name, mistake in MISTAKES])
def test_a_wrong_layer_makes_the_verdict_fail(name, mistake, monkeypatch):
    if name == "descent":  # its laws alone: the races take a while, and their rows must not be what fails
        monkeypatch.setattr(lab_descent, "_race", lambda kind, *a: (1.0, 1, 1.0) if kind == "none" else (2.0, 1, 0.5))
        assert EXPERIMENTS[name](True, 0).holds
    if name == "gradient-noise":  # without BN, which takes 4000 calls; the mistakes are IN's and LN's
        monkeypatch.setattr(lab_gradients, "SIZES", lab_gradients.SIZES[:-1])
    mistake(monkeypatch)
    result = EXPERIMENTS[name](True, 0)
    assert broken(result) and result.verdict == "failed"


@pytest.mark.parametrize("quick", [True, False])
def test_one_network_predicts_nothing_of_layer_norms_descent_and_three_do(quick, monkeypatch):
    learns = {"none": (1.0, 1, 1.0), "layer": (0.5, 2, 1.0)}
    monkeypatch.setattr(lab_descent, "_race", lambda kind, *_: learns.get(kind, (2.0, 1, 0.5)))
    lost = broken(EXPERIMENTS["descent"](quick, 0))
    assert len(lost) == (0 if quick else 6) and all(line.startswith("LN") for line in lost)


@pytest.mark.slow
def test_a_norm_that_does_nothing_loses_the_race(monkeypatch):
    no_norm(monkeypatch)
    monkeypatch.setattr(lab_descent, "_invariances", lambda kind, seed: [])
    lost = broken(EXPERIMENTS["descent"](True, 0))
    assert any("largest rate" in line for line in lost) and any("gradient's change" in line for line in lost)


# ---- the formulas and the parts ----------------------------------------------------------------


def test_the_best_momentum_is_where_the_formula_for_the_error_is_least():
    best = lab_running.best_momentum()
    around = [lab_running.squared_error(best * factor) for factor in (0.99, 1.0, 1.01)]
    assert around[1] == min(around)


@pytest.mark.parametrize("kind, sizes", [("batch", 12), ("layer", 24), ("instance", 4), ("group", 8)])
def test_group_numbers_are_of_groups_of_the_right_size(kind, sizes):
    numbers = group_numbers((3, 6, 2, 2), kind, 3)
    assert set(torch.bincount(numbers.flatten()).tolist()) == {sizes}


def test_group_moments_are_those_of_each_group():
    x, numbers = randn(3, 6, 2, 2, seed=0), group_numbers((3, 6, 2, 2), "group", 3)
    mean, var = group_moments(x, numbers)
    part = x[1, 2:4].double()  # group 1 of sample 1
    assert mean[4].item() == pytest.approx(part.mean().item())
    assert var[4].item() == pytest.approx(part.var(correction=0).item())


def test_what_undoes_a_norm_is_known_to_a_rounding_and_does_not_use_up_the_bound():
    assert all(broken(EXPERIMENTS["undoing"](True, seed)) == [] for seed in (21, 62, 67, 73))


@pytest.mark.parametrize(
    "row, holds",
    [
        (Row("", 1, 1.1, "=", 0.2), True),
        (Row("", 1, 1.3, "=", 0.2), False),
        (Row("", 1, 0.5, "≤"), True),
        (Row("", 1, 1.5, "≤"), False),
        (Row("", 1, 1.5, "≥"), True),
        (Row("", 1, 0.5, "≥"), False),
        (Row("", 1, math.nan), False),
        (Row("", 1, math.nan, "≤"), False),
        (Row("", 1, math.nan, "≥"), False),
        (Row("", math.nan, math.nan), True),
        (Row("", math.nan, 1), False),
        (Row("", math.inf, math.inf), True),
        (Row("", math.inf, 1), False),
        (near("", 2, 2.1, relative=0.1), True),
        (near("", 2, 2.3, relative=0.1), False),
        (near("", 0, 0.1, relative=0.1), False),
    ],
)
def test_a_verdict_can_fail(row, holds):
    assert row.holds is holds and row.verdict == ("holds" if holds else "failed")


def test_a_result_without_rows_does_not_hold():
    assert not Result("a", "b", "c", (), ()).holds
    with pytest.raises(ValueError, match="no relation"):
        Row("", 1, 1, "<")


def test_slope_is_the_exponent():
    assert slope([1, 2, 4], [3, 1.5, 0.75]) == pytest.approx(-1)
    assert math.isnan(slope([1, 2], [1, 0]))


def test_numbers_are_shown_with_four_digits():
    assert [shown(v) for v in (0, 0.5, 1234.56, 1e-9, math.nan, math.inf)] == ["0", "0.5", "1235", "1.00e-09", "nan", "inf"]


def test_names_are_chosen_in_order_and_once_and_checked():
    assert chosen(["shift", "epsilon", "shift"]) == ("epsilon", "shift")
    assert chosen("shift") == ("shift",)
    assert chosen([]) == NAMES
    with pytest.raises(StylenormError, match="'moment'; did you mean momentum"):
        next(run_lab(["moment"]))
    with pytest.raises(StylenormError, match="'xyz'; there are standardizing, "):
        chosen(["xyz"])
