"""What several test files need: a small network that runs in milliseconds, and photographs to put through it."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import signal
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stylenorm import training, training_model
from stylenorm.checkpoint import load_network, network_hash, save_network, save_style
from stylenorm.compat import openvino
from stylenorm.device import usual_defaults
from stylenorm.generator import Generator, GeneratorConfig
from stylenorm.perceptual import VGGFeatures
from stylenorm.style import Style, StyleEncoder

TINY = GeneratorConfig(widths=(8, 16, 16), blocks=(0, 0, 1))
PAINTINGS = {
    "blue-tree": {"title": "Blue Tree", "artist": "Ada Painter", "year": 1901, "licence": "public domain"},
    "red-hill": {"title": "Red Hill", "artist": "Jānis Krāsa", "year": 1888, "licence": "public domain"},
    "tall-grass": {},  # nothing is known of it
}

# The files that take longest, as they are run first: of several processes, one would else be busy with the last while the others have no more.
LONGEST = (
    "test_app_browser", "test_cli", "test_training", "test_app", "test_app_safety", "test_video", "test_app_film", "test_layers",
    "test_export", "test_plain", "test_generating", "test_faithful", "test_lab", "test_cli_batch",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_works():
    """A shell lets its background jobs, and all that they start, ignore Ctrl-C; the tests send it to what they start."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session", autouse=True)
def no_styles_of_the_users(tmp_path_factory):
    """Styles that somebody has made on this machine are none of the tests' business."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLENORM_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("STYLENORM_WEIGHTS", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread_elsewhere():
    """In processes that the tests start: two threads wait for each other longer than a small network takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session", autouse=True)
def few_examples():
    """For a network of some channels, on pictures of 64 px, sixteen of them take longer than the training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stylenorm.training.EXAMPLES", 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """A graph that is, to its last number, one that was compiled in this process before is not compiled again, which takes
    OpenVINO 50 ms even of a small one; and one thread computes it: two that wait for each other take four times as long."""
    if find_spec("openvino") is None:
        yield
        return
    core, files, compiled = openvino().Core, [tmp_path_factory.mktemp("graphs") / name for name in ("graph.xml", "graph.bin")], {}
    compile, take, alone = core.compile_model, core.import_model, {"INFERENCE_NUM_THREADS": 1}

    def import_model(self, data, device, settings=None):
        return take(self, data, device, alone | (settings or {}))

    def compile_model(self, model, device, settings=None):
        settings = alone | (settings or {})
        if not isinstance(model, openvino().Model):  # as OpenVINO's own functions call it
            return compile(self, model, device, settings)
        openvino().serialize(model, *map(str, files))
        graph, numbers = (file.read_bytes() for file in files)
        graph = re.sub(rb'(names?="\w*?)_\d+"', rb'\1"', graph)  # which node of this process it is
        key = hashlib.sha256(graph + numbers + repr((device, sorted(settings.items()))).encode()).digest()
        if key not in compiled:
            if len(compiled) >= 32:
                del compiled[next(iter(compiled))]
            compiled[key] = compile(self, model, device, settings)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core, "compile_model", compile_model)
        patch.setattr(core, "import_model", import_model)
        yield


@pytest.fixture(scope="session", autouse=True)
def features_once():
    """VGG is read from a file once in this process, with the random numbers drawn that reading it draws."""
    read, drawn, real = {}, {}, VGGFeatures.from_file

    def from_file(path, last="relu4_3"):
        told = Path(path).stat() if Path(path).is_file() else None
        file = str(path), told and (told.st_size, told.st_mtime_ns), last, torch.is_inference_mode_enabled()
        before = file, torch.get_rng_state().numpy().tobytes()
        if file not in read or read[file]._compiled_call_impl:  # that one was a run's own
            read[file] = real(path, last)
            drawn[before] = torch.get_rng_state()
        elif before not in drawn:
            with usual_defaults():
                VGGFeatures(last)
            drawn[before] = torch.get_rng_state()
        torch.set_rng_state(drawn[before])
        return copy.deepcopy(read[file]) if torch.cuda.is_available() else read[file]  # where it may be taken elsewhere

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VGGFeatures, "from_file", from_file)
        yield


@pytest.fixture(scope="module")
def described_once():
    """For a file of many small trainings, all of the same pictures: what VGG sees in one is computed once."""
    described, real = {}, training_model.describe

    def describe(vgg, pictures, smaller=()):
        if not isinstance(vgg, VGGFeatures):  # a stand-in
            return real(vgg, pictures, smaller)
        given = (vgg.features[0].weight, pictures)
        key = (*(x.cpu().numpy().tobytes() for x in given), pictures.shape, pictures.device, smaller, torch.is_autocast_enabled("cpu"))
        if key not in described:
            described[key] = real(vgg, pictures, smaller)
        grams, statistics = described[key]
        return {layer: gram.clone() for layer, gram in grams.items()}, statistics.clone()

    with pytest.MonkeyPatch.context() as patch:
        for module in (training, training_model):
            patch.setattr(module, "describe", describe)
        yield


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A weights folder with a random network and three styles. Its VGG is the shipped one."""
    return make_weights(tmp_path_factory.mktemp("weights"), seed=0)


@pytest.fixture(scope="session")
def other_weights(tmp_path_factory) -> Path:
    """The same with other numbers: its styles do not fit `weights`."""
    return make_weights(tmp_path_factory.mktemp("other-weights"), seed=1)


def make_weights(folder: Path, seed: int, config: GeneratorConfig = TINY) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = Generator(config)
        encoder = StyleEncoder(config.channels, hidden=16)
        flats = torch.randn(len(PAINTINGS), 1, 2, sum(config.channels)) * 0.5 + torch.tensor([1.0, 0.0]).view(1, 1, 2, 1)
    digest = save_network(folder / "network.safetensors", generator, encoder, training={"images": 0})
    assert digest == network_hash(generator)
    for (name, about), flat in zip(PAINTINGS.items(), flats):
        style = Style.from_flat(flat, config.channels, name=name, provenance=about, network=digest)
        save_style(folder / "styles" / f"{name}.safetensors", style)
    return folder


def add_generation(folder: Path, seed: int = 5) -> Path:
    """A random network that paints noise, for the styles of the network in ``folder``."""
    network = load_network(folder / "network.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = Generator(network.generator.config)
    training = {"slope": 0.5, "contrast": 0.2, "color": 0.3}
    save_network(folder / "generate.safetensors", generator, None, training=training, styles_of=network.hash)
    return folder


@pytest.fixture
def no_root(monkeypatch):
    """Files that are read-only are so to root as well, whom the tests may run as."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **k: access(path, mode, **k) and not (mode & os.W_OK and not os.stat(path).st_mode & 0o200))


@pytest.fixture
def photo(tmp_path) -> Path:
    """A JPEG of 60 x 44 px."""
    return make_photo(tmp_path / "photo.jpg")


def add_margins(picture: Path, target: Path) -> Path:
    """A picture of no transparency amid transparent margins, as PNG."""
    image = Image.open(picture).convert("RGB")
    wide = Image.new("RGBA", (2 * image.width, 2 * image.height))
    wide.paste(image, (image.width // 3, image.height // 2))
    wide.save(target)
    return target


def make_photo(path: Path, size: tuple[int, int] = (60, 44), seed: int = 0, **options) -> Path:
    """A picture with smooth forms and some noise."""
    width, height = size
    y, x = np.mgrid[:height, :width] / max(size)
    waves = [np.sin(6 * (x + k * y) + seed + k) for k in range(3)]
    noise = np.random.default_rng(seed).normal(0, 0.05, (height, width, 3))
    pixels = np.clip(0.5 + 0.4 * np.stack(waves, 2) + noise, 0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((pixels * 255).astype(np.uint8)).save(path, **options)
    return path
