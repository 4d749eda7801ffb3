"""Masks from drawings. How masks steer the network is in test_engine.py."""

import numpy as np
import pytest
import torch
from PIL import Image

from stylenorm.bands import painted_inside
from stylenorm.errors import ImageError, StyleError
from stylenorm.images import read_picture
from stylenorm.masks import drawn_mask, mask_levels, mask_tensor


def test_drawn_layers_become_a_mask_and_its_rest():
    a, b = Image.new("L", (40, 20)), Image.new("L", (40, 20))
    a.paste(255, (0, 0, 10, 20))
    b.paste(100, (30, 0, 40, 20))  # a thin brush is a brush
    mask, rest = drawn_mask([a, b], 0)
    row = np.asarray(mask)[10]
    assert row[:10].tolist() == row[30:].tolist() == [255] * 10 and not row[10:30].any()
    assert np.array_equal(255 - np.asarray(mask), np.asarray(rest))
    soft = np.asarray(drawn_mask([a], 20)[0])[10].astype(int)
    assert (np.diff(soft) <= 0).all() and np.diff(soft).min() == pytest.approx(-255 / (4 * (2 * np.pi) ** 0.5), rel=0.1), "8 px wide"
    assert drawn_mask([a, Image.new("L", (10, 5), 255)], 0)[0].tobytes() == b"\xff" * 800, "a layer of another size lies over all of it"
    for layers in ([], [Image.new("L", (4, 4))]):
        with pytest.raises(ImageError, match="paint over"):
            drawn_mask(layers, 0)
    assert drawn_mask([a])[0].tobytes() == drawn_mask([a], 0)[0].tobytes() != drawn_mask([a], 50)[0].tobytes()
    for edge in (-1, 50.5, float("nan")):
        with pytest.raises(ImageError, match="soft edge"):
            drawn_mask([a], edge)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_not_in_a_mask_whatever_colour_hides_there(mode):
    mask = Image.new("LA", (4, 2), (255, 0))
    mask.paste((255, 255), (0, 0, 2, 2))
    if mode == "P":
        mask = mask.convert("RGBA").quantize(2)
    np.testing.assert_allclose(mask_tensor(mask.convert(mode), (2, 4)), np.tile([1, 1, 0, 0], (2, 1)))


def test_a_grey_mask_with_something_transparent_stays_grey_as_does_one_of_next_to_no_colour():
    for half in ((128, 128, 128, 255), (126, 128, 131, 255)):  # as WebP gives them back
        mask = Image.new("RGBA", (4, 2), (255, 255, 255, 0))
        mask.paste(half, (0, 0, 1, 2)), mask.paste((0, 0, 0, 255), (1, 0, 2, 2)), mask.paste((255, 255, 255, 255), (2, 0, 3, 2))
        np.testing.assert_allclose(mask_tensor(mask, (2, 4)), np.tile([128 / 255, 0, 1, 0], (2, 1)), atol=0.001)


def test_a_mask_of_any_depth_is_as_soft_as_it_was():
    ramp = np.tile(np.linspace(0, 1, 5, dtype=np.float32), (4, 1))
    whites = (255, np.uint8), (65535, np.uint16), (65535, np.int32), (1, np.float32)
    images = [Image.fromarray((ramp * white).astype(dtype)) for white, dtype in whites]
    assert [image.mode for image in images] == ["L", "I;16", "I", "F"]
    for image in images:
        np.testing.assert_allclose(mask_tensor(image, (4, 5)), ramp, atol=1 / 255)


@pytest.mark.parametrize("size", [(4, 6), (9, 5), (2, 3), (31, 40)])
def test_a_mask_of_another_size_is_resized_as_pillow_does(size):
    array = np.random.default_rng(0).random((4, 6), np.float32) * 3
    wanted = Image.fromarray(array).resize(size[::-1], Image.Resampling.BILINEAR)
    for mask in (array, array.astype(np.float64), array.tolist()):
        found = mask_tensor(mask, size)
        assert found.shape == size and str(found.dtype) == "torch.float32"
        np.testing.assert_allclose(found, wanted, atol=1e-5)


# ---- where to paint at all ---------------------------------------------------------------------

RAMP = np.tile(np.array([0, 64, 128, 255], np.uint8), (3, 1))


@pytest.mark.parametrize(
    "mask",
    [RAMP, RAMP.tolist(), RAMP.astype(float), RAMP / 255, Image.fromarray(RAMP), Image.fromarray(RAMP).convert("RGB"), Image.fromarray(RAMP.astype(np.uint16) * 257)],
    ids=["levels", "lists", "levels-as-floats", "shares", "L", "RGB", "16-bits"],
)
def test_a_mask_is_a_grey_picture_or_levels_or_shares(mask):
    np.testing.assert_array_equal(mask_levels(mask, (4, 3)), RAMP)


def test_a_mask_is_a_tensor_as_a_network_gives_it():
    ramp = torch.from_numpy(RAMP / 255).requires_grad_()
    for mask in (ramp, ramp.bfloat16(), ramp.half()):
        np.testing.assert_allclose(np.asarray(mask_levels(mask, (4, 3))).astype(int), RAMP, atol=1)
    assert np.asarray(mask_levels(ramp > 0.4, (4, 3)))[0].tolist() == [0, 0, 255, 255]


def test_labels_and_bools_are_all_or_nothing(tmp_path):
    for kind in (bool, np.uint8, np.int64):
        assert np.asarray(mask_levels((RAMP > 100).astype(kind), (4, 3)))[0].tolist() == [0, 0, 255, 255]
    labels = Image.fromarray((RAMP > 100).astype(np.uint8))
    deep = Image.fromarray((RAMP > 100).astype(np.uint16))
    deep.save(tmp_path / "labels.png")
    for picture in (labels, read_picture(labels), deep, read_picture(deep), tmp_path / "labels.png"):
        assert np.asarray(mask_levels(picture, (4, 3)))[0].tolist() == [0, 0, 255, 255]
    assert mask_tensor(labels, (3, 4))[0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("colour", [(10, 60, 200), (10, 10, 60), (60, 10, 10)])
def test_of_a_cut_out_what_is_opaque_is_inside_however_dark_it_is(colour):
    cut_out = np.zeros((3, 4, 4), np.uint8)
    cut_out[:, 2:] = *colour, 255
    cut_out[:, 3, :3] = 0
    assert np.asarray(mask_levels(Image.fromarray(cut_out), (4, 3)))[0].tolist() == [0, 0, 255, 255]


def test_of_a_black_silhouette_too_but_what_has_nothing_transparent_is_no_cut_out(tmp_path):
    inside = Image.fromarray(np.tile(np.array([0, 0, 255, 255], np.uint8), (3, 1)))
    for mode in ("RGBA", "LA"):
        silhouette = Image.new(mode, (4, 3), "black")
        silhouette.putalpha(inside)
        silhouette.save(tmp_path / "silhouette.png")
        for mask in (silhouette, tmp_path / "silhouette.png", picture := read_picture(silhouette)):
            assert np.asarray(mask_levels(mask, (4, 3)))[0].tolist() == [0, 0, 255, 255]
        assert picture.rgb.mode == "RGB", "which is its owner's"
        assert not mask_levels(Image.new(mode, (4, 3), "black"), (4, 3)).getbbox()
    white_on_red = Image.composite(Image.new("RGB", (4, 3), "white"), Image.new("RGB", (4, 3), (90, 0, 0)), inside)
    for mode in ("RGB", "RGBA"):
        assert np.asarray(mask_levels(white_on_red.convert(mode), (4, 3)))[0].tolist() == [27, 27, 255, 255]


def cut_out_of(grey: np.ndarray, mode: str) -> Image.Image:
    image = Image.fromarray(grey.astype(np.uint8)).convert(mode)
    image.putalpha(Image.fromarray(np.tile(np.repeat(np.array([0, 255], np.uint8), 16), (32, 1))))
    return image


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_of_a_black_and_white_photographs_cut_out_too_and_a_mask_of_few_greys_or_with_soft_edges_is_none(mode):
    right = np.repeat([0, 255], 16)
    photograph = 130 + 60 * np.sin(np.arange(1024.0)).reshape(32, 32) + np.linspace(-40, 40, 32)
    assert (np.asarray(mask_levels(cut_out_of(photograph, mode), (32, 32))) == right).all()
    half = np.full((32, 32), 128)
    steps = np.repeat(np.arange(20, 240, 7), 34).reshape(-1)[:1024].reshape(32, 32)
    edge = np.clip(np.arange(32.0)[:, None] * 20 - 200 + np.arange(32), 0, 255)
    gradient = np.arange(20, 250, 7.3)[:32, None].repeat(32, 1) + np.arange(32) / 4
    spot = np.where(np.arange(32)[:, None] < 20, 0, photograph)
    for mask in (half, steps, edge, gradient, spot):
        assert (np.asarray(mask_levels(cut_out_of(mask, mode), (32, 32))) == mask.astype(np.uint8) * (right // 255)).all()
    assert (np.asarray(mask_levels(Image.fromarray(photograph.astype(np.uint8)), (32, 32))) == photograph.astype(np.uint8)).all(), "no cut-out"


def test_a_mask_is_stretched_over_the_picture_and_refused_where_it_lies_on_its_side(tmp_path):
    left = Image.new("L", (30, 20))
    left.paste(255, (0, 0, 15, 20))
    left.save(tmp_path / "left.png")
    for mask in (left, tmp_path / "left.png", str(tmp_path / "left.png"), left.resize((20, 20))):
        row = np.asarray(mask_levels(mask, (60, 40)))[7]
        assert not row[:25].min() < 255 and not row[35:].any()
    left.getexif()[0x112] = 3  # upside down
    left.save(tmp_path / "turned.png", exif=left.getexif())
    with Image.open(tmp_path / "turned.png") as turned:
        for mask in (turned, tmp_path / "turned.png"):
            row = np.asarray(mask_levels(mask, (60, 40)))[7]
            assert not row[:25].any() and not row[35:].min() < 255
    with pytest.raises(StyleError, match="30 x 20 px and the picture 40 x 60: one of them lies on its side"):
        mask_levels(left, (40, 60))
    with pytest.raises(StyleError, match="20 x 30 px and the picture 60 x 40: one of them lies on its side"):
        mask_levels(left.transpose(Image.Transpose.ROTATE_90), (60, 40))
    with pytest.raises(ImageError, match="none.png does not exist"):
        mask_levels(tmp_path / "none.png", (4, 4))
    with pytest.raises(StyleError, match="from 0 to 255, and not of up to 256"):
        mask_levels(np.diag([0, 255, 256]), (3, 3))
    for mask in (np.ones((2, 2, 3)), np.array([[np.nan, 1]]), np.diag([1, -1]), np.ones((0, 3)), [["white"]], [[1, 2], [3]], None):
        with pytest.raises(StyleError, match="a mask is a greyscale picture"):
            mask_levels(mask, (3, 3))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_outside_of_a_mask_every_pixel_is_the_photographs(kind):
    random, white = np.random.default_rng(0), np.iinfo(kind).max
    painted, photo = (random.integers(0, white + 1, (300, 4, 3)).astype(kind) for _ in range(2))
    mask = np.tile(RAMP, (100, 1))
    given = (painted, photo) if kind is np.uint16 else map(Image.fromarray, (painted, photo))
    found = np.asarray(painted_inside(*given, Image.fromarray(mask)))
    assert found.dtype == kind and np.array_equal(found[:, 0], photo[:, 0]) and np.array_equal(found[:, 3], painted[:, 3])
    share = mask[..., None] / 255
    assert np.abs(found - (painted * share + photo * (1 - share))).max() <= 0.51


# ---- following edges ---------------------------------------------------------------------------


def test_a_rough_mask_comes_to_the_edges_of_what_it_lies_on():
    pytest.importorskip("cv2")
    y, x = np.mgrid[:120, :160]
    thing = (x - 80) ** 2 + (y - 60) ** 2 < 40**2
    noise = np.random.default_rng(0).normal(0, 12, (120, 160, 3))
    photo = Image.fromarray(np.clip(np.where(thing[..., None], (200, 60, 40), (60, 90, 160)) + noise, 0, 255).astype(np.uint8))
    rough = np.abs(x - 80) + np.abs(y - 60) < 47  # a diamond that leaves out some of it, and lies beyond it elsewhere
    followed, rest = (np.asarray(m) > 127 for m in drawn_mask([Image.fromarray(rough).convert("L")], 0, photo))
    assert np.array_equal(followed, ~rest) and (rough != thing).mean() > 0.05 and (followed != thing).mean() < 0.01
    again = np.asarray(drawn_mask([Image.fromarray(rough).convert("L")], 0, photo)[0])
    assert np.array_equal(again, 255 * followed), "the file is what the preview showed"
    larger = drawn_mask([Image.fromarray(rough).convert("L")], 0, photo.resize((640, 480)))[0]
    assert larger.size == (160, 120) and ((np.asarray(larger) > 127) != thing).mean() < 0.02


def test_what_lies_far_from_the_strokes_stays_outside_though_it_looks_alike():
    pytest.importorskip("cv2")
    y, x = np.mgrid[:60, :160]
    things = [(x - at) ** 2 + (y - 30) ** 2 < 20**2 for at in (40, 120)]
    noise = np.random.default_rng(0).normal(0, 12, (60, 160, 3))
    photo = Image.fromarray(np.clip(np.where(sum(things)[..., None], (200, 60, 40), (60, 90, 160)) + noise, 0, 255).astype(np.uint8))
    found = np.asarray(drawn_mask([Image.fromarray(things[0]).convert("L")], 0, photo)[0]) > 127
    assert (found != things[0]).mean() < 0.01


def test_the_same_strokes_give_the_same_mask_whatever_random_numbers_were_drawn_before():
    cv2 = pytest.importorskip("cv2")
    y, x = np.mgrid[:60, :80]
    strokes = Image.fromarray(np.abs(x - 40) + np.abs(y - 30) < 22).convert("L")
    for seed in range(4):
        photo = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)).resize((80, 60))
        found = []
        for drawn in range(3):
            cv2.setRNGSeed(drawn)
            found.append(drawn_mask([strokes], 0, photo)[0].tobytes())
        assert found[0] == found[1] == found[2]


def test_a_mask_of_everything_stays_and_of_a_thin_stroke_something_is_left():
    pytest.importorskip("cv2")
    photo = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8))
    for mask in (np.ones((40, 60), bool), np.eye(40, 60, dtype=bool)):
        found = np.asarray(drawn_mask([Image.fromarray(mask).convert("L")], 0, photo)[0]) > 127
        assert found[mask].mean() > 0.9


def test_without_opencv_it_is_told(monkeypatch):
    monkeypatch.setattr("stylenorm.masks.opencv", lambda: None)
    with pytest.raises(ImageError, match="takes another library"):
        drawn_mask([Image.new("L", (4, 4), 255)], 0, Image.new("RGB", (4, 4)))
