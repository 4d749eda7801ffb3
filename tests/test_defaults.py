"""What trains and judges is the same whatever a program has made torch's default dtype and device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import add_generation, make_photo, make_weights

from stylenorm import NewStyleConfig, OptimizeConfig, Stylizer, TrainConfig, device, load_style, train, train_style
from stylenorm.catalog import vgg_file
from stylenorm.checkpoint import load_network
from stylenorm.device import memory_format, usual_defaults
from stylenorm.export import export_files
from stylenorm.generating import NoisePainter
from stylenorm.lab import run_lab
from stylenorm.layouts import Layout
from stylenorm.optimizing import optimize_file
from stylenorm.perceptual import VGGFeatures
from stylenorm.scoring import Yardstick

PACKAGE = Path(__file__).parent.parent / "stylenorm"


@contextmanager
def strange_defaults() -> Iterator[None]:
    """float64, and a device that has no numbers: what is made on it by mistake is told at once."""
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


class Tools:
    """Each returns an array of what came out."""

    def __init__(self, folder) -> None:
        self.folder, self.weights, self.runs = folder, add_generation(make_weights(folder / "weights", 0)), 0
        self.photo, self.painting = make_photo(folder / "photos" / "a.png", (72, 80)), make_photo(folder / "styles" / "p.png", (90, 70), 5)

    def new(self):
        self.runs += 1
        return self.folder / f"run{self.runs}"

    def train(self):
        tiny = {"widths": (8, 16, 16), "blocks": (0, 0, 1), "encoder_width": 16, "steps": 1, "batch": 2, "size": 64, "style_size": 64}
        tiny |= {"photo_scales": (64, 80), "device": "cpu", "tensorboard": "off", "recolored": 0.5}
        file = train(TrainConfig(str(self.folder / "photos"), str(self.new()), str(self.folder / "styles"), **tiny))
        return load_network(file).generator.state_dict()["stem.conv.weight"].numpy()

    def train_style(self):
        config = NewStyleConfig(steps=1, batch=1, size=64, photo_scales=(64, 80), style_size=64, device="cpu")
        return load_style(train_style("s", self.painting, self.folder / "photos", self.weights, self.new(), config)).flat().numpy()

    def refine(self):
        stylizer = Stylizer(self.weights, "cpu", "torch")
        return stylizer.refine("red-hill", self.painting, self.photo, 1, 64).flat().detach().numpy()

    def optimize(self):
        return np.asarray(optimize_file(self.photo, self.painting, 64, 64, OptimizeConfig(1, start="noise"), "cpu"))

    def score(self):
        yardstick = Yardstick.of(VGGFeatures.from_file(vgg_file()), self.photo, self.painting, 64)
        return np.array(list(yardstick.judged(self.photo)[0].to_dict().values()))

    def regions(self):
        stylizer, half = Stylizer(self.weights, "cpu", "torch"), np.tile([[0.0], [1.0]], (40, 72))
        return np.asarray(stylizer.stylize(self.photo, stylizer.region_style([("red-hill", half), ("blue-tree", 1 - half)], (72, 80))))

    def layout(self):
        layout = Layout(np.array([[0, 1], [1, 0]], np.uint8))
        return np.asarray(NoisePainter(self.weights, device="cpu").generate(["red-hill", "blue-tree"], (64, 64), 3, layout=layout))

    def export(self):
        return np.array(export_files("torchscript", self.new().with_suffix(".pt"), self.weights, {})["count"])

    def lab(self):
        return np.array([row.measured for result in run_lab(["standardizing", "undoing"], quick=True) for row in result.rows])


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    return Tools(tmp_path_factory.mktemp("defaults"))


IN_THREADS = ("train", "train_style", "refine", "regions", "layout")  # of the app


@pytest.fixture
def turns(monkeypatch):
    """Whether this thread was alone at the device, at each convolution; as on a Mac's GPU, at which two end the process."""
    found, convolve = [], torch.nn.functional.conv2d
    monkeypatch.setattr(device, "ALONE", {"cpu"})
    monkeypatch.setattr("torch.nn.functional.conv2d", lambda *given, **more: found.append(device._turn._is_owned()) or convolve(*given, **more))
    return found


@pytest.mark.parametrize("name", [name for name in vars(Tools) if name[0] != "_" and name != "new"])
def test_torchs_defaults_change_nothing(tools, name, request):
    if torch.__version__ < "2.13" and name in ("train", "train_style", "refine", "optimize"):
        pytest.skip("torch's own Adam counts its steps on the default device")
    wanted = getattr(tools, name)() if name in ("train_style", "optimize", "regions", "lab") else None  # all would take long
    turns = request.getfixturevalue("turns") if name in IN_THREADS else [True]
    with strange_defaults():
        found = getattr(tools, name)()
        assert torch.get_default_dtype() == torch.float64 and torch.ones(1).is_meta, "and are as they were"
    assert np.isfinite(found).all() and turns and all(turns) and not device._turn._is_owned()
    if wanted is not None:
        np.testing.assert_allclose(found.astype(float), wanted.astype(float), rtol=1e-5, atol=1e-6)


def test_what_learns_on_a_mac_pools_no_channels_last_maps(tools, monkeypatch):
    """Of which the gradient there ends the process (https://github.com/pytorch/pytorch/issues/175190)."""
    for module in ("engine", "backends"):
        monkeypatch.setattr(f"stylenorm.{module}.memory_format", lambda device: memory_format(torch.device("mps")))
    monkeypatch.setattr("stylenorm.perceptual._fuses", lambda x: False)  # of a CPU alone
    pooled, pool = [], torch.nn.functional.max_pool2d
    monkeypatch.setattr("torch.nn.functional.max_pool2d", lambda x, *args, **more: pooled.append(x) or pool(x, *args, **more))
    tools.refine()
    assert pooled and all(x.is_contiguous() for x in pooled)
    assert memory_format(torch.device("cpu")) == memory_format(torch.device("cuda")) == torch.channels_last
    moved = re.compile(r"(device|where), memory_format=torch\.channels_last")
    assert not [path.name for path in PACKAGE.glob("*.py") if moved.search(path.read_text(encoding="utf-8"))]


def test_modules_made_inside_are_usual_ones_and_the_defaults_come_back_after_an_error():
    with strange_defaults():
        with pytest.raises(ZeroDivisionError), usual_defaults():
            layer = torch.nn.Linear(2, 2)
            1 / 0
        assert torch.get_default_dtype() == torch.float64 and torch.ones(1).is_meta
    assert layer.weight.dtype == torch.float32 and layer.weight.is_cpu
