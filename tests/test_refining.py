"""A predicted style that is moved towards its painting: it gets nearer, and nothing else moves."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from conftest import make_photo
from PIL import Image

from stylenorm import Stylizer
from stylenorm.cli import main
from stylenorm.engine import REFINE_SIZES, _middle
from stylenorm.errors import StyleError
from stylenorm.perceptual import STYLE_LAYERS, VGGFeatures, grams, style_loss
from stylenorm.refining import refined
from stylenorm.scoring import score
from stylenorm.style import Style
from test_scoring import SHIPPED

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("refining")
    photos = [make_photo(folder / f"p{i}.png", (90, 70), seed=i) for i in range(2)]
    return photos, make_photo(folder / "painting.png", (80, 96), seed=7)


@pytest.mark.parametrize("bfloat16", [True, False])
def test_a_stylizer_that_was_opened_in_inference_mode_refines(weights, pictures, monkeypatch, bfloat16):
    """Without bfloat16 nothing is cast, and it is the weights themselves that are learned through."""
    monkeypatch.setattr("stylenorm.device.cpu_bfloat16", lambda: bfloat16)
    photos, painting = pictures
    with torch.inference_mode():
        stylizer = Stylizer(weights, "cpu", "torch")
        predicted = stylizer.style_from(painting, 64)
        inside = stylizer.refine(predicted, painting, photos, 2, 64)
    assert torch.equal(stylizer.refine(predicted, painting, photos, 2, 64).flat(), inside.flat())


def test_a_refined_style_is_nearer_and_the_network_stays(weights, pictures, monkeypatch):
    monkeypatch.setattr("stylenorm.engine.REFINE_SIZES", (32, 64))
    photos, painting = pictures
    stylizer, vgg = Stylizer(weights, "cpu", "torch"), VGGFeatures.from_file(SHIPPED)
    before = {k: v.clone() for k, v in stylizer._network.generator.state_dict().items()}
    predicted = stylizer.style_from(painting, 64)
    start = predicted.flat().clone()
    refined = stylizer.refine(predicted, painting, photos, 15, 64)
    assert torch.equal(predicted.flat(), start) and not torch.equal(refined.flat(), start)
    assert all(torch.equal(v, before[k]) for k, v in stylizer._network.generator.state_dict().items())
    assert (refined.name, refined.network) == (predicted.name, predicted.network) and not refined.flat().requires_grad
    goal = Image.open(painting).convert("RGB")
    for path in photos:
        photo = Image.open(path).convert("RGB")
        near, far = (score(vgg, photo, goal, stylizer.stylize(photo, style)).total for style in (refined, predicted))
        assert near < 0.9 * far


def test_it_depends_on_nothing_but_what_it_is_given(weights, pictures, monkeypatch):
    monkeypatch.setattr("stylenorm.engine.REFINE_SIZES", (32, 64))
    photos, painting = pictures
    one, two = Stylizer(weights, "cpu", "torch"), Stylizer(weights, "cpu")
    style = one.style_from(painting, 64)
    flats = [s.refine(style, painting, photos, 2, 64).flat() for s in (one, one, two)]
    assert torch.equal(flats[0], flats[1]) and torch.equal(flats[0], flats[2])
    other = one.refine(one.style_from(painting, 64), painting, photos[::-1], 2, 64).flat()
    assert not torch.equal(flats[0], other)
    with torch.inference_mode():
        assert torch.equal(one.refine(one.style_from(painting, 64), painting, photos, 2, 64).flat(), flats[0])


def test_one_photograph_needs_no_list(weights, pictures, monkeypatch):
    monkeypatch.setattr("stylenorm.engine.REFINE_SIZES", (32, 64))
    (photo, _), painting = pictures
    stylizer = Stylizer(weights, "cpu", "torch")
    style = stylizer.style_from(painting, 64)
    flats = [stylizer.refine(style, painting, given, 1, 64).flat() for given in ([photo], str(photo), Image.open(photo))]
    assert all(torch.equal(flat, flats[0]) for flat in flats)
    assert (flats[0] - style.flat()).abs().max().item() == pytest.approx(0.1, rel=1e-3), "Adam's first step, a third of the way warm"


def test_the_loss_is_content_and_ten_times_style_of_each_photograph_in_turn(monkeypatch):
    """By a network that does nothing but halve its colours, and a VGG that sees these."""
    random, shown, losses, gradient = torch.Generator().manual_seed(0), [], [], torch.autograd.grad
    painting, *photos = (torch.rand(1, 3, 8, 8, generator=random) for _ in range(3))

    def vgg(pictures, layers=STYLE_LAYERS):
        return {layer: pictures for layer in layers}

    def generator(photo, style):
        shown.append(next(i for i, other in enumerate(photos) if other is photo))
        return photo * style.gammas[0][..., None, None] + style.betas[0][..., None, None]

    generator.config = SimpleNamespace(channels=(3,))
    rates, move = [], torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: rates.append((self.param_groups[0]["lr"], self.param_groups[0]["betas"])) or move(self))
    monkeypatch.setattr(torch.autograd, "grad", lambda loss, row: losses.append(loss.item()) or gradient(loss, row))
    style = Style([torch.full((1, 3), 0.5)], [torch.zeros(1, 3)], "halved", {"artist": "Ada"}, "0" * 16)
    found = refined(generator, vgg, style.to(torch.float16), painting, photos, 3)
    assert [rate for rate, _ in rates] == pytest.approx([0.1, 0.2 * 2 / 3, 0.1]) and {betas for _, betas in rates} == {(0.9, 0.99)}
    assert found.gammas[0].dtype == torch.float32
    assert shown == [0, 1, 0] and (found.name, found.provenance, found.network) == ("halved", {"artist": "Ada"}, "0" * 16)
    wanted = 0.25 + 10 * style_loss(grams(vgg(photos[0] / 2)), grams(vgg(painting))).item()
    assert losses[0] == pytest.approx(wanted, rel=0.02) and (found.flat() - style.flat()).abs().max() < 0.1 + 0.2 * 2 / 3 + 0.1


def test_a_photograph_of_a_single_colour_is_left_out(weights, pictures, monkeypatch):
    monkeypatch.setattr("stylenorm.engine.REFINE_SIZES", (32, 64))
    photos, painting = pictures
    stylizer, white = Stylizer(weights, "cpu", "torch"), Image.new("RGB", (80, 70), "white")
    style = stylizer.style_from(painting, 64)
    alone, beside = (stylizer.refine(style, painting, shown, 2, 64).flat() for shown in (photos[:1], [white, photos[0]]))
    assert torch.equal(alone, beside)
    assert stylizer.refine(style, painting, white, 2, 64) is style


@pytest.mark.parametrize("size, side", [((2000, 900), 512), ((300, 400), 300), ((512, 512), 512), ((20, 3000), 64)])
def test_it_is_refined_on_the_middle_and_nothing_is_blown_up_but_tiny_pictures(size, side):
    image = Image.new("RGB", size, "blue")
    square = min(size)
    image.paste("red", ((size[0] - square) // 2, (size[1] - square) // 2, (size[0] + square) // 2, (size[1] + square) // 2))
    middle = _middle(image, *REFINE_SIZES)
    assert middle.size == (side, side)
    inner = middle.crop((12, 12, side - 12, side - 12))  # Lanczos looks a little beyond the edge
    assert inner.getcolors() == [((side - 24) ** 2, (255, 0, 0))]


def test_no_steps_and_no_photographs(weights, pictures):
    photos, painting = pictures
    stylizer = Stylizer(weights, "cpu", "torch")
    style = stylizer.style_from(painting, 64)
    assert stylizer.refine(style, painting, photos, 0) is style
    for wrong in (dict(photos=[], steps=3), dict(photos=photos, steps=-1), dict(photos=photos, size=0)):
        with pytest.raises(StyleError):
            stylizer.refine(style, painting, **wrong)


def test_whatever_stylize_takes_for_a_style_is_refined(weights, pictures, monkeypatch):
    monkeypatch.setattr("stylenorm.engine.REFINE_SIZES", (32, 64))
    photos, painting = pictures
    stylizer = Stylizer(weights, "cpu", "torch")
    by_name, itself = (stylizer.refine(style, painting, photos, 1, 64) for style in ("red-hill", stylizer.style("red-hill")))
    assert torch.equal(by_name.flat(), itself.flat())
    with pytest.raises(StyleError, match="not one row"):
        stylizer.refine(itself.map(lambda t: t.repeat(2, 1)), painting, photos, 1, 64)


def test_the_command_line_refines_on_what_it_paints(weights, pictures, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("stylenorm.engine.REFINE_SIZES", (32, 64))
    (photo, _), painting = pictures
    asked, refine = [], Stylizer.refine
    monkeypatch.setattr(Stylizer, "refine", lambda self, *a: asked.append(a) or refine(self, *a))
    base = ["stylize", str(photo), "--weights", str(weights), "--backend", "torch", "--device", "cpu", "--style-size", "64"]
    words = [*base, "--style-image", str(painting)]
    assert main([*words, "-o", str(tmp_path / "a.png")]) == 0 and not asked
    assert main([*words, "--refine", "4", "-o", str(tmp_path / "b.png")]) == 0
    (_, path, shown, steps, size), *_ = asked
    assert (path, steps, size, len(shown)) == (painting, 4, 64, 1) and shown[0].rgb.size == (90, 70)
    assert Image.open(tmp_path / "a.png").tobytes() != Image.open(tmp_path / "b.png").tobytes()
    capsys.readouterr()
    assert main([*base[:-2], "--style", "red-hill", "--refine", "4", "-o", str(tmp_path / "c.png")]) == 2
    assert "--style-image" in capsys.readouterr().err and not (tmp_path / "c.png").exists()


def test_without_bfloat16_a_style_is_refined_as_well(weights, pictures, monkeypatch):
    """As on a Mac's GPU: nothing is cast, so the gradient goes through the very weights that the prediction loaded."""
    monkeypatch.setattr("stylenorm.engine.REFINE_SIZES", (32, 64))
    monkeypatch.setattr("stylenorm.refining.autocast", lambda device: nullcontext())
    stylizer = Stylizer(weights, "cpu", "torch")
    predicted = stylizer.style_from(pictures[1], 64)
    assert not torch.equal(stylizer.refine(predicted, pictures[1], pictures[0], 1, 64).flat(), predicted.flat())
