"""The table of every style on every photograph."""

import json
import sys
from functools import partial

import pytest
import torch
from conftest import add_margins, make_photo
from PIL import Image

from stylenorm import bench_table
from stylenorm.bench_table import run_table
from stylenorm.catalog import style_entries
from stylenorm.cli import main
from stylenorm.engine import Stylizer
from stylenorm.errors import StylenormError
from stylenorm.images import short_side
from stylenorm.perceptual import VGGFeatures
from stylenorm.scoring import score, square, unseen_pictures
from test_scoring import SHIPPED

torch.set_num_threads(1)
COPIES = """
import shutil, sys
for k in range(int(sys.argv[3])):
    for i in range(int(sys.argv[2])):
        shutil.copy(f"{sys.argv[1]}/photo-{i}.png", f"{sys.argv[1]}/peer-{k}-{i}.png")
print("[]")
"""


@pytest.fixture(scope="module")
def pictures(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    for i, entry in enumerate(style_entries(weights)):
        make_photo(folder / "styles" / f"{entry.name}.png", (90, 70), seed=i)
    for i in range(3):
        make_photo(folder / "photos" / f"p{i}.png", (90, 70), seed=i + 9)
    return folder


def test_each_style_on_each_photograph_beside_a_peer_that_gives_photographs_back(weights, pictures, monkeypatch):
    monkeypatch.setattr(bench_table, "PEER", COPIES)
    told = []
    rows = run_table(pictures / "photos", pictures / "styles", 2, 64, weights, "cpu", sys.executable, told.append)
    names = [entry.name for entry in style_entries(weights)]
    assert [r["style"] for r in rows] == [*names, "all"] and told == names
    files = unseen_pictures(pictures / "photos", 2)
    assert all(list(r["photographs"]) == list(r["peer_photographs"]) == [f.name for f in files] for r in rows)
    stylizer, vgg = Stylizer(weights, "cpu"), VGGFeatures.from_file(SHIPPED)
    painting = short_side(Image.open(pictures / "styles" / f"{names[1]}.png").convert("RGB"), 64)
    photo = square(files[1], 64)
    ours = score(vgg, photo, painting, stylizer.stylize(photo, names[1]))
    assert rows[1]["photographs"][files[1].name] == pytest.approx(ours.total, abs=2e-3)
    assert rows[1]["peer_photographs"][files[1].name] == pytest.approx(score(vgg, photo, painting, photo).total, abs=2e-3)
    for row in rows:
        assert row["total"] == pytest.approx(sum(row["photographs"].values()) / 2, abs=2e-3)
        assert row["total"] == pytest.approx(row["content"] + 10 * row["distance"], abs=2e-3)
        assert row["peer"] == pytest.approx(sum(row["peer_photographs"].values()) / 2, abs=2e-3)
    for kind in ("photographs", "peer_photographs"):
        column = [r[kind][files[0].name] for r in rows[:-1]]
        assert rows[-1][kind][files[0].name] == pytest.approx(sum(column) / len(column), abs=2e-3)


def test_without_a_peer_there_is_nothing_of_it(weights, pictures):
    assert all("peer" not in r for r in run_table(pictures / "photos", pictures / "styles", 1, 64, weights, "cpu"))


def test_photographs_of_one_name_in_several_folders_have_each_a_number(weights, pictures, tmp_path):
    for i, folder in enumerate(("a", "b")):
        make_photo(tmp_path / folder / "0001.png", (90, 70), seed=i)
    for row in run_table(tmp_path, pictures / "styles", 2, 64, weights, "cpu"):
        numbers = row["photographs"]
        assert list(numbers) == ["a/0001.png", "b/0001.png"] and row["total"] == pytest.approx(sum(numbers.values()) / 2, abs=2e-3)


def test_transparent_margins_are_no_part_of_a_painting(weights, pictures, tmp_path):
    for painting in (pictures / "styles").iterdir():
        add_margins(painting, tmp_path / painting.name)
    cut, wide = (run_table(pictures / "photos", styles, 1, 64, weights, "cpu") for styles in (pictures / "styles", tmp_path))
    assert wide == cut


def test_a_smaller_painting_of_the_peer_is_enlarged(tmp_path):
    make_photo(tmp_path / "small.png", (20, 20))
    assert bench_table._as_large(tmp_path / "small.png", Image.new("RGB", (40, 30))).size == (40, 30)


def test_a_missing_painting_is_named(weights, pictures, tmp_path):
    make_photo(tmp_path / "kiss.png")
    with pytest.raises(StylenormError, match="no painting for the style"):
        run_table(pictures / "photos", tmp_path, 1, 64, weights, "cpu")


def test_the_command_line_shows_a_column_a_photograph(capsys, monkeypatch, weights, pictures):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(bench_table, "run_table", partial(run_table, size=64))

    def run(*words) -> tuple[int, str]:
        return main([str(w) for w in ("bench", "--weights", weights, "--photos", pictures / "photos", *words)]), capsys.readouterr().out

    words = ("--styles", pictures / "styles", "--pictures", "2", "--each")
    (code, shown), (_, rows) = run(*words), run(*words, "--json")
    assert code == 0 and all(r["style"] in shown and f"{r['total']:.2f}" in shown for r in json.loads(rows))
    assert run("--each")[0] == 2 and run(*words, "--paintings", pictures / "styles")[0] == 2
    for useless in (("--names", "kiss"), ("--network", "x.safetensors"), ("--dead", "x.safetensors")):  # which would be passed over
        assert run(*words, *useless)[0] == 2
