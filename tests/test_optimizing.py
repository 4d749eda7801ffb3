"""Optimizing pixels: the loss falls by both methods, and what cannot be is told."""

from __future__ import annotations

import pytest
import torch
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


def test_it_descends_where_the_caller_is_in_inference_mode(vgg, tmp_path):
    photo = Image.open(make_photo(tmp_path / "a.png", (64, 64)))
    wanted = optimize(vgg, photo, photo, OptimizeConfig(steps=1, start="noise"))
    with torch.inference_mode():
        assert optimize(vgg, photo, photo, OptimizeConfig(steps=1, start="noise")) == wanted


def test_files_keep_what_they_have(tmp_path):
    photo = make_photo(tmp_path / "a.png", (100, 60), dpi=(300, 300))
    image = optimize_file(photo, make_photo(tmp_path / "b.jpg", seed=3), size=80, style_size=64, config=OptimizeConfig(steps=1))
    assert image.size == (80, 48) and round(image.info["dpi"][0]) == 300


def test_a_photograph_too_narrow_for_the_features_is_one_sentence(tmp_path):
    thin = make_photo(tmp_path / "a.png", (200, 7))
    with pytest.raises(StylenormError, match="too narrow: 200 x 7 px"):
        optimize_file(thin, thin, 200, 64, OptimizeConfig(1))
    shallow = OptimizeConfig(1, content_layer="relu3_3", style_layers=("relu1_1",))
    assert optimize_file(thin, thin, 200, 64, shallow).size == (200, 7)


def test_pictures_too_small_for_the_features_are_one_sentence(vgg):
    small, large = (Image.linear_gradient("L").convert("RGB").resize((side, 20)) for side in (4, 20))
    for what, photo, painting in (("photograph", small, large), ("painting", large, small)):
        with pytest.raises(StylenormError, match=f"the {what} is too small .* 4 x 20 px; give one of 8 px"):
            optimize(vgg, photo, painting, OptimizeConfig(1))
    shallow = OptimizeConfig(1, content_layer="relu3_3", style_layers=("relu2_1",))
    assert optimize(vgg, large, small, shallow).size == (20, 20), "only the photograph has to have the content layer"


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0}, {"steps": 1.5}, {"method": "sgd"}, {"start": "x"}, {"style_layers": ("relu9_1",)}, {"style_layers": ()},
        {"style_layers": "relu1_1"}, {"style_weight": float("nan")}, {"style_weight": -10}, {"learning_rate": -0.1}, {"seed": 2**70},
    ],
)  # fmt: skip
def test_settings_that_cannot_be(values):
    with pytest.raises(StylenormError):
        OptimizeConfig(**values)


def test_layers_that_the_features_file_ends_before_are_named(tmp_path):
    photo = make_photo(tmp_path / "a.png", (64, 64))
    with pytest.raises(StylenormError, match="ends before the layer relu5_1"):
        optimize_file(photo, photo, 64, 64, OptimizeConfig(1, style_layers=("relu1_1", "relu5_1")))
    (tmp_path / "x.safetensors").write_bytes(b"none")
    with pytest.raises(StylenormError, match="does not hold VGG-16"):
        optimize_file(photo, photo, 64, 64, OptimizeConfig(1, content_layer="relu5_1"), vgg=tmp_path / "x.safetensors")


def test_a_file_of_all_features_serves_all_layers(tmp_path):
    from safetensors.torch import save_file

    state = {k: v.contiguous() for k, v in VGGFeatures("relu5_3").features.state_dict().items()}
    save_file(state, tmp_path / "vgg.safetensors")
    photo = make_photo(tmp_path / "a.png", (64, 64))
    config = OptimizeConfig(1, style_layers=("relu1_1", "relu5_3"), content_layer="relu5_1")
    assert optimize_file(photo, photo, 64, 64, config, vgg=tmp_path / "vgg.safetensors").size == (64, 64)


def test_other_layers_lead_elsewhere(vgg, tmp_path):
    photo = Image.open(make_photo(tmp_path / "a.png", (64, 64), seed=1))
    painting = Image.open(make_photo(tmp_path / "b.png", (64, 64), seed=9))
    configs = [OptimizeConfig(2), OptimizeConfig(2, style_layers=("relu1_1",)), OptimizeConfig(2, content_layer="relu1_2")]
    assert len({optimize(vgg, photo, painting, config).tobytes() for config in configs}) == 3


def test_the_command_passes_layers_on(tmp_path, monkeypatch, capsys):
    from stylenorm import optimizing
    from stylenorm.cli import main

    asked = []
    monkeypatch.setattr(optimizing, "optimize_file", lambda picture, painting, **options: asked.append(options) or picture.rgb)
    photo, painting = make_photo(tmp_path / "a.png"), make_photo(tmp_path / "b.png")
    words = ["optimize", str(photo), str(painting), "-o", str(tmp_path / "c.png")]
    for option in ("--layers", "--style-layers"):
        assert main([*words, option, "relu1_1, relu3_2", "--content-layer", "relu4_2", "--vgg", str(photo)]) == 0
        assert asked[-1]["config"] == OptimizeConfig(style_layers=("relu1_1", "relu3_2"), content_layer="relu4_2")
        assert asked[-1]["vgg"] == photo
    assert main(words) == 0 and asked[-1]["config"] == OptimizeConfig() and asked[-1]["vgg"] is None
    capsys.readouterr()
    for wrong in (["--layers", "relu9_9"], ["--layers", ","], ["--content-layer", "x"], ["--vgg", "none.safetensors"]):
        assert main([*words, *wrong]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_where_memory_is_short_the_sizes_are_told_and_not_the_photograph(tmp_path, monkeypatch, capsys):
    from stylenorm.cli import main

    photo, painting = make_photo(tmp_path / "a.jpg", (40, 30)), make_photo(tmp_path / "b.jpg", (40, 30), 1)
    monkeypatch.setattr("stylenorm.optimizing.optimize", lambda *_: bytearray(2**62))  # it is enlarged or reduced to --size
    assert main(["optimize", str(photo), str(painting), "-o", str(tmp_path / "o.png"), "--size", "4096"]) == 2
    assert capsys.readouterr().err == "stylenorm: this needs more memory than there is; give a smaller --size or --style-size\n"
