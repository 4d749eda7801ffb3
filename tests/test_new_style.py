"""A new style: only its row moves, it gets nearer to the painting, and nothing is left when it is stopped."""

from __future__ import annotations

import base64
import io
import math
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import make_photo, make_weights
from PIL import Image

from stylenorm import Cancelled, NewStyleConfig, StyleError, StylenormError, Stylizer, load_style, train_style
from stylenorm.catalog import left_behind, renew_style, style_entries, user_styles_folder
from stylenorm.checkpoint import save_style
from stylenorm.data import find_images, held_out
from stylenorm.generator import GeneratorConfig
from stylenorm.metadata import read_metadata
from stylenorm.perceptual import STYLE_LAYERS, content_loss, grams, style_loss, style_statistics

QUICK = NewStyleConfig(steps=12, batch=1, size=64, photo_scales=(64, 80), style_size=64, learning_rate=3e-2)


@pytest.fixture
def painting(tmp_path):
    return make_photo(tmp_path / "painting.jpg", (90, 70), seed=5)


@pytest.fixture
def photos(tmp_path):
    return make_photo(tmp_path / "photos" / "a.jpg", (80, 90), seed=2).parent


def test_a_style_is_learned_kept_and_usable_at_once(weights, painting, photos, tmp_path):
    records = []
    file = train_style(
        "my style", [painting], photos, weights, config=QUICK, about={"artist": "Ada Painter"}, progress=records.append
    )
    assert file == user_styles_folder() / "my style.safetensors" and file.stat().st_size < 13_000
    assert [r.step for r in records] == list(range(1, 13)) and records[-1].seconds_left == 0
    assert min(r.total for r in records[-3:]) < 0.8 * records[0].total
    stylizer = Stylizer(weights)
    image = stylizer.stylize(painting, "my style")
    assert image.size == (90, 70)
    assert image.tobytes() == stylizer.stylize(painting, records[-1].current).tobytes() or _near(
        image, stylizer.stylize(painting, records[-1].current)
    )
    about = read_metadata(file, "style")["about"]
    assert about["artist"] == "Ada Painter" and about["training"]["images"] == 12
    thumbnail = Image.open(io.BytesIO(base64.b64decode(about["thumbnail"])))
    assert thumbnail.size == (96, 75) and thumbnail.format == "JPEG"
    file.unlink()


def test_of_two_trainings_of_one_name_the_second_is_refused_before_it_has_begun(weights, painting, photos, tmp_path):
    """The one that ended last has overwritten the other, whose minutes were lost without a word."""
    quick, asked = replace(QUICK, steps=1), []

    def another(record) -> None:
        asked.append(record)
        with pytest.raises(StylenormError, match="another training is at work on the style 'MINE'"):
            train_style("MINE", painting, photos, weights, tmp_path / "own", quick)
        train_style("other", painting, photos, weights, tmp_path / "own", quick)

    file = train_style("mine", painting, photos, weights, tmp_path / "own", quick, progress=another)
    assert asked and sorted(p.name for p in file.parent.iterdir()) == ["mine.safetensors", "other.safetensors"]
    with pytest.raises(StyleError, match="already"):
        train_style("mine", painting, photos, weights, tmp_path / "own", quick)
    with pytest.raises(Cancelled):
        train_style("mine", painting, photos, weights, tmp_path / "fresh", quick, should_stop=lambda: True)
    assert not (tmp_path / "fresh").exists()


def test_a_style_of_before_an_update_is_brought_to_the_new_network(weights, other_weights, painting, photos):
    about = {"artist": "Ada Painter", "year": 1901}
    file = train_style("my style", painting, photos, weights, config=QUICK, about=about)
    assert left_behind(weights) == {} and left_behind(other_weights) == {"my style": file}
    with pytest.raises(StyleError, match="was made for another network; bring it to this one with: stylenorm styles renew"):
        Stylizer(other_weights, "cpu", "torch").stylize(painting, "my style")
    with pytest.raises(StyleError, match="belongs to this network already"):
        renew_style("my style", weights)
    entry = renew_style("my style", other_weights)
    assert (entry.name, entry.artist, entry.year, entry.file) == ("my style", "Ada Painter", 1901, file)
    known = read_metadata(file, "style")["about"]
    assert known["renewed"] and known["thumbnail"] and "training" not in known
    there = Stylizer(other_weights, "cpu", "torch")
    predicted = there.style_from(painting, size=64).flat()
    assert (there.style("my style").flat() - predicted).abs().max() < 0.02 * predicted.abs().max(), "but for float16 and bfloat16"
    renew_style("my style", weights)
    assert left_behind(weights) == {}, "back again, as often as one likes"
    file.unlink()


def test_what_cannot_be_renewed_is_one_sentence_and_stays(weights, other_weights, painting, photos):
    with pytest.raises(StyleError, match="no style is named"):
        renew_style("nowhere", weights)
    file = train_style("mine", painting, photos, weights, config=QUICK)
    style, before = load_style(file), file.read_bytes()
    for text in ({}, {"statistics": "no base64"}, {"statistics": 5}, {"statistics": base64.b64encode(b"ab" * 7).decode()}):
        about = {k: v for k, v in style.provenance.items() if k != "statistics"} | text
        save_style(file, replace(style, provenance=about))
        damaged = file.read_bytes()
        with pytest.raises(StyleError, match="does not tell of its painting what this network's encoder takes; train it again"):
            renew_style("mine", other_weights)
        assert file.read_bytes() == damaged
    file.write_bytes(before)
    save_style(user_styles_folder() / "red-hill.safetensors", replace(style, name="red-hill"))
    with pytest.raises(StyleError, match="there is a style named 'red-hill' already"):
        renew_style("red-hill", other_weights)
    for name in ("mine", "red-hill"):
        (user_styles_folder() / f"{name}.safetensors").unlink()


def test_a_stylizer_that_was_there_before_knows_it(weights, painting, photos):
    stylizer = Stylizer(weights, "cpu", "torch")
    file = train_style("late", painting, photos, weights, config=replace(QUICK, steps=1))
    try:
        assert stylizer.stylize(painting, {"late": 1, "red-hill": 1}).size == (90, 70) and "late" in stylizer.styles
    finally:
        file.unlink()


def _near(a: Image.Image, b: Image.Image) -> bool:
    """The file holds float16."""
    difference = [abs(x - y) for x, y in zip(a.tobytes(), b.tobytes())]
    return sum(difference) / len(difference) < 1


def test_it_starts_from_the_prediction(weights, painting, photos, tmp_path):
    still = NewStyleConfig(steps=1, batch=1, size=64, photo_scales=(64, 80), style_size=64, learning_rate=0.0)
    file = train_style("still", [painting], photos, weights, tmp_path, still)
    predicted = Stylizer(weights).style_from(painting, 64)
    torch.testing.assert_close(load_style(file).flat(), predicted.flat(), rtol=2e-3, atol=2e-3)


def test_squares_of_a_single_colour_do_not_end_a_training(painting, tmp_path):
    """Where the photograph is next to nothing but sky. Of a shallow network's norms the gradient stays below what float32 holds."""
    weights = make_weights(tmp_path / "deep", 3, GeneratorConfig((8, 8, 8, 8), (0, 1, 2, 4)))
    sky = Image.new("RGB", (500, 64), "skyblue")
    sky.paste((90, 60, 30), (0, 0, 20, 64))
    (tmp_path / "photos").mkdir()
    sky.save(tmp_path / "photos" / "sky.png")
    config = replace(QUICK, steps=3, photo_scales=(64, 64), batch=2)
    assert train_style("sky", painting, tmp_path / "photos", weights, tmp_path, config).is_file()


def test_the_network_file_is_left_alone(weights, painting, photos, tmp_path):
    before = (weights / "network.safetensors").read_bytes()
    train_style("x", [painting, painting], photos, weights, tmp_path, QUICK)
    assert (weights / "network.safetensors").read_bytes() == before


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_it_learns_where_the_caller_has_switched_gradients_off(off, weights, painting, photos, tmp_path):
    flats = []
    for folder, around in (("on", nullcontext), ("off", off)):
        with around():
            flats.append(load_style(train_style("a", painting, photos, weights, tmp_path / folder, replace(QUICK, steps=1))).flat())
    assert torch.equal(*flats)


def test_a_single_painting_needs_no_list(weights, painting, photos, tmp_path):
    quick = NewStyleConfig(steps=1, size=64, photo_scales=(64, 80), style_size=64)
    listed = load_style(train_style("listed", [painting], photos, weights, tmp_path, quick)).flat()
    for name, given in (("path", painting), ("text", str(painting)), ("image", Image.open(painting))):
        file = train_style(name, given, photos, weights, tmp_path, quick)
        torch.testing.assert_close(load_style(file).flat(), listed, rtol=0, atol=0)


def test_a_painting_whose_name_is_no_utf8_gives_a_style(weights, painting, photos, tmp_path):
    try:
        odd = painting.rename(tmp_path / "caf\udce9.jpg")
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    quick = NewStyleConfig(steps=1, size=64, photo_scales=(64, 80), style_size=64)
    file = train_style("odd", [odd], photos, weights, tmp_path, quick)
    assert read_metadata(file, "style")["about"]["paintings"] == [odd.name]


def test_stopping_leaves_nothing(weights, painting, photos, tmp_path):
    with pytest.raises(Cancelled):
        train_style("x", [painting], photos, weights, tmp_path / "styles", QUICK, should_stop=lambda: True)
    assert not (tmp_path / "styles").exists()


def test_minutes_end_it(weights, painting, photos, tmp_path):
    records = []
    config = NewStyleConfig(minutes=0.01, batch=1, size=64, photo_scales=(64, 80), style_size=64)
    train_style("x", [painting], photos, weights, tmp_path, config, progress=records.append)
    assert records and records[-1].seconds_left == 0


def test_a_slow_machine_takes_fewer_steps_unless_told_otherwise(weights, painting, photos, tmp_path, monkeypatch):
    small = {"batch": 1, "size": 64, "photo_scales": (64, 80), "style_size": 64}
    monkeypatch.setattr("stylenorm.new_style.MINUTES", 1e-4)  # as if each step took a minute
    for name, config, steps in (("a", NewStyleConfig(**small), 1), ("b", NewStyleConfig(steps=3, **small), 3)):
        records = []
        train_style(name, [painting], photos, weights, tmp_path, config, progress=records.append)
        assert len(records) == steps and records[-1].seconds_left == 0
    unhurried = NewStyleConfig()
    assert [unhurried.done(step, 0) for step in (0, 125, 250)] == [0, 0.5, 1]
    assert NewStyleConfig(minutes=2).done(10**6, 60) == NewStyleConfig(steps=1, minutes=2).done(10**6, 60) == 0.5
    assert NewStyleConfig(steps=8).done(2, 10**6) == 0.25


def test_squares_come_round_and_are_looked_at_once(weights, painting, photos, tmp_path, monkeypatch):
    from stylenorm.data import RandomCrops

    cut, crop = [], RandomCrops.__getitem__
    monkeypatch.setattr(RandomCrops, "__getitem__", lambda self, index: cut.append(index) or crop(self, index))
    config = NewStyleConfig(steps=5, batch=2, size=64, photo_scales=(64, 80), style_size=64, crops=3)
    records = []
    train_style("x", [painting], photos, weights, tmp_path, config, progress=records.append)
    assert cut == [0, 1, 2] and len(records) == 5
    with pytest.raises(StylenormError, match="at least one square"):
        NewStyleConfig(crops=0)


def plain_learning(**settings):
    """A training whose network does nothing but scale and shift colours, and whose VGG sees these: for its arithmetic."""
    from stylenorm.new_style import _describe, _Learning

    def generator(photos, style):
        return photos * style.gammas[0][..., None, None] + style.betas[0][..., None, None]

    generator.config = SimpleNamespace(channels=(3,))

    def vgg(pictures, layers=STYLE_LAYERS):
        return {layer: pictures for layer in layers}

    random = torch.Generator().manual_seed(0)
    crops, paintings = (torch.rand(3, 3, 8, 8, generator=random), [torch.rand(1, 3, 8, n, generator=random) for n in (6, 9)])
    goals, statistics = _describe(vgg, paintings)
    for layer, goal in goals.items():
        torch.testing.assert_close(goal, sum(grams(vgg(p))[layer] for p in paintings) / 2)
    torch.testing.assert_close(statistics, sum(style_statistics(vgg(p)) for p in paintings) / 2)
    row = torch.tensor([[[0.5, 0.5, 0.5], [0, 0, 0]]]).requires_grad_()
    return _Learning(generator, vgg, goals, row, NewStyleConfig(**settings)), [SimpleNamespace(pixels=crop) for crop in crops]


def gradient(learning, row, photos) -> torch.Tensor:
    """Of 2 x content + 5 x style."""
    row = row.clone().requires_grad_()
    painted = photos * row[:, 0, :, None, None] + row[:, 1, :, None, None]
    style = style_loss(grams({layer: painted for layer in STYLE_LAYERS}), learning.goals).mean()
    return torch.autograd.grad(2 * content_loss(painted, photos).mean() + 5 * style, row)[0]


def test_what_a_style_file_tells_of_its_training(weights, painting, photos, tmp_path):
    wide = make_photo(tmp_path / "wide.jpg", (96, 64), seed=6)
    file = train_style("two", [wide, painting], photos, weights, tmp_path / "own", replace(QUICK, steps=3, batch=2))
    about = read_metadata(file, "style")["about"]
    assert about["training"] == {"steps": 3, "images": 6, "learning_rate": 0.03}
    assert (about["paintings"], about["style_size"]) == (["wide.jpg", "painting.jpg"], 64)
    assert Image.open(io.BytesIO(base64.b64decode(about["thumbnail"]))).size == (96, 64), "of the first"


def test_the_rate_warms_up_and_falls_to_nothing_and_the_average_follows():
    learning, crops = plain_learning(steps=4, batch=2, crops=3, content_weight=2.0, style_weight=5.0)
    average, rate = learning.row.detach().clone(), learning.optimizer.param_groups[0]
    shown, show = [], learning._shown
    learning._shown = lambda crops, index: shown.append(index) or show(crops, index)
    for step, record in enumerate(learning.steps(crops, "plain", "0" * 16)):
        row = learning.row.detach()
        assert rate["lr"] == pytest.approx(0.1 * (step + 1) / 10 * (1 + math.cos(math.pi * step / 4)) / 2)
        assert step or (row - average).abs().max().item() == pytest.approx(0.01, rel=1e-3), "Adam's first step"
        if not step:
            painted = torch.stack([crop.pixels / 2 for crop in crops[:2]])
            style = style_loss(grams({layer: painted for layer in STYLE_LAYERS}), learning.goals).mean().item()
            assert (record.content, record.style) == pytest.approx((0.25, style), rel=0.02), "shares of what is wanted"
            assert learning.optimizer.param_groups[0]["betas"] == (0.9, 0.99)
            torch.testing.assert_close(learning.row.grad, gradient(learning, average, painted * 2), rtol=0.05, atol=0.02)
        average = torch.lerp(row, average, (2 + step) / (11 + step))
        torch.testing.assert_close(learning.average, average)
        assert torch.equal(record.current.flat(), learning.average) and (record.current.name, record.current.network) == ("plain", "0" * 16)
        assert (record.step, record.steps) == (step + 1, 4) and record.total == pytest.approx(2 * record.content + 5 * record.style)
    assert record.step == 4 and record.seconds_left == 0 and shown == [0, 1, 2, 0, 1, 2, 0, 1]
    learning.step, before = 998, learning.average.clone()
    learning.config = replace(learning.config, steps=1000)
    next(learning.steps(crops, "plain", ""))
    torch.testing.assert_close(learning.average, before.lerp(learning.row.detach(), 0.03))


def test_a_loss_that_is_not_finite_ends_it():
    learning, crops = plain_learning(steps=4)
    learning.goals = {layer: torch.full_like(goal, torch.nan) for layer, goal in learning.goals.items()}
    with pytest.raises(StylenormError, match="the loss is not finite at step 1; try a learning rate below 0.1"):
        next(learning.steps(crops, "plain", ""))


@pytest.mark.parametrize("name", ["", "a/b", "../x", "red-hill", "RED-HILL", ".hidden", "x" * 80, "dot."])
def test_names_that_cannot_be(name, weights, painting, photos, tmp_path):
    with pytest.raises(StyleError) as told:
        train_style(name, [painting], photos, weights, tmp_path, QUICK)
    assert "\n" not in str(told.value)
    assert "red-hill" in {e.name for e in style_entries(weights)}


def test_photographs_of_a_single_colour_are_refused(weights, painting, tmp_path):
    (tmp_path / "white").mkdir()
    Image.new("RGB", (80, 70), "white").save(tmp_path / "white" / "a.png")
    with pytest.raises(StylenormError, match="a.png is of a single colour.*give photographs"):
        train_style("x", painting, tmp_path / "white", weights, tmp_path, QUICK)


def test_a_painting_of_a_single_colour_is_refused(weights, painting, photos, tmp_path):
    Image.new("RGB", (80, 70), "navy").save(tmp_path / "blue.png")
    with pytest.raises(StylenormError, match="blue.png is of a single colour, which is no style.*give a painting"):
        train_style("x", [painting, tmp_path / "blue.png"], photos, weights, tmp_path / "styles", QUICK)


def test_bad_input_is_one_sentence(weights, painting, photos, tmp_path):
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    for paintings, folder in (([], photos), ([text], photos), ([painting], tmp_path / "none")):
        with pytest.raises(StylenormError) as told:
            train_style("x", paintings, folder, weights, tmp_path, QUICK)
        assert "\n" not in str(told.value)
    NewStyleConfig(steps=1, batch=1, crops=1, size=64, style_size=64, learning_rate=10, content_weight=0)
    for wrong in ({"steps": 0}, {"batch": 0}, {"minutes": 0.0}, {"minutes": float("nan")}, {"minutes": float("inf")}):
        with pytest.raises(StylenormError):
            NewStyleConfig(**wrong)
    for wrong in ({"size": 0}, {"style_size": 8}, {"learning_rate": float("nan")}, {"learning_rate": -0.1}, {"learning_rate": 10.1}, {"style_weight": -1}, {"content_weight": float("inf")}, {"size": 64.5}, {"photo_scales": (64,)}):
        with pytest.raises(StylenormError, match=f"{next(iter(wrong))} must be"):
            NewStyleConfig(**wrong)


def test_what_no_file_can_hold_is_told_before_the_training(weights, painting, photos, tmp_path):
    records = []
    with pytest.raises(StyleError, match="PosixPath|WindowsPath"):
        train_style("x", painting, photos, weights, tmp_path / "styles", QUICK, about={"source": painting}, progress=records.append)
    assert not records and not (tmp_path / "styles").exists()


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_too_little_memory_is_one_sentence(error, weights, painting, photos, tmp_path, monkeypatch):
    from stylenorm import new_style

    def fail(*_):
        raise error

    monkeypatch.setattr(new_style._Learning, "_move", fail)
    with pytest.raises(StylenormError, match="smaller style size") as told:
        train_style("x", [painting], photos, weights, tmp_path / "styles", QUICK)
    assert "\n" not in str(told.value) and not (tmp_path / "styles").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_where_there_is_none_is_one_sentence(weights, painting, photos, tmp_path):
    from dataclasses import replace

    with pytest.raises(StylenormError, match="no device 'cuda' here; choose cpu or auto"):
        train_style("x", [painting], photos, weights, tmp_path, replace(QUICK, device="cuda"))


def test_photographs_that_are_held_out_are_not_learned_on(weights, tmp_path, monkeypatch):
    """Those that a training of the network leaves out as well, and that styles are judged on."""
    painting, photos = make_photo(tmp_path / "p.png"), tmp_path / "photos"
    photos.mkdir()
    for i in range(100):
        (photos / f"{i}.jpg").touch()
    taken = []
    monkeypatch.setattr("stylenorm.new_style.RandomCrops", lambda files, *_: taken.extend(files) or pytest.fail("enough"))
    with pytest.raises(pytest.fail.Exception, match="enough"):
        train_style("fresh", painting, photos, weights, tmp_path / "styles")
    kept, out = held_out(find_images(photos))
    assert taken == kept and out
