"""The style encoder without torch, held against torch's."""

import importlib.util

import numpy as np
import pytest
import torch
from conftest import make_photo
from PIL import Image

from stylenorm.catalog import vgg_file
from stylenorm.perceptual import VGGFeatures, resized_short_side, style_statistics
from stylenorm.predicting import Predictor, small_array
from stylenorm.stored import read_arrays
from stylenorm.style import StyleEncoder
from stylenorm.tensors import to_tensor

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")
CHECKERBOARD = Image.fromarray(np.kron(np.indices((20, 20)).sum(0) % 2, np.ones((4, 4))).astype(np.uint8) * 255).convert("RGB")


@pytest.fixture(scope="module")
def encoder() -> StyleEncoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = StyleEncoder((8, 16), hidden=32)
        for p in encoder.parameters():
            torch.nn.init.normal_(p, std=0.2)
        encoder.mean.normal_()
        encoder.std.uniform_(0.5, 2)
    return encoder.requires_grad_(False)


@pytest.fixture(scope="module")
def vgg() -> VGGFeatures:
    return VGGFeatures.from_file(vgg_file())


def predictor(encoder, half: bool = False) -> Predictor:
    return Predictor({name: value.numpy() for name, value in encoder.state_dict().items()}, lambda: read_arrays(vgg_file()), half=half)


@pytest.mark.parametrize("size", [(60, 44), (44, 60), (64, 64), (40, 150)])
@pytest.mark.parametrize("short", [32, 64])
def test_it_reads_what_torch_reads(encoder, vgg, tmp_path, size, short):
    photo = Image.open(make_photo(tmp_path / "photo.png", size))
    wanted = style_statistics(vgg(resized_short_side(to_tensor(photo), short)))
    ours = predictor(encoder)
    found = ours.statistics(photo, short)
    assert np.abs(found - wanted.numpy()).max() < 1e-2
    assert np.abs(ours(photo, short) - encoder(wanted).numpy()).max() < 2e-3


def test_what_is_no_painting_is_drawn_back_as_far(encoder, vgg):
    wanted = style_statistics(vgg(to_tensor(CHECKERBOARD)))
    standard = (wanted - encoder.mean) / encoder.std
    assert standard.clamp(-5, 5).square().mean().sqrt() > encoder.FARTHEST
    assert np.abs(predictor(encoder)(CHECKERBOARD, 80) - encoder(wanted).numpy()).max() < 2e-3


def test_bfloat16_is_as_good_as_autocasts(encoder, vgg, tmp_path):
    photo = Image.open(make_photo(tmp_path / "photo.png", (120, 90)))
    exact = predictor(encoder).statistics(photo, 64)
    with torch.autocast("cpu", torch.bfloat16):
        autocast = style_statistics(vgg(resized_short_side(to_tensor(photo), 64))).numpy()
    error = np.abs(predictor(encoder, half=True).statistics(photo, 64) - exact).mean()
    assert error <= 1.5 * np.abs(autocast - exact).mean()


def test_numbers_so_large_that_they_overflow_are_told_by_nobody(encoder):
    large = {name: value.numpy() * 1000 for name, value in encoder.state_dict().items()}
    with np.errstate(all="raise", under="ignore"):
        found = Predictor(large, lambda: read_arrays(vgg_file()), half=False).from_statistics(np.ones((1, 1920), np.float32))
    assert np.isfinite(found).all()


def test_what_goes_wrong_while_it_reads_is_raised_where_it_is_waited_for(encoder):
    def broken():
        raise OSError("gone")

    ours = Predictor(broken, lambda: read_arrays(vgg_file()))
    with pytest.raises(OSError, match="gone"):
        ours(CHECKERBOARD, 32)
    with pytest.raises(KeyError):
        Predictor({}, dict)


def test_of_a_scroll_it_reads_the_middle():
    scroll = Image.effect_noise((1000, 40), 80).convert("RGB")
    assert small_array(scroll, 32).shape == (1, 32, 128, 3)
    assert np.array_equal(small_array(scroll, 40), small_array(scroll.crop((420, 0, 580, 40)), 40))
