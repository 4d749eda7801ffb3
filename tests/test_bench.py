"""Figures of quality. Times are in BENCHMARKS.md, not in tests."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from conftest import make_photo
from PIL import Image

from stylenorm.bench import run_bench, run_quality
from stylenorm.bench_faces import again, run_faces
from stylenorm.bench_film import clips, run_film, sharpness, unrest
from stylenorm.bench_plain import detail, lattice, run_plain
from stylenorm.catalog import photos_folder
from stylenorm.errors import ImageError, StylenormError
from stylenorm.faces import Face
from stylenorm.scoring import score_pairs


def test_quality_has_a_row_for_each_style_and_their_mean(weights, tmp_path, monkeypatch):
    from stylenorm.catalog import style_entries

    monkeypatch.setattr("stylenorm.bench.NAMED_SIZE", 80)
    monkeypatch.setattr("stylenorm.bench.PAIR_SIZE", 64)
    monkeypatch.setattr("stylenorm.bench.score_pairs", partial(score_pairs, painting_size=64))
    names = [e.name for e in style_entries(weights)]
    for i, name in enumerate(names):
        make_photo(tmp_path / "styles" / f"{name}.jpg", (80, 70), seed=i)
    for i in range(2):
        make_photo(tmp_path / "photos" / f"{i}.jpg", (90, 70), seed=i + 9)
        make_photo(tmp_path / "paintings" / f"{i}.jpg", (90, 70), seed=i + 19)
    rows = run_quality(tmp_path / "photos", tmp_path / "styles", tmp_path / "paintings", 1, 2, weights)
    assert [r["what"] for r in rows] == [*names, "all named styles", "2 paintings", "the same, photographs as they are"]
    assert [r["size"] for r in rows] == [80] * (len(names) + 1) + [64] * 2
    named = rows[: len(names)]
    assert rows[len(names)]["total"] == pytest.approx(sum(r["total"] for r in named) / len(named), abs=2e-3)
    assert all(r["total"] == pytest.approx(r["content"] + 10 * r["style"], abs=2e-3) for r in rows)
    assert rows[-1]["content"] == 0 and rows[-2]["content"] > 0
    more = run_quality(tmp_path / "photos", None, tmp_path / "paintings", 1, 1, weights, refine=2)
    assert more[0]["what"] == "1 painting"  # of a folder so small all may have been learned from
    assert [r["what"] for r in more][1] == "the same, refined in 2 steps" and more[1]["total"] != more[0]["total"]


def test_speed_is_a_ratio_to_something_in_the_same_run(weights):
    rows = run_bench((64,), 1, weights)
    assert {"torch.nn"} < {r["reference"] for r in rows}
    own = [r for r in rows if r["what"] == r["reference"]]
    assert own and all(r["ratio"] == 1 for r in own)
    assert all(r["milliseconds"] > 0 for r in rows)


def test_a_size_out_of_range_is_refused():
    with pytest.raises(StylenormError, match="between 16 and 8192"):
        run_bench((5,))


def test_films_are_judged_by_what_the_known_motion_does_not_explain(weights, tmp_path, monkeypatch):
    monkeypatch.setattr("stylenorm.bench_film.FRAMES", 3)
    photo = make_photo(tmp_path / "photo.png", (400, 300))
    rows = run_film(photo, ["red-hill"], weights)
    assert len(rows) == 18 and all(r["unrest"] >= 0 and r["sharpness"] > 0 for r in rows)
    alone, ours = (next(r for r in rows if r["clip"] == "pan of 3 px a frame" and r["what"].startswith(w)) for w in ("frame", "ours"))
    assert ours["unrest"] < alone["unrest"]
    with pytest.raises(StylenormError, match="too small to pan over"):
        run_film(make_photo(tmp_path / "small.png", (90, 70)), ["red-hill"], weights)


def test_plain_ground_is_judged_by_what_is_painted_there_and_how_often_it_repeats():
    noise = np.random.default_rng(0).integers(0, 256, (384, 512), dtype=np.uint8)
    tiling = np.tile(noise[:16, :16], (24, 32))
    bare, noise, tiling = map(Image.fromarray, (np.full_like(noise, 90), noise, tiling))
    assert (detail(bare), lattice(bare)) == (0, 0)
    assert detail(noise) > 50 and lattice(noise) < 0.01 and lattice(tiling) > 0.95
    half = Image.blend(noise, tiling, 0.5)
    assert 0.35 < lattice(half) < 0.65


def test_what_is_painted_on_plain_ground(weights):
    ours, without = run_plain(weights, names=["red-hill"])
    assert ours["what"] == "ours" and ours["detail"] > 2 * without["detail"] and ours["lattice"] < without["lattice"]
    assert ours["least"] == ours["detail"]  # of one style


def test_unrest_of_films_that_are_known(monkeypatch):
    monkeypatch.setattr("stylenorm.bench_film.FRAMES", 4)
    photo = np.random.default_rng(0).integers(0, 200, (300, 400, 3), dtype=np.uint8)
    pan, noisy, standing, crossed, *_ = clips(photo)
    assert unrest(pan.frames, pan) == 0 and unrest(crossed.frames, crossed) == 0
    assert 3 < unrest(noisy.frames, noisy) < 4 and 3 < unrest(standing.frames, standing) < 4  # 2 sigma / sqrt(pi)
    assert unrest([f + np.uint8(5 * (t % 2)) for t, f in enumerate(standing.frames)], standing) > 5
    smooth = np.asarray(Image.fromarray(photo).resize((40, 30)).resize((400, 300), Image.Resampling.BICUBIC))
    for clip in [c for c in clips(smooth)[4:] if "noise" not in c.name]:
        still = replace(clip, moves=[[((1, 0, 0, 0, 1, 0), where) for _, where in moves] for moves in clip.moves])
        assert unrest(clip.frames, clip) < 0.6, "half a level is lost in each frame"
        assert unrest(clip.frames, still) > 2 * unrest(clip.frames, clip)
    assert sharpness([np.zeros((4, 4, 3))]) == 0 and sharpness([np.indices((4, 4)).sum(0)[..., None] * np.ones(3)]) == 2


def test_faces_are_judged_by_how_many_are_found_again(weights, tmp_path, monkeypatch):
    for i in range(3):
        (Image.open(photos_folder() / "astronaut.jpg") if i else Image.new("RGB", (64, 64))).save(tmp_path / f"{i}.png")
    monkeypatch.setattr("stylenorm.bench_faces.unseen_pictures", lambda folder, count: sorted(folder.iterdir()))
    monkeypatch.setattr("stylenorm.bench_faces.SIDE", 256)
    none, _, all_ = run_faces(tmp_path, 16, weights, names=["red-hill"])
    assert none["faces"] == all_["faces"] == 2 and none["what"] == "ours, --faces 0"
    assert all_["found"] == all_["worst"] == 1 and again([Face(50, 50, 20, 20)], Image.open(tmp_path / "1.png").convert("RGB")) == [False]
    with pytest.raises(ImageError, match="no face"):
        monkeypatch.setattr("stylenorm.bench_faces.unseen_pictures", lambda folder, count: [folder / "0.png"])
        run_faces(tmp_path, 16, weights)
