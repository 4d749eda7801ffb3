"""What paints without torch, held against the `Stylizer` that it stands for."""

import builtins
import gc
import importlib.util
import json
import os
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest
from conftest import TINY, make_photo, make_weights
from PIL import Image
from safetensors.numpy import load_file, save_file

from stylenorm import images, machine, plain, stored
from stylenorm.catalog import vgg_file
from stylenorm.checkpoint import load_network, save_network
from stylenorm.compat import openvino
from stylenorm.engine import Stylizer
from stylenorm.errors import ImageError, StyleError, StylenormError, WeightsError
from stylenorm.images import read_picture
from stylenorm.masks import mask_levels
from stylenorm.people import Seen
from stylenorm.perceptual import VGGFeatures
from stylenorm.plain import PlainStyle, plain_stylizer

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs openvino")

HALF = np.tile([0.0, 0.3, 1.0], (2, 1))  # a mask


@pytest.fixture(autouse=True)
def small_for_vgg(monkeypatch):
    """At another strength than 1 a photograph is read as a painting is, which at 384 px takes much longer than to paint it here."""
    for module in ("predicting", "engine"):
        monkeypatch.setattr(f"stylenorm.{module}.STYLE_SIZE", 64)


class Counted:
    """Gives a `Stylizer` and counts how often it is asked."""

    def __init__(self, weights, **options) -> None:
        self.weights, self.options, self.count = weights, options, 0

    def __call__(self) -> Stylizer:
        self.count += 1
        return Stylizer(self.weights, device="cpu", **self.options)


def plain_of(weights, memory=None) -> tuple[plain.PlainStylizer, Counted]:
    full = Counted(weights, memory=memory)
    return plain_stylizer(weights, "cpu", "auto", memory, full), full


@pytest.fixture(scope="module")
def pair(weights) -> tuple[plain.PlainStylizer, Counted, Stylizer]:
    """What paints without torch, the one that it would ask, and a `Stylizer`, for several tests: each compiles its network."""
    return *plain_of(weights), Stylizer(weights, device="cpu")


def same(a: Image.Image, b: Image.Image, strength: float = 1.0) -> bool:
    """strength: below 0.5 a level may be rounded otherwise, for torch mixes styles with one rounding less."""
    alike = a.info.keys() == b.info.keys() and all(np.array_equal(a.info[k], b.info[k]) for k in a.info)
    return alike and a.mode == b.mode and np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= (0 < strength < plain.FINE)


def half_transparent(path, size=(60, 44)):
    image = Image.open(make_photo(path.with_suffix(".jpg"), size))
    image.putalpha(Image.linear_gradient("L").resize(size))
    image.save(path, dpi=(72, 72))
    return path


@pytest.mark.parametrize("norm", ["instance", "batch", "layer", "group"])
@pytest.mark.parametrize("size", [(60, 44), (64, 64), (5, 90)])
def test_it_paints_what_the_stylizer_paints(tmp_path, norm, size):
    weights = make_weights(tmp_path / norm, 3, replace(TINY, norm=norm))
    photo, (ours, _) = make_photo(tmp_path / "photo.jpg", size), plain_of(weights)
    theirs = Stylizer(weights, device="cpu")
    for parts in ([("red-hill", 1.0)], [("red-hill", 2.0), ("blue-tree", 0.7), ("tall-grass", 0.0)]):
        wanted = ours.resolve(parts)
        assert isinstance(wanted, PlainStyle) and wanted.name == theirs.resolve(parts).name
        assert same(ours.stylize(photo, wanted), theirs.stylize(photo, parts))
    assert ours._made is None


@pytest.mark.parametrize("options", [{"preserve_color": True}, {"size": 40}, {"size": 100, "preserve_color": True}, {"strip": True}, {"mask": HALF}])
def test_options_and_what_a_file_holds_beside_its_colours(pair, tmp_path, options):
    ours, full, theirs = pair
    exif = Image.Exif()
    exif[0x010E] = "a lake"
    for photo in (half_transparent(tmp_path / "half.png"), make_photo(tmp_path / "lake.jpg", exif=exif)):
        painted = ours.stylize(photo, ours.resolve([("red-hill", 1.0)]), **options)
        assert same(painted, theirs.stylize(photo, "red-hill", **options))
    assert not full.count


@pytest.mark.parametrize("strength", [0, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("options", [{}, {"preserve_color": True, "size": 50}])
def test_it_paints_with_a_strength_what_the_stylizer_paints(pair, photo, strength, options):
    ours, full, theirs = pair
    painted = ours.stylize(photo, ours.resolve([("red-hill", 1.0)]), strength=strength, **options)
    assert same(painted, theirs.stylize(photo, "red-hill", strength=strength, **options), strength) and not full.count


@pytest.mark.parametrize("paint_at", [20, 60, 90])
@pytest.mark.parametrize("options", [{}, {"strength": 0.4, "preserve_color": True}, {"strength": 0, "size": 50}, {"size": 100}])
def test_it_paints_at_another_size_what_the_stylizer_paints(pair, photo, paint_at, options):
    ours, full, theirs = pair
    painted = ours.stylize(photo, ours.resolve([("red-hill", 1.0)]), paint_at=paint_at, **options)
    assert same(painted, theirs.stylize(photo, "red-hill", paint_at=paint_at, **options), options.get("strength", 1)) and not full.count


@pytest.mark.parametrize("norm", ["instance", "batch", "layer", "group"])
@pytest.mark.parametrize("deviation", [0, 1.5])
def test_it_paints_of_one_colour_what_the_stylizer_paints(tmp_path, monkeypatch, norm, deviation):
    monkeypatch.setattr("stylenorm.flat.LARGEST", 48)
    weights = make_weights(tmp_path, 3, replace(TINY, norm=norm))
    noise = np.random.default_rng(0).normal(0, deviation, (40, 60, 3))
    flat = np.clip([30, 90, 200] + noise, 0, 255).astype(np.uint8)
    parts, at_once = [("red-hill", 1.0), ("blue-tree", 1.0)], [{}, {"strength": 0.5}, {"paint_at": 32, "preserve_color": True}]
    for memory, several in ((None, at_once), (0.0, [{"paint_at": 50}])):
        (ours, full), theirs = plain_of(weights, memory), Stylizer(weights, device="cpu", memory=memory)
        for options in several:
            assert same(ours.stylize(flat, ours.resolve(parts), **options), theirs.stylize(flat, parts, **options))
        assert full.count == (norm == "batch" and memory == 0)  # whose moments leave it large, so that it takes strips


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(
    "options", [{}, {"strength": 0}, {"strength": 0.3, "size": 40}, {"paint_at": 30, "preserve_color": True}, {"paint_at": 90, "size": 70, "mask": HALF}]
)
def test_it_paints_in_sixteen_bits_what_the_stylizer_paints(pair, channels, options):
    deep = np.random.default_rng(0).integers(0, 65536, (40, 50, channels), np.uint16)
    ours, full, theirs = pair
    painted, wanted = ours.stylize(deep, ours.resolve([("red-hill", 1.0)]), **options), theirs.stylize(deep, "red-hill", **options)
    assert not full.count and painted.info.keys() == wanted.info.keys() and painted.mode == wanted.mode
    apart = np.abs(painted.info["deep"].astype(int) - wanted.info["deep"])
    assert painted.info["deep"].dtype == np.uint16 and apart.max() <= ("strength" in options)  # torch mixes styles with one rounding less


def test_it_paints_of_one_colour_in_sixteen_bits_what_the_stylizer_paints(pair):
    ours, full, theirs = pair
    flat = np.full((40, 50, 3), (7000, 20000, 50000), np.uint16)
    assert same(ours.stylize(flat, ours.resolve([("red-hill", 1.0)])), theirs.stylize(flat, "red-hill")) and not full.count


def test_in_sixteen_bits_a_picture_takes_more_memory(weights, monkeypatch):
    """So that one is painted in strips which would be painted at once in 8."""
    deep = np.random.default_rng(0).integers(0, 65536, (40, 50, 3), np.uint16)
    ours, full = plain_of(weights, memory=40 * 50 * (plain.FLOAT32_BYTES + plain.AROUND - 1) / 1e9)
    monkeypatch.setattr(ours._graph, "bytes_per_pixel", 100)
    ours.stylize((deep >> 8).astype(np.uint8), style := ours.resolve([("red-hill", 1.0)]))
    assert not full.count
    assert same(ours.stylize(deep, style), full().stylize(deep, "red-hill")) and full.count == 2


@pytest.mark.parametrize("size", [(120, 100), (60, 44)])  # the small ones are painted by moments of their own
@pytest.mark.parametrize("options", [{}, {"strength": 0.5, "preserve_color": True}, {"strength": 0, "size": 40}, {"size": 110, "smoothing": 0}, {"paint_at": 30, "mask": HALF}])
@pytest.mark.parametrize("kind", ["pan", "fade to black"])
def test_it_paints_a_film_as_the_stylizer_does(pair, tmp_path, size, options, kind):
    """Whose frames are pooled together where they are not alike, as in a fade, and are of one colour in black."""
    ours, full, theirs = pair
    photo = Image.open(make_photo(tmp_path / "photo.png", (size[0] + 20, size[1])))
    frames = [photo.crop((4 * k, 0, 4 * k + size[0], size[1])) for k in range(5)]
    if kind != "pan":
        frames = [frame.point(lambda v, k=k: int(v * (4 - k) / 4)) for k, frame in enumerate(frames)]
    films = []
    for stylizer, style in ((ours, ours.resolve([("red-hill", 2.0), ("blue-tree", 1.0)])), (theirs, {"red-hill": 2, "blue-tree": 1})):
        survey, loose = (stylizer.stream(style, **options) for _ in range(2))
        first = [survey.survey(frame) for frame in frames]
        fixed = stylizer.stream(style, fixed=survey.pooled(), **options)
        films.append([np.asarray(p) for p in first + [loose(frame) for frame in frames] + [fixed(frame) for frame in frames]])
    assert not full.count and all(np.array_equal(a, b) for a, b in zip(*films, strict=True))


def test_a_frame_that_is_too_large_is_told_alike(weights, photo, monkeypatch):
    (ours, _), theirs = plain_of(weights), Stylizer(weights, device="cpu")
    monkeypatch.setattr(plain, "free_main_memory", lambda: 1000)
    monkeypatch.setattr("stylenorm.device.free_main_memory", lambda: 1000)
    for stream in (ours.stream(ours.resolve([("red-hill", 1.0)])), theirs.stream("red-hill")):
        with pytest.raises(ImageError, match="a frame has 0 megapixels .* give a size of"):
            stream(photo)


def test_regions_are_painted_as_by_the_stylizer(pair, photo, monkeypatch):
    ours, full, theirs = pair
    before, (hill, tree) = full.count, (ours.resolve([(name, 1.0)]) for name in ("red-hill", "blue-tree"))
    painted, wanted = ours.stylize(photo, hill, regions=[(tree, HALF)], mask=HALF), theirs.stylize(photo, "red-hill", regions=[("blue-tree", HALF)], mask=HALF)
    assert same(painted, wanted)
    frames = [s.stream(a, regions=[(b, HALF)], mask=HALF)(photo) for s, a, b in ((ours, hill, tree), (theirs, "red-hill", "blue-tree"))]
    assert np.array_equal(*frames) and full.count == before
    options = {"strength": 0.5, "preserve_color": True, "smoothing": 0.4, "grain": False, "paint_at": 40, "faces": 0.0}
    layered, alone = ours.stream(hill, regions=[(tree, np.ones((2, 2)))], **options), ours.stream(tree, **options)
    shown = Image.open(photo).convert("RGB")
    shown.paste((120, 150, 200), (0, 0, 60, 24))  # which grain is for
    for frame in (shown, shown.transform(shown.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 0))):
        assert np.array_equal(layered(frame), alone(frame))
    assert layered._layers[0]._faces == 0
    for useless in (tree, hill):
        monkeypatch.setattr(ours, "_painted", lambda *given, paint=ours._painted, useless=useless: None if given[2] is useless else paint(*given))  # kept, and of no use
        assert same(ours.stylize(photo, hill, regions=[(tree, HALF)], mask=HALF), wanted) and full.count > before
        monkeypatch.undo()
    torchs = theirs.resolve("blue-tree")
    assert same(ours.stylize(photo, hill, regions=[(torchs, HALF)], mask=HALF), wanted)
    assert np.array_equal(ours.stream(hill, regions=[(torchs, HALF)], mask=HALF)(photo), frames[1])


def test_people_are_found_as_by_the_stylizer(pair, photo, monkeypatch):
    ours, full, theirs = pair
    before, (hill, tree), found = full.count, (ours.resolve([(name, 1.0)]) for name in ("red-hill", "blue-tree")), [HALF, 0 * HALF]
    monkeypatch.setattr(Seen.__init__, "__defaults__", (None, "", lambda photo: mask_levels(found[0], photo.size)))
    for lines in ([], [f"{photo}: no people are to be seen in it"]):
        told = [], []
        mine = ours.stylize(photo, hill, mask="background", regions=[(tree, "people")], notice=told[0].append)
        assert same(mine, theirs.stylize(photo, "red-hill", mask="background", regions=[("blue-tree", "people")], notice=told[1].append))
        assert told == (lines, lines)
        found.pop(0)
    ours.stylize(photo, hill, strength=0, mask="people", regions=[(tree, "people")])  # nobody is looked for
    assert full.count == before


def test_where_nothing_is_of_use_for_a_film_the_stylizer_paints_it(weights, photo, monkeypatch):
    ours, full = plain_of(weights)
    monkeypatch.setattr(ours._graph, "prepare", lambda *_, **__: {}["stem.conv.weight"])
    painted = ours.stream(ours.resolve([("red-hill", 1.0)]), size=50)(photo)
    assert full.count == 1 and np.array_equal(painted, full().stream("red-hill", size=50)(photo))


def test_a_painting_with_transparent_margins_is_the_painting(pair, tmp_path):
    painting = Image.open(make_photo(tmp_path / "p.png", (80, 60))).convert("RGB")
    wide = Image.new("RGBA", (200, 160))
    wide.paste(painting, (60, 50))
    assert np.array_equal(pair[0].style_from(wide, 48).flat, pair[0].style_from(painting, 48).flat)


def test_any_painting_gives_the_style_that_the_stylizer_gives_it(weights, photo, tmp_path, monkeypatch):
    for module in ("predicting", "engine"):
        monkeypatch.setattr(f"stylenorm.{module}.STYLE_SIZE", 384)  # as it is
    painting, theirs = make_photo(tmp_path / "my-painting.png", (90, 70), seed=3), Stylizer(weights, device="cpu")
    for size in (None, 64):
        for again in range(2):  # the second time it is kept
            ours, full = plain_of(weights)
            if again:
                ours._predictor = None  # so that it cannot be asked
            style, wanted = ours.style_from(painting, size), theirs.style_from(painting, size)
            assert style.name == wanted.name == "my-painting" and np.array_equal(style.flat, wanted.flat())
            parts = [("red-hill", 1.0), (style, 2.0)]
            mixed = ours.resolve(parts)
            assert mixed.name == "red-hill:0.33+my-painting:0.67"
            assert same(ours.stylize(photo, mixed), theirs.stylize(photo, [("red-hill", 1.0), (wanted, 2.0)])) and not full.count


def test_a_sheet_is_the_stylizers(weights, photo):
    (ours, full), theirs = plain_of(weights), Stylizer(weights, device="cpu")
    clear = Image.open(photo).convert("RGBA")
    clear.putalpha(90)
    for picture in (photo, clear):
        assert same(ours.sheet(picture, 50, 2), theirs.sheet(picture, tile=50, columns=2)) and not full.count
    black = Image.new("RGB", (50, 40))
    assert same(ours.sheet(black), theirs.sheet(black)) and not full.count


def test_a_painting_that_has_changed_is_read_anew(weights, tmp_path):
    painting, (ours, _) = make_photo(tmp_path / "a.png", seed=3), plain_of(weights)
    first = ours.style_from(painting, 64).flat
    make_photo(painting, seed=4)
    second = ours.style_from(painting, 64).flat
    assert not np.array_equal(first, second) and np.array_equal(second, ours.style_from(read_picture(painting), 64).flat)


def test_a_painting_that_changes_while_it_is_read_is_not_kept_under_what_it_was(weights, tmp_path, monkeypatch):
    painting, other, real = make_photo(tmp_path / "a.png", seed=3), make_photo(tmp_path / "b.png", seed=4), images.read_picture
    first = painting.read_bytes()

    def slow(source, **options):
        painting.write_bytes(other.read_bytes())
        try:
            return real(source, **options)
        finally:
            painting.write_bytes(first)

    monkeypatch.setattr(images, "read_picture", slow)
    plain_of(weights)[0].style_from(painting, 66)
    monkeypatch.undo()
    found = [plain_of(weights)[0].style_from(source, 66).flat for source in (painting, read_picture(painting))]
    assert np.array_equal(*found)


@pytest.mark.parametrize("name", ["architecture", "decode", "exif", "profiles", "resources", "tiffs"])
def test_a_style_that_is_kept_depends_on_all_the_code_that_reads_a_painting(weights, tmp_path, monkeypatch, name):
    (ours, _), other = plain_of(weights), tmp_path / "other.py"
    other.write_text("another version")
    before = ours._kept_styles(b"").what
    monkeypatch.setattr(importlib.import_module(f"stylenorm.{name}"), "__file__", str(other))
    assert ours._kept_styles(b"").what != before


HEIC_HEAD = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_a_style_that_is_kept_depends_on_the_version_of_openvino(weights, monkeypatch):
    ours, _ = plain_of(weights)
    before = ours._kept_styles(b"").what
    monkeypatch.setattr(openvino(), "__version__", "2199.1")
    assert ours._kept_styles(b"").what != before


@pytest.mark.parametrize("package, head", [("tifffile", b"II*\0"), ("tifffile", b"MM\0+"), ("pillow_heif", HEIC_HEAD)])
def test_a_style_that_is_kept_depends_on_the_version_of_the_package_that_has_a_part_in_reading(weights, monkeypatch, package, head):
    (ours, _), real = plain_of(weights), plain.release_of
    before, usual = ours._kept_styles(head).what, ours._kept_styles(b"\xff\xd8\xff\xe0").what
    monkeypatch.setattr(plain, "release_of", lambda name: "another" if name == package else real(name))
    assert ours._kept_styles(head).what != before
    assert ours._kept_styles(b"\xff\xd8\xff\xe0").what == usual, "a JPEG is not read anew for that"


def test_a_file_as_large_as_a_film_is_not_read_to_know_it_again(weights, tmp_path, monkeypatch):
    painting = make_photo(tmp_path / "a.png", seed=3)
    monkeypatch.setattr(plain, "LARGEST", 100)
    monkeypatch.setattr(plain.Path, "read_bytes", lambda path: pytest.fail("read") if path == painting else path.open("rb").read())
    plain_of(weights)[0].style_from(painting)


def test_a_painting_that_may_not_be_read_is_told_in_a_sentence(weights, tmp_path, monkeypatch):
    painting, real = make_photo(tmp_path / "a.png", seed=3), builtins.open

    def locked(file, *args, **options):
        if file == painting:
            raise PermissionError(13, "Permission denied", str(file))
        return real(file, *args, **options)

    monkeypatch.setattr("builtins.open", locked)
    monkeypatch.setattr(plain.Path, "open", locked)
    with pytest.raises(ImageError, match="a.png may not be read"):
        plain_of(weights)[0].style_from(painting)


@pytest.mark.skipif(os.name == "nt", reason="names have no line breaks there")
def test_a_style_has_the_same_name_when_it_is_known_again(weights, tmp_path):
    painting = make_photo(tmp_path / "my\npainting.png", seed=3)
    names = [plain_of(weights)[0].style_from(painting).name for _ in range(2)]
    assert names == ["my?painting"] * 2


def test_the_stylizer_goes_on_with_the_styles_of_paintings(weights, tmp_path):
    """And paints with a painting what is not for this: a photograph in strips."""
    painting, (ours, full) = make_photo(tmp_path / "a.png", seed=3), plain_of(weights, memory=0.0)
    large = make_photo(tmp_path / "b.png", (90, 70))
    wanted = ours.resolve([(ours.style_from(painting), 1.0), ("red-hill", 3.0)])
    theirs = full().stylize(large, [(full().style_from(painting), 1.0), ("red-hill", 3.0)])
    assert same(ours.stylize(large, wanted), theirs)
    assert same(ours.stylize(large, ours.style_from(painting)), full().stylize(large, full().style_from(painting)))


@pytest.mark.parametrize("what", ["vgg", "encoder", "damaged"])
def test_what_is_wrong_with_the_encoder_the_stylizer_tells(tmp_path, photo, what):
    weights = make_weights(tmp_path / "w", 5)
    network = weights / "network.safetensors"
    if what == "vgg":
        (weights / "vgg16.safetensors").write_bytes(b"nothing")
    elif what == "encoder":
        save_network(network, load_network(network).generator, None)
    else:
        data = bytearray(network.read_bytes())
        data[int.from_bytes(data[:8], "little") + 8] ^= 1  # the first of the encoder's numbers
        network.write_bytes(data)
    ours, full = plain_of(weights)
    for ask in (lambda s: s.style_from(photo), lambda s: s.stylize(photo, s.resolve([("red-hill", 1.0)]), strength=0.5)):
        with pytest.raises(StylenormError) as first:
            ask(ours)
        with pytest.raises(StylenormError) as second:
            ask(Stylizer(weights, device="cpu", backend="torch"))
        assert str(first.value) == str(second.value)


def test_a_network_of_batch_norm_has_moments_for_a_large_flat_picture_as_well(tmp_path, monkeypatch):
    """It is painted at its own size."""
    monkeypatch.setattr("stylenorm.flat.LARGEST", 40)
    weights = make_weights(tmp_path, 3, replace(TINY, norm="batch"))
    flat, (ours, full) = np.random.default_rng(0).integers(30, 34, (44, 60, 3), np.uint8), plain_of(weights)
    painted = ours.stylize(flat, ours.resolve([("red-hill", 1.0)]))
    assert not full.count and same(painted, Stylizer(weights, device="cpu").stylize(flat, "red-hill"))


def test_where_memory_is_short_the_stylizer_paints_in_strips(weights, photo, monkeypatch):
    told = []
    for memory, free in ((0.0, 10**12), (None, 1000)):
        ours, full = plain_of(weights, memory)
        monkeypatch.setattr(plain, "free_main_memory", lambda: free)
        painted = ours.stylize(photo, ours.resolve([("red-hill", 1.0)]), notice=told.append)
        assert full.count == 1 and painted.size == (60, 44)
    assert "strips" in told[0]


def test_a_wrong_smoothing_is_told(weights):
    ours, _ = plain_of(weights)
    for options in ({"smoothing": 1.0}, {"strength": 2.0}, {"size": 3}):
        with pytest.raises(StyleError):
            ours.stream(ours.resolve([("red-hill", 1.0)]), **options)


@pytest.mark.parametrize("options", [{"strength": 1.5}, {"size": 3}, {"paint_at": 10**6}])
def test_wrong_options_are_told_alike(weights, photo, options):
    ours, _ = plain_of(weights)
    with pytest.raises(StyleError) as first:
        ours.stylize(photo, ours.resolve([("red-hill", 1.0)]), **options)
    with pytest.raises(StyleError) as second:
        Stylizer(weights, device="cpu").stylize(photo, "red-hill", **options)
    assert str(first.value) == str(second.value)


def without_torch():
    raise ModuleNotFoundError("No module named 'torch'", name="torch")


@pytest.mark.parametrize("pair", [(0.0, 0.0), (1e308, 1e308), (-1.0, 2.0), (float("nan"), 1.0)])
def test_weights_that_are_no_blend_are_told_alike_with_and_without_torch(weights, pair):
    for ours in (plain_of(weights)[0], plain_stylizer(weights, "cpu", "auto", None, without_torch)):
        with pytest.raises(StyleError, match="weights of a blend must be finite"):
            ours.resolve([*zip(("red-hill", "blue-tree"), pair)])


def lacking(file, name):
    """Writes VGG-16's features there, but for one of them."""
    save_file({k: v for k, v in load_file(vgg_file()).items() if k != name}, file)


def reshaped(file, name):
    save_file({k: v[:-1].copy() if k == name else v for k, v in load_file(vgg_file()).items()}, file)


def flipped(file, name):
    """The shipped file with a bit of one of its arrays flipped."""
    data = bytearray(vgg_file().read_bytes())
    end = 8 + int.from_bytes(data[:8], "little")
    data[end + json.loads(data[8:end])[name]["data_offsets"][0]] ^= 1
    file.write_bytes(data)


def cut_short(file, name):
    file.write_bytes(vgg_file().read_bytes()[:-1000])


VGG_FAULTS = [
    (lacking, "features.0.weight", "0.weight is missing"),
    (lacking, "features.21.bias", "21.bias is missing"),
    (reshaped, "features.7.weight", "7.weight is missing or of another shape"),
    (flipped, "features.0.bias", "do not match their checksum"),
    (flipped, "features.21.weight", "do not match their checksum"),
    (cut_short, "", "fetch it again"),
]


@pytest.mark.parametrize("write, name, told", VGG_FAULTS)
def test_what_is_wrong_with_vgg_is_told_alike_with_and_without_torch(tmp_path, photo, write, name, told):
    weights = make_weights(tmp_path / "w", 5)
    write(weights / "vgg16.safetensors", name)
    with pytest.raises(WeightsError) as wanted:
        VGGFeatures.from_file(weights / "vgg16.safetensors")
    assert told in str(wanted.value) and str(wanted.value).startswith(f"{weights / 'vgg16.safetensors'} does not hold VGG-16's features")
    for full in (Counted(weights), without_torch):
        with pytest.raises(WeightsError) as caught:
            plain_stylizer(weights, "cpu", "auto", None, full).style_from(photo)
        told = [str(error.value).replace("ing header: ", "ing: ") for error in (caught, wanted)]  # which safetensors says of mapped files alone
        assert told[0] == told[1]


def test_vgg_is_checked_where_it_is_compiled_and_not_by_each_command(weights, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("STYLENORM_HOME", str(tmp_path))
    checked, real = [], stored.checksum
    monkeypatch.setattr(stored, "checksum", lambda arrays: checked.append("features.0.bias" in arrays) or real(arrays))
    for size in (64, 65):  # another one, which is not kept
        plain_of(weights)[0].style_from(photo, size)
    assert checked.count(True) == 1


def test_it_goes_with_the_last_that_holds_it(weights, photo):
    """And not once Python looks for rings: it holds a hundred MB."""
    gc.disable()
    try:
        ours, _ = plain_of(weights)
        for image in (photo, np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20, 3), np.uint16)):  # a graph for each
            ours.stylize(image, ours.resolve([("red-hill", 1.0)]), strength=0.5)
        ours.stream(ours.resolve([("red-hill", 1.0)]))(photo)
        gone = weakref.ref(ours)
        del ours
        assert gone() is None
    finally:
        gc.enable()


def test_an_option_that_there_is_not_is_refused(weights, photo):
    ours, _ = plain_of(weights)
    with pytest.raises(TypeError, match="colour"):
        ours.stylize(photo, ours.resolve([("red-hill", 1.0)]), colour=True)


def test_it_leaves_other_devices_and_backends_to_the_stylizer(weights, monkeypatch):
    for device, backend in (("cuda", "auto"), ("mps", "auto"), ("cpu", "torch")):
        assert plain_stylizer(weights, device, backend, None, None) is None
    for gpu in (True, False):
        monkeypatch.setattr(plain, "may_have_gpu", lambda: gpu)
        assert (plain_stylizer(weights, "auto", "openvino", None, None) is None) == gpu
    monkeypatch.setattr(plain, "find_spec", lambda name: None)
    assert plain_stylizer(weights, "cpu", "auto", None, None) is None


def test_a_damaged_network_is_left_to_who_says_so(weights, tmp_path):
    data = bytearray((weights / "network.safetensors").read_bytes())
    for name, damaged in {"cut": data[:-9], "flipped": data[:-1] + bytes([data[-1] ^ 1]), "none": b"", "text": b"x" * 999}.items():
        (tmp_path / name).write_bytes(damaged)
        assert plain_stylizer(tmp_path / name, "cpu", "auto", None, None) is None
    assert plain_stylizer(weights / "styles" / "red-hill.safetensors", "cpu", "auto", None, None) is None
    assert plain_stylizer(tmp_path / "nowhere", "cpu", "auto", None, None) is None
    header = int.from_bytes(data[:8], "little")
    encoder = next(about for name, about in json.loads(data[8 : 8 + header]).items() if name.startswith("encoder."))
    data[8 + header + encoder["data_offsets"][0]] ^= 1
    (tmp_path / "encoder").write_bytes(data)
    assert plain_stylizer(tmp_path / "encoder", "cpu", "auto", None, None) is not None, "it has no use for that"


def test_a_damaged_style_is_told_in_a_sentence(tmp_path):
    weights = make_weights(tmp_path / "w", 4)
    file = weights / "styles" / "red-hill.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    ours, full = plain_of(weights)
    with pytest.raises(StylenormError, match="red-hill"):
        ours.resolve([("red-hill", 1.0)])
    assert full.count == 1


@pytest.mark.parametrize(
    "platform, build, devices, expected",
    [
        ("linux", "None", (), False),
        ("linux", "'12.8'", (), False),
        ("linux", "'12.8'", ("nvidiactl",), True),
        ("linux", "'12.8'", ("dxg",), True),
        ("linux", "None", ("nvidiactl",), False),
        ("win32", "'12.8'", (), True),
        ("win32", "None", (), False),
        ("darwin", "None", (), True),
    ],
)
def test_a_gpu_is_ruled_out_only_where_torch_could_not_find_one(tmp_path, monkeypatch, platform, build, devices, expected):
    (tmp_path / "version.py").write_text(f"cuda: Optional[str] = {build}\nhip: Optional[str] = None\nxpu: Optional[str] = 'x'\n")
    monkeypatch.setattr(sys, "platform", platform)
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(machine, "find_spec", lambda name: spec)
    monkeypatch.setattr(machine.os.path, "exists", lambda path: path in {f"/dev/{name}" for name in devices})
    assert machine.may_have_gpu() == expected


def test_this_machine_agrees_with_torch():
    import torch

    assert machine.may_have_gpu() or not torch.cuda.is_available()
