"""Convolutions in 8 bits: the ranges that they take, where those are kept, and what is painted with them."""

import numpy as np
import pytest
import torch
from conftest import TINY, make_photo, make_weights
from PIL import Image

from stylenorm import graph
from stylenorm.architecture import KINDS, GeneratorConfig
from stylenorm.catalog import photos_folder
from stylenorm.checkpoint import load_network, load_ranges, load_style, save_ranges
from stylenorm.engine import Stylizer
from stylenorm.errors import StylenormError, WeightsError
from stylenorm.generator import Generator
from stylenorm.graph import CompiledGraph
from stylenorm.images import to_tensor
from stylenorm.plain import plain_stylizer
from stylenorm.ranges import measured_ranges
from stylenorm.stored import ranges_file
from stylenorm.style import Style


def arrays(generator: Generator) -> dict:
    return {k: v.detach().numpy() for k, v in generator.state_dict().items()}


def example(config: GeneratorConfig, seed: int) -> tuple:
    noise = torch.Generator().manual_seed(seed)
    row = torch.randn(1, 2, sum(config.channels), generator=noise) * 0.5 + torch.tensor([1.0, 0.0]).view(1, 2, 1)
    return torch.rand(1, 3, 64, 48, generator=noise), row


@pytest.fixture
def quick(tmp_path):
    """A weights folder of which the ranges are known."""
    folder = make_weights(tmp_path / "w", 0)
    network = load_network(folder / "network.safetensors")
    rows = [load_style(path).flat() for path in sorted((folder / "styles").glob("*"))]
    photo = to_tensor(Image.open(make_photo(tmp_path / "seen.jpg", (90, 80), 3)))
    save_ranges(folder / "network.safetensors", network.hash, measured_ranges(network.generator, [(photo, row) for row in rows]))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_it_paints_what_float32_paints_but_for_the_rounding(kind):
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig((8, 16, 16), (1, 0, 1), kind)).eval()
    pictures = [example(generator.config, seed) for seed in range(4)]
    ranges = {name: value.numpy() for name, value in measured_ranges(generator, pictures).items()}
    exact = CompiledGraph(generator.config, arrays(generator), 1, "f32")
    rounded = CompiledGraph(generator.config, arrays(generator), 1, "int8", ranges)
    assert rounded.name == "OpenVINO on cpu, int8"
    for x, row in pictures:
        pixels = (x[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        off = rounded(pixels, row.numpy()).astype(float) - exact(pixels, row.numpy())
        assert 0 < np.sqrt((off**2).mean()) < 8, "of 255 levels"
        deep = pixels.astype(np.uint16) * 257
        assert np.array_equal(rounded(deep, row.numpy()), exact(deep, row.numpy())), "16 bits are not for 8"


def test_convolutions_are_in_8_bits():
    """What OpenVINO makes of the graph, not only what it is asked for."""
    pytest.importorskip("openvino")
    generator = Generator(TINY).eval()
    ranges = {name: value.numpy() for name, value in measured_ranges(generator, [example(TINY, 0)]).items()}
    whole = CompiledGraph(TINY, arrays(generator), 1, "int8", ranges)
    steered, deep = whole._model(np.dtype(np.uint8), steered=True), whole._model(np.dtype(np.uint16))
    rough = whole._model(np.dtype(np.uint8), steered=True, fine=False)
    for compiled, eight in ((whole.compiled, True), (rough.model, True), (steered.model, False), (deep.model, False)):
        nodes = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
        kinds = [about["primitiveType"].astype(str) for about in nodes if about["layerType"].astype(str) == "Convolution"]
        kinds = [kind for kind in kinds if "dw" not in kind]  # what γ, β and averages come through
        assert len(kinds) == len(TINY.names) + 1 and {kind.upper().endswith("I8") for kind in kinds} == {eight}, kinds


def test_ranges_are_the_largest_values_that_a_convolution_meets():
    torch.manual_seed(1)
    generator = Generator(TINY).eval()
    pictures = [example(TINY, seed) for seed in range(3)]
    ranges = measured_ranges(generator, pictures)
    weights = {n.removesuffix(".weight").removesuffix(".conv"): w for n, w in generator.state_dict().items() if w.dim() == 4}
    assert {n: v.numel() for n, v in ranges.items()} == {n: w.shape[1] for n, w in weights.items()}
    assert ranges["stem"].tolist() == [1.0] * 12
    met = []
    hook = generator.out.register_forward_pre_hook(lambda _, x: met.append(x[0].detach().abs().amax((0, 2, 3))))
    with torch.inference_mode():
        for x, row in pictures:
            generator(x, Style.from_flat(row, TINY.channels))
    hook.remove()
    most = torch.stack(met).amax(0)
    assert (ranges["out"] <= most.clamp_min(most.max() / 8) + 1e-5).all()
    assert (ranges["out"] > 0.7 * most).all(), "but for the few that are cut off"


@pytest.mark.parametrize(
    "x86, bfloat16, backend, eight",
    [(True, False, "auto", True), (True, True, "auto", False), (False, False, "auto", False)]
    + [(True, False, "openvino", False), (True, True, "openvino-int8", True)],
)
def test_where_8_bits_are_taken_with_and_without_torch(quick, photo, monkeypatch, x86, bfloat16, backend, eight):
    pytest.importorskip("openvino")
    monkeypatch.setattr(graph, "is_x86", lambda: x86)
    monkeypatch.setattr(graph, "has_bfloat16", lambda core: bfloat16)
    ours, plain = Stylizer(quick, "cpu", backend), plain_stylizer(quick, "cpu", backend, None, None)
    assert ours.describe().endswith("int8") == eight
    painted = ours.stylize(photo, "red-hill")
    assert np.array_equal(painted, plain.stylize(photo, plain.resolve([("red-hill", 1.0)])))
    if eight:
        assert not np.array_equal(painted, Stylizer(quick, "cpu", "openvino").stylize(photo, "red-hill"))


def test_a_network_without_ranges_and_8_bits_is_one_sentence(weights):
    pytest.importorskip("openvino")
    with pytest.raises(StylenormError, match="8 bits"):
        Stylizer(weights, "cpu", "openvino-int8")
    assert plain_stylizer(weights, "cpu", "openvino-int8", None, None) is None, "the stylizer tells"


def test_ranges_of_another_network_are_passed_over(quick, other_weights):
    network = load_network(quick / "network.safetensors")
    assert load_ranges(quick / "network.safetensors", network).keys() == {*TINY.names, "out"}
    (quick / "network.safetensors").write_bytes((other_weights / "network.safetensors").read_bytes())
    assert load_ranges(quick / "network.safetensors", load_network(quick / "network.safetensors")) is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "another kind"])
def test_a_damaged_file_is_one_sentence(quick, damage):
    file = ranges_file(quick / "network.safetensors")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes({"cut": data[:-9], "flipped": data}.get(damage, (quick / "styles" / "red-hill.safetensors").read_bytes()))
    with pytest.raises(WeightsError, match="ranges"):
        Stylizer(quick, "cpu")
    assert plain_stylizer(quick, "cpu", "openvino-int8", None, None) is None, "the stylizer tells"


def test_ranges_that_float16_cannot_hold_are_not_written(quick):
    file = ranges_file(quick / "network.safetensors")
    file.unlink()
    save_ranges(quick / "network.safetensors", "0" * 16, {"stem": torch.full((12,), 1e6)})
    assert not file.exists()


def test_the_shipped_network_paints_in_8_bits_what_it_paints_in_more():
    pytest.importorskip("openvino")
    eight, exact = (Stylizer(device="cpu", backend=backend) for backend in ("openvino-int8", "torch"))
    photo = Image.open(photos_folder() / "coffee.jpg").convert("RGB").resize((128, 96))
    off = np.asarray(eight.stylize(photo, "kiss")).astype(float) - np.asarray(exact.stylize(photo, "kiss"))
    assert np.sqrt((off**2).mean()) < 10, "of 255 levels"


def test_the_frames_of_a_film_are_painted_in_8_bits_by_the_moments_of_all_and_measured_by_the_way():
    pytest.importorskip("openvino")
    eight, exact = (Stylizer(device="cpu", backend=backend) for backend in ("openvino-int8", "torch"))
    photos = [np.asarray(Image.open(photos_folder() / f"{name}.jpg").convert("RGB").resize((128, 96))) for name in ("coffee", "chelsea")]
    style = exact.resolve("kiss")
    given = exact._backend.steered(photos[1], style, np.zeros((2, sum(style.channels)), np.float32), 1.0)[1]
    for share in (1.0, 0.3, 0.0):
        wanted, mean_var = exact._backend.steered(photos[0], style, given, share, fine=False)
        painted, found = eight._backend.steered(photos[0], style, given, share, fine=False)
        off = painted.astype(float) - wanted
        assert np.sqrt((off**2).mean()) < 12 and np.abs(off.mean((0, 1))).max() < 4, "of 255 levels"
        spread = np.sqrt(mean_var[1] + 1e-5)
        assert np.abs(found[0] - mean_var[0]).mean() < 0.1 * spread.mean() and np.median(np.abs(found[1] / mean_var[1] - 1)) < 0.1
    fine = eight._backend.steered(photos[0], style, given, 0.3)[0].astype(float)
    assert np.sqrt(((fine - exact._backend.steered(photos[0], style, given, 0.3)[0]) ** 2).mean()) < 4, "not in 8 bits unless that will do"
