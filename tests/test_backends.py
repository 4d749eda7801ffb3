"""OpenVINO's graph against the generator itself, and what chooses between them."""

import builtins
import importlib.util
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from stylenorm.backends import OpenVINOBackend, TorchBackend, choose_backend
from stylenorm.errors import StylenormError
from stylenorm.generator import Generator, GeneratorConfig
from stylenorm.style import Style, blend, regions

torch.set_num_threads(1)
CPU = torch.device("cpu")
SIZES = [(1, 1), (1, 40), (33, 2), (8, 8), (16, 24), (31, 45), (64, 64), (65, 63)]
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")


def generator_of(norm: str = "instance", **settings) -> Generator:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(**{"widths": (8, 8, 16), "blocks": (1, 0, 2), "norm": norm} | settings))
    for _ in range(3):  # moments of some data for batch norm
        generator(torch.rand(2, 3, 32, 32), style_of(generator))
    return generator.eval()


def style_of(generator: Generator, seed: int = 0) -> Style:
    channels = generator.config.channels
    flat = torch.randn(1, 2, sum(channels), generator=torch.Generator().manual_seed(seed)) * 0.5
    return Style.from_flat(flat + torch.tensor([1.0, 0.0]).view(1, 2, 1), channels)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def distance(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape and a.dtype == b.dtype == np.uint8
    return int(np.abs(a.astype(int) - b.astype(int)).max())


# ---- torch -------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("size", [(5, 7), (17, 30)])
def test_the_torch_backend_is_the_generator_between_two_roundings(size):
    generator = generator_of()
    pixels, style = picture(*size), style_of(generator)
    y = generator(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255, style)[0]
    wanted = np.rint(y.permute(1, 2, 0).numpy().astype(np.float64) * 255)
    painted = TorchBackend(generator, CPU)(pixels, style)
    assert np.abs(painted - wanted).max() <= 1 and (painted == wanted).mean() > 0.99


def test_a_backend_leaves_the_picture_and_the_style_as_they_were():
    generator = generator_of()
    for backend in (TorchBackend(generator, CPU), choose_backend("auto", generator, CPU)):
        pixels, style = picture(20, 30), style_of(generator)
        backend(pixels, style)
        assert np.array_equal(pixels, picture(20, 30)) and torch.equal(style.flat(), style_of(generator).flat())
        pixels.flags.writeable = False  # as PIL hands them out
        backend(pixels, style)
        backend(pixels[::-1, ::2], style)  # strides of any sign


# ---- OpenVINO ----------------------------------------------------------------------------------


@needs_openvino
@pytest.mark.parametrize("norm", ["instance", "layer", "group", "batch"])
def test_openvino_paints_what_torch_paints(norm):
    generator = generator_of(norm)
    ours, theirs = TorchBackend(generator, CPU), OpenVINOBackend(generator, threads=1, precision="f32")
    for seed, size in enumerate(SIZES):
        style, pixels = style_of(generator, seed), picture(*size, seed)
        painted = theirs(pixels, style)
        # One colour has no variance, and what instance norms then magnify is the rounding of each library.
        assert painted.shape == pixels.shape if size == (1, 1) else distance(painted, ours(pixels, style)) <= 1, size
        assert distance(ours(pixels, style), ours(pixels, style_of(generator, seed + 50))) > 10  # a graph without style fails


@needs_openvino
@pytest.mark.parametrize("settings", [{"widths": (8, 16), "blocks": (0, 0)}, {"widths": (4, 8, 8, 16), "blocks": (2, 1, 0, 1)}])
def test_openvino_follows_other_shapes_of_network(settings):
    generator = generator_of(**settings)
    ours, theirs = TorchBackend(generator, CPU), OpenVINOBackend(generator, threads=1, precision="f32")
    for size in ((5, 7), (33, 47)):
        assert distance(theirs(picture(*size), style_of(generator)), ours(picture(*size), style_of(generator))) <= 1


@needs_openvino
def test_bfloat16_is_near():
    generator = generator_of()
    ours, theirs = TorchBackend(generator, CPU), OpenVINOBackend(generator, threads=1, precision="bf16")
    a, b = (paint(picture(40, 57), style_of(generator)).astype(int) for paint in (ours, theirs))
    assert np.abs(a - b).mean() < 3 and np.abs(a - b).max() < 40


@needs_openvino
@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize("bias, value", [(100.0, 255), (-100.0, 0)])
def test_white_stays_white_and_black_black(precision, bias, value):
    """255.5 is 256 in bfloat16, which must not come out as 0."""
    generator = generator_of()
    with torch.no_grad():
        generator.out.bias.fill_(bias)
    for backend in (OpenVINOBackend(generator, 1, precision), TorchBackend(generator, CPU)):
        assert (backend(picture(16, 24), style_of(generator)) == value).all()


@needs_openvino
@pytest.mark.parametrize("precision", ["f32", "auto"])
def test_several_threads_at_once_paint_as_one_after_another(precision):
    generator = generator_of()
    for backend in (OpenVINOBackend(generator, 1, precision), TorchBackend(generator, CPU)):
        jobs = [(picture(*SIZES[i % len(SIZES)], i), style_of(generator, i)) for i in range(24)]
        wanted = [backend(*job) for job in jobs]
        with ThreadPoolExecutor(6) as pool:
            for _ in range(3):
                assert all(np.array_equal(a, b) for a, b in zip(pool.map(lambda job: backend(*job), jobs), wanted))


@needs_openvino
def test_threads_take_turns_with_openvino_from_the_request_to_its_end():
    """A process of six threads has crashed in it."""
    generator = generator_of()
    graph = OpenVINOBackend(generator, 1, "f32").graph
    living, most = [], []

    class Request:
        def __init__(self, real):
            self.real = real
            living.append(1)
            most.append(len(living))

        def infer(self, inputs):
            time.sleep(0.002)  # without Python's lock
            return self.real.infer(inputs)

        def __del__(self):
            living.pop()

    class Compiled:
        outputs, real = graph.compiled.outputs, graph.compiled

        def create_infer_request(self):
            return Request(self.real.create_infer_request())

    graph._first._taken = Compiled()
    style = style_of(generator).flat().float().numpy()
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: graph(picture(16, 24, i), style), range(24)))
    assert len(most) == 24 and max(most) == 1 and not living


@needs_openvino
def test_a_result_stays_when_the_next_one_comes():
    generator = generator_of()
    backend = OpenVINOBackend(generator, 1, "f32")
    first = backend(picture(16, 16, 1), style_of(generator))
    kept = first.copy()
    backend(picture(16, 16, 2), style_of(generator, 5))
    assert np.array_equal(first, kept)


SIGNALLED = """
import os, signal
from stylenorm.backends import OpenVINOBackend
from stylenorm.generator import Generator, GeneratorConfig
made = [OpenVINOBackend(Generator(GeneratorConfig((8, 8), (0, 0)))) for _ in range(2)]
while made:
    del made[0]
signal.signal(signal.SIGINT, lambda *_: print("heard"))
os.kill(os.getpid(), signal.SIGINT)
"""


@needs_openvino
@pytest.mark.skipif(sys.platform == "win32", reason="its signals are others")
def test_signals_are_heard_when_networks_have_come_and_gone():
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", SIGNALLED], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


@needs_openvino
@pytest.mark.parametrize("size", [(24, 32), (19, 37)])
def test_regions_work_on_every_backend(size):
    generator = generator_of()
    height, width = size
    masks = torch.zeros(2, height, width)
    masks[0, :, : width // 2], masks[1, :, width // 2 :] = 1, 1
    a, b = style_of(generator, 1), style_of(generator, 2)
    there = regions([a, b], masks, generator.region_sizes(height, width))
    ours, theirs = TorchBackend(generator, CPU), OpenVINOBackend(generator, 1, "f32")
    painted = theirs(picture(*size), there)
    assert distance(painted, ours(picture(*size), there)) <= 1
    assert distance(painted, theirs(picture(*size), a)) > 10
    same = regions([a, a], masks, generator.region_sizes(height, width))
    assert distance(theirs(picture(*size), same), theirs(picture(*size), a)) <= 1
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda s: theirs(picture(*size), s), [there, a] * 6))
    assert all(np.array_equal(r, painted) for r in results[::2])


@needs_openvino
def test_a_blend_needs_no_other_graph():
    generator = generator_of()
    ours, theirs = TorchBackend(generator, CPU), OpenVINOBackend(generator, 1, "f32")
    mixed = blend([(style_of(generator, 1), 0.3), (style_of(generator, 2), 0.7)])
    assert distance(theirs(picture(20, 20), mixed), ours(picture(20, 20), mixed)) <= 1


# ---- choosing ----------------------------------------------------------------------------------


def without_openvino(monkeypatch):
    real = builtins.__import__

    def importing(name, *rest, **more):
        if name.split(".")[0] == "openvino":
            raise ImportError("No module named 'openvino'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", importing)


@needs_openvino
def test_auto_is_openvino_on_a_cpu():
    assert choose_backend("auto", generator_of(), CPU).name.startswith("OpenVINO")
    assert choose_backend("torch", generator_of(), CPU).name.startswith("torch on cpu, float32")


def test_without_openvino_auto_is_torch(monkeypatch):
    generator = generator_of()
    without_openvino(monkeypatch)
    assert isinstance(choose_backend("auto", generator, CPU), TorchBackend)
    with pytest.raises(StylenormError, match="not installed"):
        choose_backend("openvino", generator, CPU)


@pytest.mark.parametrize("name, device", [("tensorrt", CPU), ("", CPU), ("openvino", torch.device("cuda"))])
def test_a_backend_that_does_not_fit_is_refused_in_one_sentence(name, device):
    with pytest.raises(StylenormError) as caught:
        choose_backend(name, generator_of(), device)
    assert "\n" not in str(caught.value) and (name or "backend") in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_paints_what_the_cpu_paints():
    generator = generator_of()
    wanted = TorchBackend(generator, CPU)(picture(40, 57), style_of(generator)).astype(int)
    painted = TorchBackend(generator, torch.device("cuda"))(picture(40, 57), style_of(generator))
    assert np.abs(painted - wanted).mean() < 3


# ---- moments from outside ----------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["instance", "layer", "group", "batch"])
def test_torch_steered_by_its_own_moments_is_torch(norm):
    generator = generator_of(norm)
    backend, style, pixels = TorchBackend(generator, CPU), style_of(generator), picture(31, 45)
    nothing = np.zeros((2, sum(generator.config.channels)), np.float32)
    painted, own = backend.steered(pixels, style, nothing, 1.0)
    assert distance(painted, backend(pixels, style)) <= 1
    again, same = backend.steered(pixels, style, own, 0.0)
    assert distance(again, painted) <= 1
    np.testing.assert_allclose(same, own, rtol=1e-3, atol=1e-3)


@needs_openvino
@pytest.mark.parametrize("norm", ["instance", "layer", "group", "batch"])
@pytest.mark.parametrize("share", [1.0, 0.3, 0.0])
def test_openvino_steered_is_torch_steered(norm, share):
    generator = generator_of(norm)
    ours, theirs = TorchBackend(generator, CPU), OpenVINOBackend(generator, threads=1, precision="f32")
    style = style_of(generator)
    given = ours.steered(picture(40, 40, 7), style, np.zeros((2, sum(generator.config.channels)), np.float32), 1.0)[1]
    for seed, size in enumerate(SIZES[2:]):
        wanted, own = ours.steered(picture(*size, seed), style, given, share)
        painted, found = theirs.steered(picture(*size, seed), style, given, share)
        assert distance(painted, wanted) <= 1
        np.testing.assert_allclose(found, own, rtol=2e-3, atol=2e-3)


@needs_openvino
@pytest.mark.parametrize("norm", ["instance", "layer", "group", "batch"])
def test_openvino_pools_what_torch_pools(norm):
    generator = generator_of(norm)
    ours, theirs, style = TorchBackend(generator, CPU), OpenVINOBackend(generator, 1, "bf16"), style_of(generator)
    frames = np.stack([picture(31, 45, seed) // (seed + 1) for seed in range(3)])  # the later the darker
    given = np.random.default_rng(0).uniform(0.5, 1, (2, sum(generator.config.channels))).astype(np.float32)
    theirs.regional = None  # so that it cannot be asked
    for share in (1.0, 0.4):
        wanted, found = (backend.pooled(frames, style, given, share) for backend in (ours, theirs))
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)  # in float32, whatever it paints in


@needs_openvino
def test_moments_of_many_pixels_are_pooled_to_the_last_digits():
    """One sum of all of them in float32 is off by a thousand times as much, and paintings in bfloat16 by 26 levels."""
    generator = generator_of(widths=(8, 8), blocks=(0, 0))
    style, given = style_of(generator), np.zeros((2, sum(generator.config.channels)), np.float32)
    frames = np.stack([picture(256, 256, seed) // 4 + 190 for seed in range(6)])
    wanted, found = (kind(generator, *more).pooled(frames, style, given, 1.0) for kind, more in ((TorchBackend, [CPU]), (OpenVINOBackend, [])))
    np.testing.assert_allclose(found, wanted, rtol=3e-5, atol=3e-5)
