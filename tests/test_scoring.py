"""Scores: zero where they must be, the losses of `perceptual` elsewhere, on the pictures that training did not see."""

import sys
from pathlib import Path

import pytest
import torch
from conftest import make_photo
from PIL import Image

from stylenorm import scoring
from stylenorm.data import held_out
from stylenorm.engine import Stylizer
from stylenorm.errors import StylenormError
from stylenorm.images import to_tensor
from stylenorm.perceptual import VGGFeatures, content_loss, grams, style_loss
from stylenorm.scoring import Score, mean, run_peer, score, score_named, score_pairs, square, unseen_pictures

torch.set_num_threads(1)
SHIPPED = Path(__file__).parent.parent / "weights" / "vgg16.safetensors"


@pytest.fixture(scope="module")
def vgg() -> VGGFeatures:
    return VGGFeatures.from_file(SHIPPED)


@pytest.fixture(scope="module")
def stylizer(weights) -> Stylizer:
    return Stylizer(weights, "cpu", "torch")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scoring")
    for i in range(3):
        make_photo(folder / "photos" / f"p{i}.png", (70 + 4 * i, 66), seed=i)
        make_photo(folder / "paintings" / f"a{i}.png", (70, 66 + 4 * i), seed=10 + i)
    for i, name in enumerate(("blue-tree", "red-hill", "tall-grass")):
        make_photo(folder / "styles" / f"{name}.png", (90, 70), seed=30 + i)
    return folder


def drawn(tmp_path: Path, seed: int, size=(48, 40)) -> Image.Image:
    return Image.open(make_photo(tmp_path / f"{seed}.png", size, seed)).convert("RGB")


def test_a_picture_is_at_no_distance_from_itself(vgg, tmp_path):
    a, b = drawn(tmp_path, 0), drawn(tmp_path, 5, (64, 40))
    assert score(vgg, a, b, a).content == 0 and score(vgg, a, b, a).style > 0.01
    assert score(vgg, a, b, b.crop((0, 0, 48, 40))).content > 0.01
    assert score(vgg, a, a, a) == Score(0, 0)


def test_a_score_is_the_loss_of_the_8_bit_pictures(vgg, tmp_path):
    a, b, c = drawn(tmp_path, 0), drawn(tmp_path, 5, (64, 40)), drawn(tmp_path, 7)
    with torch.no_grad():
        x, y, z = (vgg(to_tensor(im)) for im in (a, b, c))
        content, style = content_loss(z["relu3_3"], x["relu3_3"]).item(), style_loss(grams(z), grams(y)).item()
    got = score(vgg, a, b, c)
    assert (got.content, got.style) == pytest.approx((content, style), rel=1e-4)
    assert got.total == pytest.approx(content + 10 * style, rel=1e-4)


def test_the_mean_of_scores():
    assert mean([Score(1, 2), Score(3, 6)]) == Score(2, 4) and mean([Score(1, 2), Score(3, 6)]).total == 42


def test_unseen_pictures_are_held_out_and_evenly_spread(tmp_path):
    files = [tmp_path / f"{i:04d}.png" for i in range(400)]
    for path in files:
        path.touch()
    _, out = held_out(files)
    assert unseen_pictures(tmp_path, 10**6) == out
    for count in (1, 3, 5, len(out) - 1, len(out)):
        chosen = unseen_pictures(tmp_path, count)
        places = [out.index(p) for p in chosen]
        assert len(set(chosen)) == count and places == sorted(places)
        gaps = [b - a for a, b in zip(places, places[1:] + [places[0] + len(out)])]
        assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("count", [1, 2, 3, 4, 50])
def test_of_few_pictures_each_comes_once(pictures, count):
    chosen = unseen_pictures(pictures / "photos", count)
    assert len(set(chosen)) == len(chosen) == min(count, 3)


def test_squares_are_the_middle(tmp_path):
    picture = Image.new("RGB", (90, 30), "red")
    picture.paste("blue", (30, 0, 60, 30))
    picture.save(tmp_path / "x.png")
    middle = square(tmp_path / "x.png", 30)
    assert middle.size == (30, 30) and set(middle.getcolors()) == {(900, (0, 0, 255))}


def test_named_styles_are_scored_each_on_every_photograph(stylizer, vgg, pictures):
    ticks = []
    result = score_named(stylizer, vgg, pictures / "photos", pictures / "styles", size=48, count=2, tick=ticks.append)
    assert list(result) == ticks == list(stylizer.styles)
    photos = [square(p, 48) for p in unseen_pictures(pictures / "photos", 2)]
    painting = scoring.short_side(Image.open(pictures / "styles" / "red-hill.png").convert("RGB"), 48)
    wanted = mean([score(vgg, x, painting, stylizer.stylize(x, "red-hill")) for x in photos])
    assert result["red-hill"] == wanted and len(set(result.values())) == 3


def test_a_style_without_its_painting_is_named(stylizer, vgg, pictures, tmp_path):
    make_photo(tmp_path / "blue-tree.png")
    with pytest.raises(StylenormError, match="red-hill"):
        score_named(stylizer, vgg, pictures / "photos", tmp_path, size=48, count=1)


def test_pairs_are_scored_beside_the_unchanged_photograph(stylizer, vgg, pictures, tmp_path):
    got = score_pairs(stylizer, vgg, pictures / "photos", pictures / "paintings", 2, 48, 40, folder=tmp_path / "out")
    assert got.pairs == 2 and got.peer is None
    assert got.unchanged.content == 0 and got.unchanged.style > 0 and got.ours.content > 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [f"0{i}-{kind}.png" for i in (0, 1) for kind in ("ours", "photo", "style")]
    x, y, z = (Image.open(tmp_path / "out" / f"00-{kind}.png") for kind in ("photo", "style", "ours"))
    x1, y1, z1 = (Image.open(tmp_path / "out" / f"01-{kind}.png") for kind in ("photo", "style", "ours"))
    wanted = mean([score(vgg, x, y, z), score(vgg, x1, y1, z1)])
    assert (got.ours.content, got.ours.style) == pytest.approx((wanted.content, wanted.style))
    assert x.size == (48, 48) and y.size == (40, 40)


def test_another_program_is_scored_on_the_same_pairs(stylizer, vgg, pictures, monkeypatch):
    """A peer that gives the photograph back scores what the photograph scores."""
    program = "import shutil, sys\nfor i in range(int(sys.argv[2])):\n    shutil.copy(f'{sys.argv[1]}/{i:02d}-photo.png', f'{sys.argv[1]}/{i:02d}-peer.png')\nprint('[]')"
    monkeypatch.setattr(scoring, "PEER_PAIRS", program)
    got = score_pairs(stylizer, vgg, pictures / "photos", pictures / "paintings", 2, 48, 40, peer=sys.executable)
    assert got.peer == got.unchanged


@pytest.mark.parametrize("python, program", [("/none/python", "print(1)"), (sys.executable, "raise SystemExit('no such thing')"), (sys.executable, "print('x')"), (sys.executable, "1/0")])
def test_a_peer_that_does_not_run_is_one_sentence(python, program):
    with pytest.raises(StylenormError) as caught:
        run_peer(python, program)
    assert python in str(caught.value) and "\n" not in str(caught.value)


def test_a_peer_gets_arguments_and_answers_in_json():
    assert run_peer(sys.executable, "import sys, json; print(json.dumps(sys.argv[1:]))", "a", "b c") == ["a", "b c"]
