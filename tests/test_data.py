"""The order of training pictures: seeded, whole epochs, independent of workers, and undisturbed by broken files."""

import collections
import math
import os
import pickle
import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import add_margins, make_photo
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data._utils.pin_memory import pin_memory

from stylenorm.data import Crop, Pairs, RandomCrops, collate, find_images, floats, held_out, recolor
from stylenorm.errors import ImageError, StylenormError

torch.set_num_threads(1)


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    folder = tmp_path / "photos"
    return [make_photo(folder / f"p{i:02d}.png", (40 + 3 * i, 70 - 2 * i), seed=i) for i in range(10)]


def crops_of(files, seed=0, size=32, scales=(32, 48)) -> RandomCrops:
    return RandomCrops(files, size, scales, seed)


# ---- finding -----------------------------------------------------------------------------------


def test_pictures_are_found_below_a_folder_in_an_order_of_their_own(tmp_path):
    names = ["b.JPG", "a.png", "sub/c.jpeg", "sub/deep/d.webp", "a/z.tiff", "A.tif", "ä.bmp", "e.jfif", "f.JPE", "g.avif", "h.HEIC", "i.jp2"]
    for name in reversed(names):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for name in (".hidden.png", "notes.txt", "png", "sub/styles.json"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    found = [p.relative_to(tmp_path).as_posix() for p in find_images(tmp_path)]
    assert found == sorted(names)
    assert find_images(str(tmp_path)) == find_images(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="links take a privilege there")
def test_pictures_are_found_through_links_once_and_not_in_hidden_folders_nor_in_what_is_written(tmp_path):
    for name in ("photos/a/1.png", "photos/.thumbnails/1.png", "elsewhere/2.png", "elsewhere/run/samples.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for name, target in (("0", "photos/a"), ("again", "photos"), ("b", "elsewhere"), ("loop", "photos"), ("z", "elsewhere")):
        (tmp_path / "photos" / name).symlink_to(tmp_path / target)
    (tmp_path / "photos" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = [p.relative_to(tmp_path).as_posix() for p in find_images(tmp_path / "photos", tmp_path / "elsewhere" / "run")]
    assert found == ["photos/a/1.png", "photos/b/2.png"]


@pytest.mark.skipif(os.name == "nt", reason="links take a privilege there")
def test_what_is_written_is_left_out_by_whatever_name_it_is_called(tmp_path, monkeypatch):
    """On a Mac, photos/Run is photos/run, and its real path is the one that was typed."""
    for name in ("photos/1.png", "photos/run/samples.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "typed").mkdir()
    (tmp_path / "typed" / "Run").symlink_to(tmp_path / "photos" / "run")
    (tmp_path / "typed" / "Photos").symlink_to(tmp_path / "photos")
    monkeypatch.setattr(os.path, "realpath", lambda path, **more: str(path))
    monkeypatch.setattr(Path, "resolve", lambda path: path)
    assert find_images(tmp_path / "photos", tmp_path / "typed" / "Run") == [tmp_path / "photos" / "1.png"]
    with pytest.raises(StylenormError, match="where the pictures are"):
        find_images(tmp_path / "photos", tmp_path / "typed" / "Photos")


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), lambda p: p.write_text("x"), lambda p: None])
def test_a_folder_without_pictures_is_named(make, tmp_path):
    make(tmp_path / "here")
    with pytest.raises(StylenormError) as caught:
        find_images(tmp_path / "here")
    assert str(tmp_path / "here") in str(caught.value) and "\n" not in str(caught.value)


# ---- crops -------------------------------------------------------------------------------------


def test_an_epoch_sees_each_file_once_and_epochs_differ(photos):
    crops = crops_of(photos)
    epochs = [[crops[e * 10 + i].name for i in range(10)] for e in range(4)]
    assert all(sorted(epoch) == sorted(p.name for p in photos) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_an_item_depends_on_seed_and_index_alone(photos):
    crops, again = crops_of(photos), crops_of(photos)
    backwards = {i: again[i] for i in reversed(range(25))}
    for i in range(25):
        assert crops[i].name == backwards[i].name and torch.equal(crops[i].pixels, backwards[i].pixels)
    other = crops_of(photos, seed=1)
    assert [crops[i].name for i in range(10)] != [other[i].name for i in range(10)]


def test_the_order_is_that_of_other_processes_too(photos):
    """hash() of numbers, unlike that of strings, is the same in every process; this order was written down."""
    crops = crops_of(photos, seed=7)
    assert [int(crops[i].name[1:3]) for i in range(12)] == [4, 6, 1, 8, 5, 7, 9, 0, 2, 3, 5, 1]


def test_seeds_of_one_hash_have_orders_of_their_own(photos):
    orders = {tuple(crop.name for crop in map(crops_of(photos, seed).__getitem__, range(10))) for seed in (-2, -1, 0, 1, 2**61 - 1, 2**61)}
    assert len(orders) == 6


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_order(photos, workers):
    pairs = Pairs(crops_of(photos), 3, crops_of(photos, seed=1), 0.5)

    def run(workers):
        loader = DataLoader(pairs, 2, sampler=range(4, 20), collate_fn=collate, num_workers=workers)
        return [(b.names, b.named.tolist(), b.photos, b.paintings) for b in loader]

    for (n, k, x, p), (n2, k2, x2, p2) in zip(run(0), run(workers), strict=True):
        assert (n, k) == (n2, k2) and torch.equal(x, x2) and torch.equal(p, p2)


def test_a_crop_is_a_part_of_its_picture_at_the_scale_asked_for(tmp_path):
    """A ramp: what the crop spans tells how far the picture was scaled, its slope whether it was mirrored."""
    ramp = np.linspace(0, 255, 100).round().astype(np.uint8)
    Image.fromarray(np.stack([np.broadcast_to(ramp, (100, 100))] * 3, 2)).save(tmp_path / "ramp.png")
    spans, mirrored = [], 0
    crops = crops_of([tmp_path / "ramp.png"], size=40, scales=(40, 80))
    for i in range(60):
        pixels = crops[i].pixels
        assert pixels.shape == (3, 40, 40) and pixels.min() >= 0 and pixels.max() <= 1 and pixels.dtype == torch.float32
        assert torch.equal(pixels[0], pixels[1])
        slope = (pixels[0, 20, 35] - pixels[0, 20, 5]).item() / 30 * 40
        spans.append(abs(slope))
        mirrored += slope < 0
    assert 15 < mirrored < 45
    assert 0.48 < min(spans) < 0.6 and 0.9 < max(spans) < 1.03


def test_a_scale_below_the_crop_is_raised_to_it(photos):
    crops = crops_of(photos, size=64, scales=(16, 32))
    assert all(crops[i].pixels.shape == (3, 64, 64) for i in range(10))


@pytest.mark.parametrize("size", [(1, 1), (1, 30000), (30000, 1), (3, 2000), (2000, 3)])
def test_odd_shapes_are_no_trouble(size, tmp_path):
    """A row of pixels scaled to 64 px in height must not be a million wide."""
    Image.new("RGB", size, (200, 100, 50)).save(tmp_path / "odd.png")
    start = time.process_time()
    pixels = crops_of([tmp_path / "odd.png"], size=64, scales=(64, 512))[3].pixels
    assert pixels.shape == (3, 64, 64)
    torch.testing.assert_close(pixels.mean((1, 2)), torch.tensor([200.0, 100, 50]) / 255, atol=0.01, rtol=0)
    assert time.process_time() - start < 5


def test_a_cameras_photograph_is_cut_from_a_smaller_one_whose_crops_look_the_same(tmp_path):
    """Of 3,000 photographs of 12 megapixels none was kept in memory, and each crop took as long as decoding and reducing them takes."""
    files = [make_photo(tmp_path / "a.png", (700, 500)), make_photo(tmp_path / "b.jpg", (144, 190), seed=1)]
    crops = RandomCrops(files, 32, (32, 48), 0, cache=3 * (134 * 96 + 144 * 190) + 2 * 8)
    assert crops.decoded.memory is not None and crops.decoded.size < 10**5 * 2
    assert [crops.decoded.read(file).size for file in files] == [(134, 96), (144, 190)], "nothing is gained by the second"
    exact = crops_of(files, scales=(32, 48))
    exact.decoded.side = math.inf
    differ = {crop.name: (crop.pixels - exact[i].pixels).abs().max().item() for i in range(6) for crop in [crops[i]]}
    assert 0 < differ["a.png"] < 0.03 and differ["b.jpg"] == 0
    uncached = pickle.loads(pickle.dumps(crops))  # as where processes are not forked off
    assert all(torch.equal(uncached[i].data, crops[i].data) for i in range(6))


def test_transparent_margins_are_not_cut_from(photos, tmp_path):
    """They are no part of a painting, as which a picture of a large folder may be painted, and hold nothing to learn."""
    wide = [add_margins(path, tmp_path / path.name) for path in photos]
    for cache in (0, 10**6):
        crops, cut = (RandomCrops(files, 32, (32, 48), 0, cache) for files in (wide, photos))
        assert all(torch.equal(crops[i].data, cut[i].data) for i in range(20))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16", "1"])
def test_every_mode_becomes_three_channels(mode, tmp_path):
    Image.new(mode, (50, 40)).save(tmp_path / ("x.tif" if mode == "CMYK" else "x.png"))
    assert crops_of(find_images(tmp_path))[0].pixels.shape == (3, 32, 32)


def test_the_length_has_no_end(photos):
    assert len(crops_of(photos)) > 10**15
    crops_of(photos)[10**12]


# ---- broken files ------------------------------------------------------------------------------


def break_file(path: Path, how: int) -> None:
    whole = path.read_bytes()
    path.write_bytes([b"", b"not a picture", whole[: len(whole) // 3]][how % 3])


def test_broken_files_are_passed_over_and_named(photos):
    for how, path in enumerate(photos[2:5]):
        break_file(path, how)
    photos[6].unlink()
    bad = {p.name for p in [*photos[2:5], photos[6]]}
    crops, seen = crops_of(photos), collections.Counter()
    for i in range(20):
        crop = crops[i]
        assert crop.name not in bad and crop.pixels.shape == (3, 32, 32)
        for complaint in crop.broken:
            assert "\n" not in complaint
            seen.update(name for name in bad if name in complaint)
    assert set(seen) == bad and min(seen.values()) >= 2


def test_sound_files_come_as_if_there_were_no_broken_ones(photos):
    before = [crops_of(photos)[i] for i in range(10)]
    break_file(photos[3], 1)
    for old, new in zip(before, (crops_of(photos)[i] for i in range(10))):
        assert new.broken if old.name == photos[3].name else torch.equal(old.pixels, new.pixels)


def test_crops_of_a_single_colour_are_passed_over_where_there_are_others(photos, tmp_path):
    white = tmp_path / "white.png"
    Image.new("RGB", (60, 60), "white").save(white)
    found = [crops_of([*photos, white])[i] for i in range(33)]
    assert {crop.name for crop in found} == {p.name for p in photos} and not any(crop.broken for crop in found)
    only = crops_of([white])[0]
    assert only.name == "white.png" and (only.pixels == 1).all()


def test_one_sound_file_among_many_is_enough_from_every_index(photos):
    for path in photos[1:]:
        break_file(path, 1)
    for seed in range(4):
        crops = crops_of(photos, seed=seed)
        assert all(crops[i].name == photos[0].name for i in range(21))


def test_nothing_but_broken_files_is_one_sentence(photos):
    for path in photos:
        break_file(path, 1)
    with pytest.raises(ImageError) as caught:
        crops_of(photos)[4]
    assert "none of the 10" in str(caught.value) and "\n" not in str(caught.value)


# ---- holding out -------------------------------------------------------------------------------


def test_few_files_are_all_kept():
    files = [Path(f"{i}.jpg") for i in range(99)]
    assert held_out(files) == (files, [])


def test_the_split_is_whole_stable_and_in_order():
    files = [Path(f"folder/{i:05d}.jpg") for i in range(3000)]
    kept, out = held_out(files)
    assert sorted(kept + out) == files and kept == sorted(kept) and out == sorted(out)
    assert 60 < len(out) < 180
    fewer = files[::3]
    assert held_out(fewer) == ([p for p in fewer if p in set(kept)], [p for p in fewer if p in set(out)])
    moved = [Path("elsewhere") / p.name for p in files]
    assert [p.name for p in held_out(moved)[1]] == [p.name for p in out]
    judged = held_out([Path(f"{i}.jpg") for i in range(200)])[1]
    assert [int(p.stem) for p in judged] == [23, 32, 43, 73, 87, 105, 124, 161, 199]


def test_names_that_are_no_utf8_are_split_as_others_are():
    files = [Path(f"caf\udce9{i}.jpg") for i in range(300)]
    kept, out = held_out(files)
    assert sorted(kept + out) == sorted(files) and 3 < len(out) < 30


def test_many_files_are_split_in_no_time():
    files = [Path(f"{i:06d}.jpg") for i in range(20000)]
    start = time.process_time()
    held_out(files)
    assert time.process_time() - start < 5


# ---- pairs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share, count, named", [(0.5, 40, 20), (0.25, 40, 10), (0.3, 40, 12), (1.0, 40, 40), (0.0, 40, 0)])
def test_named_styles_take_their_exact_share_evenly_and_in_turn(share, count, named, photos):
    pairs = Pairs(crops_of(photos), 3, crops_of(photos, seed=1), share)
    items = [pairs[i] for i in range(count)]
    styles = [k for _, k, _ in items if k >= 0]
    assert len(styles) == named
    assert styles == [i % 3 for i in range(named)]
    assert all((k < 0) == (painting is not None) for _, k, painting in items)
    for n in range(1, count + 1):  # at any moment, not only in the end
        assert abs(sum(k >= 0 for _, k, _ in items[:n]) - share * n) <= 1


def test_paintings_are_taken_in_whole_epochs_whatever_the_share(photos):
    pairs = Pairs(crops_of(photos), 2, crops_of(photos, seed=1), 0.5)
    names = [p.name for _, _, p in (pairs[i] for i in range(40)) if p is not None]
    assert sorted(names[:10]) == sorted(names[10:20]) == sorted(p.name for p in photos)
    assert sorted(pairs[i][0].name for i in range(10)) == sorted(p.name for p in photos)


def test_without_one_kind_of_style_the_other_takes_all(photos):
    only_named, only_paintings = Pairs(crops_of(photos), 2, None, 0.5), Pairs(crops_of(photos), 0, crops_of(photos), 0.5)
    assert [only_named[i][1] for i in range(5)] == [0, 1, 0, 1, 0]
    assert [only_paintings[i][1] for i in range(5)] == [-1] * 5
    with pytest.raises(StylenormError, match="named styles"):
        Pairs(crops_of(photos), 0, None, 0.5)


def test_a_batch_keeps_everything_in_order(photos):
    break_file(photos[5], 1)
    pairs = Pairs(crops_of(photos), 2, crops_of(photos, seed=1), 0.5)
    items = [pairs[i] for i in range(10)]
    batch = collate(items)
    assert batch.photos.shape == (10, 3, 32, 32) and batch.named.tolist() == [k for _, k, _ in items]
    assert batch.photos.dtype == batch.paintings.dtype == torch.uint8
    assert torch.equal(floats(batch.photos)[7], items[7][0].pixels)
    paintings = [p for _, _, p in items if p is not None]
    assert torch.equal(floats(batch.paintings), torch.stack([p.pixels for p in paintings]))
    assert len(batch.names) == 10
    for text, (photo, _, painting) in zip(batch.names, items):
        assert photo.name in text and (painting is None or painting.name in text)
    assert sum(photos[5].name in complaint for complaint in batch.broken) >= 1


def test_a_batch_of_what_bytes_cannot_hold_stays_as_it_is():
    noise = torch.rand(3, 8, 8)
    photos = collate([(Crop(noise, "noise"), 0, None)] * 2).photos
    assert torch.equal(photos[0], noise) and floats(photos) is photos


def test_recolored_crops_keep_their_place_and_change_their_colours(photos):
    plain, some, every = (RandomCrops(photos, 32, (32, 40), 3, recolored=share) for share in (0.0, 0.5, 1.0))
    changed = [not torch.equal(plain[i].data, some[i].data) for i in range(40)]
    assert 8 < sum(changed) < 32
    assert all(torch.equal(some[i].data, RandomCrops(photos, 32, (32, 40), 3, recolored=0.5)[i].data) for i in range(4))
    for i in range(12):
        before, after = (x[i].pixels.mean(0).flatten() for x in (plain, every))
        assert not torch.equal(before, after)
    means = torch.stack([every[i].pixels.mean((1, 2)) - plain[i].pixels.mean((1, 2)) for i in range(40)])
    assert means.abs().mean() > 0.03  # colours
    assert 0 <= min(every[i].pixels.min() for i in range(12)) and max(every[i].pixels.max() for i in range(12)) <= 1


def test_recolor_makes_one_colour_of_one_colour():
    image, rng = Image.new("RGB", (4, 4)), random.Random(1)
    image.paste((200, 40, 90), (0, 0, 2, 4))
    colours = recolor(image, rng).getcolors()
    assert len(colours) == 2 and sorted(count for count, _ in colours) == [8, 8]


def test_recolor_exchanges_channels_and_gives_each_a_curve(monkeypatch):
    factors = []

    class Color:
        def __init__(self, image):
            self.image = image

        def enhance(self, factor):
            return factors.append(factor) or self.image

    monkeypatch.setattr("stylenorm.data.ImageEnhance.Color", Color)
    ramp, places, gammas = np.arange(256, dtype=np.uint8)[None], set(), []
    image = Image.fromarray(np.stack([ramp, ramp[:, ::-1], np.full_like(ramp, 128)], 2))
    for seed in range(40):
        bands = np.asarray(recolor(image, random.Random(seed)))[0].T.astype(float)
        (rising,), (falling,) = ([k for k in range(3) if sign * (bands[k][-1] - bands[k][0]) > 0] for sign in (1, -1))
        places.add((rising, falling))
        for curve in (bands[rising], bands[falling][::-1]):
            assert (np.diff(curve) >= 0).all() and curve[0] <= 0.15 * 255 + 0.5 and curve[-1] >= 0.85 * 255 - 0.5
            gammas.append(np.log((curve[128] - curve[0]) / (curve[-1] - curve[0])) / np.log(128 / 255))
    assert len(places) == 6
    assert 0.59 < min(gammas) < 0.75 and 1.4 < max(gammas) < 1.68  # 2^-0.7 to 2^0.7
    assert 0.4 <= min(factors) < 0.6 and 1.2 < max(factors) <= 1.4


def test_a_gpu_can_fetch_the_pictures_of_a_batch_by_itself(photos, monkeypatch):
    """What torch's DataLoader calls with pin_memory=True, which does nothing without a GPU."""
    batch = collate([Pairs(crops_of(photos), 2, crops_of(photos, seed=1), 0.5)[i] for i in range(4)])
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self + 1)
    pinned = pin_memory(batch)
    assert torch.equal(pinned.photos, batch.photos + 1) and torch.equal(pinned.paintings, batch.paintings + 1)
    assert torch.equal(pinned.named, batch.named + 1) and pinned.names == batch.names
    alone = pin_memory(collate([Pairs(crops_of(photos), 2, None, 1)[0]]))
    assert alone.paintings is None


def test_a_batch_of_named_styles_has_no_paintings(photos):
    pairs = Pairs(crops_of(photos), 2, None, 1.0)
    assert collate([pairs[0], pairs[1]]).paintings is None
