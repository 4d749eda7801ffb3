"""How far train-style comes, on a tiny network."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import add_margins, make_photo
from PIL import Image

from stylenorm import bench_style
from stylenorm.bench_style import run_new_styles
from stylenorm.catalog import style_entries
from stylenorm.cli import main
from stylenorm.engine import Stylizer
from stylenorm.errors import StylenormError
from stylenorm.images import short_side
from stylenorm.new_style import NewStyleConfig
from stylenorm.perceptual import VGGFeatures
from stylenorm.scoring import mean, score, square, unseen_pictures
from test_scoring import SHIPPED

torch.set_num_threads(1)
QUICK = NewStyleConfig(steps=12, batch=1, size=64, photo_scales=(64, 80), style_size=64, learning_rate=3e-2, device="cpu")


@pytest.fixture(scope="module")
def pictures(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("new-styles")
    for i, entry in enumerate(style_entries(weights)):
        make_photo(folder / "styles" / f"{entry.name}.png", (90, 70), seed=i)
    for i in range(2):
        make_photo(folder / "photos" / f"p{i}.png", (90, 70), seed=i + 9)
    return folder


def test_the_three_losses_of_a_style(weights, pictures):
    name, told = style_entries(weights)[0].name, []
    (row,) = run_new_styles(pictures / "photos", pictures / "styles", [name], 2, 64, weights, QUICK, told.append)
    assert row["style"] == name and told == [name] and row["seconds"] > 0
    stylizer, vgg = Stylizer(weights, "cpu"), VGGFeatures.from_file(SHIPPED)
    painting = Image.open(pictures / "styles" / f"{name}.png").convert("RGB")
    shown = [square(p, 64) for p in unseen_pictures(pictures / "photos", 2)]
    for key, style in (("predicted", stylizer.style_from(painting, 64)), ("full", name)):
        judged = mean([score(vgg, x, short_side(painting, 64), stylizer.stylize(x, style)) for x in shown])
        assert row[key] == pytest.approx(judged.total, abs=2e-3)
    assert row["trained"] < row["predicted"]  # it learns even in twelve steps
    way = row["predicted"] - row["full"]  # rounded to 0.001, which tells where it is short
    share = (row["predicted"] - row["trained"]) / way if way > 0 else None
    assert row["share"] == (share if share is None else pytest.approx(share, abs=0.01 + 0.001 * (1 + share) / way))


def test_transparent_margins_are_no_part_of_a_painting(weights, pictures, tmp_path):
    name, quick = style_entries(weights)[0].name, replace(QUICK, steps=1)
    add_margins(pictures / "styles" / f"{name}.png", tmp_path / f"{name}.png")
    folders = (pictures / "styles", tmp_path)
    cut, wide = (run_new_styles(pictures / "photos", styles, [name], 1, 64, weights, quick)[0] for styles in folders)
    assert wide | {"seconds": 0} == cut | {"seconds": 0}


def test_a_style_without_a_painting_is_named(weights, pictures):
    with pytest.raises(StylenormError, match="'nobody'"):
        run_new_styles(pictures / "photos", pictures / "styles", ["nobody"], 1, 64, weights, QUICK)


def test_the_command_line_shows_the_share(capsys, monkeypatch, weights, pictures):
    monkeypatch.setenv("COLUMNS", "200")
    rows = [{"style": "kiss", "predicted": 3.0, "trained": 2.25, "full": 2.0, "share": 0.75, "seconds": 9.4}]
    rows.append({"style": "wave", "predicted": 2.0, "trained": 2.1, "full": 2.0, "share": None, "seconds": 9.4})
    asked = []
    monkeypatch.setattr(bench_style, "run_new_styles", lambda *a: asked.append(a) or rows)
    base = ["bench", "--weights", str(weights), "--photos", str(pictures / "photos"), "--new-style"]
    words = [*base, "--styles", str(pictures / "styles"), "--names", "kiss, wave", "--pictures", "3"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "0.75" in shown and "2.25" in shown and asked[0][2:4] == (["kiss", "wave"], 3)
    assert main([*words, "--json"]) == 0 and json.loads(capsys.readouterr().out) == rows
    assert main(base) == 2 and main([*words, "--each"]) == 2
