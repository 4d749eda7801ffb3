"""Optimizing pixels: the loss falls by both methods, and what cannot be is told."""

from __future__ import annotations

import pytest
from conftest import make_photo
from PIL import Image

from stylenorm import StylenormError
from stylenorm.optimizing import OptimizeConfig, optimize, optimize_file
from stylenorm.perceptual import VGGFeatures
from stylenorm.catalog import vgg_file
from stylenorm.scoring import score


@pytest.fixture(scope="module")
def vgg():
    return VGGFeatures.from_file(vgg_file())


@pytest.mark.parametrize("method", ["adam", "lbfgs"])
def test_the_loss_falls(method, vgg, tmp_path):
    photo = Image.open(make_photo(tmp_path / "a.png", (64, 72), seed=1))
    painting = Image.open(make_photo(tmp_path / "b.png", (80, 64), seed=9))
    steps = []
    painted = optimize(vgg, photo, painting, OptimizeConfig(steps=20, method=method), lambda s, loss: steps.append((s, loss)))
    assert painted.size == photo.size and [s for s, _ in steps] == list(range(1, 21))
    assert score(vgg, photo, painting, painted).total < 0.7 * score(vgg, photo, painting, photo).total


def test_noise_is_seeded(vgg, tmp_path):
    photo = Image.open(make_photo(tmp_path / "a.png", (64, 64)))
    runs = [optimize(vgg, photo, photo, OptimizeConfig(steps=1, start="noise", seed=s)).tobytes() for s in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_files_keep_what_they_have(tmp_path):
    photo = make_photo(tmp_path / "a.png", (100, 60), dpi=(300, 300))
    image = optimize_file(photo, make_photo(tmp_path / "b.jpg", seed=3), size=80, style_size=64, config=OptimizeConfig(steps=1))
    assert image.size == (80, 48) and round(image.info["dpi"][0]) == 300


@pytest.mark.parametrize(
    "values", [{"steps": 0}, {"method": "sgd"}, {"start": "x"}, {"style_layers": ("relu9_1",)}, {"style_layers": ()}]
)
def test_settings_that_cannot_be(values):
    with pytest.raises(StylenormError):
        OptimizeConfig(**values)
