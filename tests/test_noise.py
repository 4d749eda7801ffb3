"""Noise as a function of place: windows, periods, and what its statistics must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stylenorm.noise import OCTAVES, Between, Noise


def test_a_window_is_a_part_of_any_other_to_the_bit():
    whole = Noise(seed=5).window(-70, -30, 200, 300)
    assert torch.equal(Noise(seed=5).window(10, 100, 50, 60), whole[:, :, 80:130, 130:190])
    assert whole.dtype == torch.float32 and whole.shape == (1, 3, 200, 300)


@pytest.mark.parametrize("period", [(96, 160), (64, 64), (112, 80)])
def test_it_repeats_after_its_period_to_the_bit(period):
    noise = Noise(seed=3, period=period).window(-40, -20, 2 * period[0] + 30, 2 * period[1] + 30)
    height, width = period
    assert torch.equal(noise[:, :, :-height], noise[:, :, height:])
    assert torch.equal(noise[:, :, :, :-width], noise[:, :, :, width:])
    assert not torch.equal(noise[:, :, : height // 2], noise[:, :, height // 2 : height // 2 * 2])


def test_without_a_period_nothing_repeats():
    noise = Noise(seed=1).window(0, 0, 16, 4096)[0].flatten(0, 1).numpy()
    wide = noise - noise.mean(1, keepdims=True)
    spectrum = np.abs(np.fft.rfft(wide, 8192, axis=1)) ** 2
    correlation = np.fft.irfft(spectrum.mean(0))[:2048]
    assert abs(correlation[max(OCTAVES) * 4 :] / correlation[0]).max() < 0.35


@pytest.mark.parametrize("slope, contrast, color", [(0.0, 0.2, 0.5), (0.5, 0.1, 0.0), (-0.5, 0.2, 1.0)])
def test_contrast_and_mean_and_colour(slope, contrast, color):
    windows = [Noise(seed, None, slope, contrast, color).window(0, 0, 512, 512)[0] for seed in range(6)]
    found = torch.stack(windows)
    assert found.mean() == pytest.approx(0.5, abs=0.03)
    assert found.std() == pytest.approx(contrast, rel=0.15)
    flat = (found - 0.5).transpose(0, 1).flatten(1)
    red_green = torch.corrcoef(flat)[0, 1]
    assert red_green == pytest.approx(1 - 1.5 * color, abs=0.2)  # two channels share the grey, and are opposed in colour


def test_seeds_are_apart():
    seeds = [0, 1, 2, 2**32, 2**32 + 1, 2**63 - 1]
    flat = torch.stack([Noise(seed, slope=-1).window(0, 0, 128, 128).flatten() for seed in seeds])
    assert (torch.corrcoef(flat) - torch.eye(len(seeds))).abs().max() < 0.1


def test_octaves_show_no_grid():
    """The variance at each place of a cell, over many cells and seeds, is nearly the same."""
    power = torch.zeros(64)
    for seed in range(12):
        x = Noise(seed, None, 3.0, 0.2, 0.0).window(0, 0, 64, 1024)[0, 0] - 0.5  # the largest cells alone
        power += x.square().mean(0).view(-1, 64).mean(0)
    assert power.std() / power.mean() < 0.15


def test_between_two_seeds_it_stays_as_strong():
    a, b = Noise(1), Noise(2)
    ends = [Between(a, b, t).window(0, 0, 64, 64) for t in (0.0, 1.0)]
    assert torch.allclose(ends[0], a.window(0, 0, 64, 64)) and torch.allclose(ends[1], b.window(0, 0, 64, 64), atol=1e-6)
    middle = Between(Noise(1, slope=-1), Noise(2, slope=-1), 0.5).window(0, 0, 256, 256)
    assert middle.std() == pytest.approx(0.2, rel=0.05)  # a straight line would give 0.14
