"""Painting in strips gives the picture that painting at once gives, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from PIL import Image

from stylenorm import tiling
from stylenorm.backends import TorchBackend
from stylenorm.functional import KINDS
from stylenorm.generator import Generator, GeneratorConfig
from stylenorm.spill import Spill
from stylenorm.style import Style, regions
from stylenorm.tiling import Tally, disk_needed, paint_strips

torch.set_num_threads(1)
ROOT = Path(__file__).parent.parent
SHAPES = {
    "as shipped": {"widths": (8, 16, 24, 32), "blocks": (0, 1, 2, 1)},
    "blocks at all resolutions": {"widths": (8, 16), "blocks": (2, 1)},
    "no blocks": {"widths": (8, 8, 16), "blocks": (0, 0, 0)},
}
SIZES = [(60, 44), (64, 64), (173, 17), (16, 150), (33, 1)]


def made(seed: int = 0, **settings) -> tuple[Generator, Style]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = Generator(GeneratorConfig(**settings)).eval()
        for module in generator.modules():
            if getattr(module, "running_var", None) is not None:
                module.running_var.uniform_(0.5, 2)
                module.running_mean.normal_()
        return generator, style_of(generator.config)


def style_of(config: GeneratorConfig) -> Style:
    flat = torch.randn(1, 2, sum(config.channels)) * 0.5 + torch.tensor([1.0, 0.0]).view(1, 2, 1)
    return Style.from_flat(flat, config.channels)


def photo_of(size: tuple[int, int]) -> Image.Image:
    """Bright on the left, dark and busy on the right: a strip or a tile of it has other moments than the whole."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    ground = np.stack([1 - x / width, y / height, 0.5 + 0.3 * np.sin(x / 5)], 2)
    noise = np.random.default_rng(1).normal(0, 0.3, (height, width, 3)) * (x / width)[..., None]
    return Image.fromarray((np.clip(ground + noise, 0, 1) * 255).astype(np.uint8))


def whole(generator: Generator, photo: Image.Image, style: Style) -> np.ndarray:
    return TorchBackend(generator, torch.device("cpu"))(np.asarray(photo), style)


def assert_same(painting: Image.Image, wanted: np.ndarray) -> None:
    """Equal but for a value here and there that lay between two whole numbers."""
    apart = np.abs(np.asarray(painting).astype(int) - wanted)
    assert painting.mode == "RGB" and apart.max() <= 1 and (apart > 0).mean() < 0.002, (apart.max(), (apart > 0).mean())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_strips_give_the_same_picture(kind, shape):
    generator, style = made(norm=kind, **SHAPES[shape])
    for size in SIZES:
        photo = photo_of(size)
        wanted = whole(generator, photo, style)
        for strip, in_memory in ((1, 0), (5000, 20_000), (10**9, 10**9)):  # a row at a time, some, all of it
            assert_same(paint_strips(generator, photo, style, strip=strip, in_memory=in_memory), wanted)


def test_moments_of_each_strip_alone_would_be_another_picture(monkeypatch):
    """The comparison above can fail: with moments of what was read last, it is a quilt."""
    generator, style = made(**SHAPES["as shipped"])
    photo = photo_of((96, 128))
    wanted = whole(generator, photo, style)

    def latest(self, strip):
        self.__init__("instance")
        add(self, strip)

    add = Tally.add
    monkeypatch.setattr(Tally, "add", latest)
    with pytest.raises(AssertionError):
        assert_same(paint_strips(generator, photo, style, strip=5000, in_memory=0), wanted)


def test_sixteen_bits_stay_sixteen_in_strips():
    generator, style = made(**SHAPES["as shipped"])
    photo = np.asarray(photo_of((75, 58))).astype(np.uint16) * 256 + 77
    before = photo.copy()
    wanted = TorchBackend(generator, torch.device("cpu"))(photo, style)
    for strip, in_memory in ((1, 0), (5000, 20_000)):
        painting = paint_strips(generator, photo, style, strip=strip, in_memory=in_memory)
        assert painting.dtype == np.uint16 and np.abs(painting.astype(int) - wanted).max() <= 8
    assert np.array_equal(photo, before) and (painting % 257 > 0).mean() > 0.9


@pytest.mark.parametrize("kind", ["instance", "group"])
def test_regions_are_painted_in_strips(kind):
    generator, style = made(norm=kind, **SHAPES["as shipped"])
    photo = photo_of((75, 58))
    left = torch.zeros(58, 75)
    left[:, :30] = 1
    masks = torch.stack([left, 1 - left])
    style = regions([style, style_of(generator.config)], masks, generator.region_sizes(58, 75))
    assert_same(paint_strips(generator, photo, style, strip=3000, in_memory=0), whole(generator, photo, style))


def test_the_photograph_and_the_style_are_not_changed():
    generator, style = made(**SHAPES["as shipped"])
    photo = photo_of((50, 40))
    before, numbers = np.array(photo), style.flat().clone()
    first = paint_strips(generator, photo, style, strip=1, in_memory=0)
    assert np.array_equal(before, np.asarray(photo)) and torch.equal(numbers, style.flat())
    assert np.array_equal(np.asarray(first), np.asarray(paint_strips(generator, photo, style, strip=1, in_memory=0)))


@pytest.mark.parametrize("groups", [None, 1, 3])
def test_moments_put_together_are_those_of_the_whole(groups):
    """Against NumPy in float64; a mean of 300 deviations would cost a plain sum of squares all its digits."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (6, 70, 50)) * np.arange(1, 7)[:, None, None] + 300 * rng.normal(0, 1, (6, 1, 1))
    x = x.astype(np.float32).astype(np.float64)
    tally = Tally({None: "instance", 1: "layer", 3: "group"}[groups], groups)
    for first, last in ((0, 1), (1, 40), (40, 70)):
        tally.add(torch.tensor(x[None, :, first:last], dtype=torch.float32))
    mean, var = (t.flatten().numpy() for t in tally.moments())
    parts = x.reshape(groups or 6, -1)
    each = 6 // len(parts)
    np.testing.assert_allclose(mean, np.repeat(parts.mean(1), each), rtol=1e-6)
    np.testing.assert_allclose(var, np.repeat(parts.var(1), each), rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(60, 44), (173, 17)])
def test_the_disk_that_is_needed_is_known_before(shape, size, monkeypatch):
    spills = []
    monkeypatch.setattr(tiling, "Spill", lambda *a, **k: spills.append(Spill(*a, **k)) or spills[-1])
    generator, style = made(**SHAPES[shape])
    paint_strips(generator, photo_of(size), style, in_memory=10_000)
    (real,) = spills
    assert disk_needed(generator, size, in_memory=10_000) == real.peak > 0 == real.disk


def test_the_disk_for_a_hundred_megapixels():
    """Three maps at a quarter of the resolution, or one and the last at half of it, with the shipped widths: 3.6 GB."""
    generator = Generator(GeneratorConfig())
    assert 3.5e9 < disk_needed(generator, (12240, 8170)) < 4.2e9


# ---- nothing stays behind ----------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, MemoryError, ValueError])
def test_nothing_stays_after_an_error_or_ctrl_c(tmp_path, trouble):
    generator, style = made(**SHAPES["as shipped"])
    seen = []

    def stop(*_):
        seen.append(open_files(tmp_path))
        raise trouble

    generator.wide[1][0].second.conv.register_forward_hook(stop)
    with pytest.raises(trouble):
        paint_strips(generator, photo_of((60, 44)), style, folder=tmp_path, strip=1, in_memory=0)
    assert list(tmp_path.iterdir()) == []
    if sys.platform == "linux":
        assert len(seen[0]) > 2 and open_files(tmp_path) == []


def open_files(folder: Path) -> list[str]:
    """Of this process, in the folder, whether they still have a name or not."""
    if sys.platform != "linux":
        return []
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # the one that listed them
            continue
    return [name for name in found if name.startswith(str(folder))]


KILLED = """
import os, signal, sys, torch
from PIL import Image
from stylenorm.generator import Generator, GeneratorConfig
from stylenorm.style import Style
from stylenorm.tiling import paint_strips
from pathlib import Path
config = GeneratorConfig(widths=%r, blocks=%r)
generator = Generator(config).eval()
generator.deep[0].second.conv.register_forward_hook(lambda *_: os.kill(os.getpid(), signal.SIGKILL))
style = Style.from_flat(torch.ones(1, 2, sum(config.channels)), config.channels)
paint_strips(generator, Image.new("RGB", (60, 44)), style, folder=Path(sys.argv[1]), in_memory=0)
"""


@pytest.mark.skipif(not hasattr(__import__("signal"), "SIGKILL"), reason="needs SIGKILL")
def test_nothing_stays_after_a_kill(tmp_path):
    script = KILLED % (TINY.widths, TINY.blocks)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script, tmp_path], env=environment, check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert list(tmp_path.iterdir()) == []
