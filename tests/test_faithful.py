"""Photographs go through the command line and come out whole: told by programs that we did not write."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import torch
from PIL import ExifTags, Image, ImageCms, IptcImagePlugin, PngImagePlugin
from test_images import ADOBE_RGB, DISPLAY_P3, SRGB, chunk, noise, photo_exif, raw_png, raw_tiff, saved, smooth, turned

from stylenorm import ImageError, Stylizer
from stylenorm.cli import main
from stylenorm.images import read_picture, rewrap, write_picture
from stylenorm.tiffs import page_count

exifread = pytest.importorskip("exifread")
torch.set_num_threads(1)
PLACE, TIME = b"N 48 51", "2024:02:29 23:59:58"
FORMATS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "tiff": "TIFF", "avif": "AVIF", "heic": "HEIF"}
HAS_ALPHA = ("png", "webp", "tiff", "avif", "heic")


@pytest.fixture(scope="module")
def stylizer(weights):
    return Stylizer(weights, device="cpu", backend="torch")


@pytest.fixture(autouse=True)
def one_network(stylizer, monkeypatch):
    """Every command gets the network that is loaded already."""
    monkeypatch.setattr("stylenorm.engine.Stylizer", lambda *_, **__: stylizer)


def encoded(image: Image.Image, format: str, **options) -> bytes:
    """By Pillow or its plugin, nearly without loss."""
    if format == "heic":
        plugin = pytest.importorskip("pillow_heif")
        options.pop("dpi", None)
        plugin.from_pillow(image).save(buffer := io.BytesIO(), quality=-1, chroma=444, **options)
        return buffer.getvalue()
    exact = {
        "jpeg": {"quality": 100, "subsampling": 0},
        "webp": {"lossless": True, "exact": True},
        "avif": {"quality": 100, "subsampling": "4:4:4"},
        "tiff": {"compression": None},
    }
    return saved(image, FORMATS[format], **exact.get(format, {}), **options)


def opened(path: Path) -> Image.Image:
    data = path.read_bytes()
    if path.suffix == ".heic":
        image = pytest.importorskip("pillow_heif").HeifImageFile(io.BytesIO(data))
    else:
        image = Image.open(io.BytesIO(data))
    image.load()
    return image


def paint(weights, source, target, *words) -> int:
    style = ["--style", "red-hill", "--weights", weights, "--backend", "torch", "--device", "cpu", "-q"]
    return main([str(w) for w in ("stylize", source, "-o", target, *style, *words)])


def dull(width=64, height=48) -> Image.Image:
    """Colours that every space has."""
    return Image.fromarray(np.asarray(smooth(width, height)) // 2 + 60)


# ---- round trips -------------------------------------------------------------------------------


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_everything_of_a_photograph_arrives(weights, tmp_path, source, target):
    if "heic" in (source, target):
        pytest.importorskip("pillow_heif")
    exif = photo_exif(orientation=6)
    photo, result = tmp_path / f"a.{source}", tmp_path / f"b.{target}"
    image = smooth()
    if source in HAS_ALPHA:
        image.putalpha(Image.fromarray(np.linspace(40, 255, 64).astype(np.uint8)[None].repeat(48, 0)))
    photo.write_bytes(encoded(image, source, exif=exif, icc_profile=DISPLAY_P3, dpi=(144, 72)))
    assert paint(weights, photo, result) == 0

    painted = opened(result)
    assert painted.size == (48, 64)
    assert painted.info["icc_profile"] == DISPLAY_P3
    assert "A" in painted.getbands() if source in HAS_ALPHA and target in HAS_ALPHA else painted.mode == "RGB"
    if "A" in painted.getbands():
        ramp = turned(np.asarray(image.getchannel("A"))[..., None], 6)[..., 0]
        assert np.abs(np.asarray(painted.getchannel("A")).astype(int) - ramp).max() <= 3
    read = painted.getexif()
    assert read.get(ExifTags.Base.Orientation, 1) == 1
    assert read.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == TIME
    assert read.get_ifd(ExifTags.IFD.GPSInfo)[2] == (48, 51, 29.5)
    assert tuple(float(v) for v in read_picture(result).dpi) == (144, 72)
    tags = exif_tags(result.read_bytes(), target)
    assert str(tags["EXIF DateTimeOriginal"]) == TIME and str(tags["GPS GPSLatitude"]) == "[48, 51, 59/2]"
    assert str(tags["GPS GPSLongitudeRef"]) == "E" and str(tags.get("Image Orientation", "Hor")).startswith("Hor")


def exif_tags(data: bytes, format: str) -> dict:
    """By ExifRead, which looks into three formats itself and is shown the place in the others."""
    if format in ("webp", "avif", "heic"):
        at = max(data.find(b"MM\0*"), data.find(b"II*\0"))
        data = data[at:] if at >= 0 else b""
    return exifread.process_file(io.BytesIO(data), details=False) if data else {}


@pytest.mark.parametrize("format", FORMATS)
def test_a_photograph_at_strength_0_comes_back_upright_in_its_own_colours(weights, tmp_path, format):
    photo, result = tmp_path / f"a.{format}", tmp_path / f"b.{format}"
    photo.write_bytes(encoded(dull(), format, icc_profile=DISPLAY_P3, exif=photo_exif(1)))
    assert paint(weights, photo, result, "--strength", 0, "--quality", 100) == 0
    before, after = (np.asarray(opened(p).convert("RGB")).astype(int) for p in (photo, result))
    assert np.abs(before - after).max() <= (24 if format in ("webp", "heic") else 6)  # whose colour has half the resolution
    assert np.abs(before - after).mean() < 2


@pytest.mark.parametrize("format", ["heic", "avif"])
def test_batch_keeps_what_a_photograph_is(weights, tmp_path, format):
    if format == "heic":
        pytest.importorskip("pillow_heif")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"a.{format}").write_bytes(encoded(smooth(), format))
    words = ["batch", tmp_path / "in", tmp_path / "out", "--style", "red-hill", "--weights", weights, "--backend", "torch", "-q"]
    assert main([str(w) for w in words]) == 0
    assert opened(tmp_path / "out" / f"a.{format}").size == (64, 48)
    assert b"ftyp" + format.encode() in (tmp_path / "out" / f"a.{format}").read_bytes()[:16]


def test_heic_without_its_library_is_one_sentence(weights, tmp_path, monkeypatch, capsys):
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)
    (tmp_path / "a.heic").write_bytes(data)
    monkeypatch.setattr("stylenorm.decode.import_module", missing)
    monkeypatch.setattr("stylenorm.encode.import_module", missing)
    assert paint(weights, tmp_path / "a.heic", tmp_path / "b.png") == 1
    assert 'pip install "stylenorm[heic]"' in capsys.readouterr().err
    (tmp_path / "a.png").write_bytes(saved(smooth()))
    assert paint(weights, tmp_path / "a.png", tmp_path / "b.heic") == 1
    assert 'pip install "stylenorm[heic]"' in capsys.readouterr().err
    assert not list(tmp_path.glob("b.*"))


def test_a_pillow_without_avif_is_told_of_before_the_work(weights, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.avif").write_bytes(saved(smooth(), "AVIF"))
    (tmp_path / "a.png").write_bytes(saved(smooth()))
    monkeypatch.setattr("PIL.AvifImagePlugin.SUPPORTED", False)
    monkeypatch.setattr("PIL.features.check", lambda name: name != "avif")
    assert paint(weights, tmp_path / "a.avif", tmp_path / "b.png") == 1
    told = capsys.readouterr().err
    assert "a.avif is a kind of picture that this Pillow was built without (AVIF); pip install" in told and told.count("\n") == 1
    assert paint(weights, tmp_path / "a.png", tmp_path / "b.avif") == 2
    assert "this Pillow was built without AVIF" in capsys.readouterr().err and not list(tmp_path.glob("b.*"))


def missing(name):
    raise ImportError(name)


# ---- colour, in Lab ----------------------------------------------------------------------------

TO_XYZ = {  # linear light to XYZ under D65: SMPTE EG 432-1, Adobe RGB (1998), IEC 61966-2-1
    "p3": [[0.4865709, 0.2656677, 0.1982173], [0.2289746, 0.6917385, 0.0792869], [0, 0.0451134, 1.0439444]],
    "adobe": [[0.5766690, 0.1855582, 0.1882286], [0.2973450, 0.6273636, 0.0752915], [0.0270314, 0.0706889, 0.9913375]],
    "srgb": [[0.4123908, 0.3575843, 0.1804808], [0.2126390, 0.7151687, 0.0721923], [0.0193308, 0.1191948, 0.9505322]],
}
PROFILES = {"p3": DISPLAY_P3, "adobe": ADOBE_RGB, "srgb": SRGB}


def lab(pixels: np.ndarray, space: str) -> np.ndarray:
    """uint8 or uint16 to CIELAB under D65, by the definitions."""
    unit = pixels / np.iinfo(pixels.dtype).max
    light = unit**2.19921875 if space == "adobe" else np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    xyz = light @ np.array(TO_XYZ[space]).T / [0.95046, 1, 1.08906]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=-1)


@pytest.mark.parametrize("space", ["p3", "adobe"])
@pytest.mark.parametrize("format", ["png", "tiff"])
@pytest.mark.parametrize("depth", [8, 16])
def test_wide_colours_are_converted_and_not_relabelled(weights, tmp_path, space, format, depth):
    pytest.importorskip("png")
    from test_depth import MADE, READ, samples

    deep = (samples() // 2 + 16_000).astype(np.uint16)  # colours that sRGB has as well
    photo, result = tmp_path / f"a.{format}", tmp_path / f"b.{format}"
    if depth == 8:
        deep = np.rint(deep / 257).astype(np.uint8)
        photo.write_bytes(saved(Image.fromarray(deep), FORMATS[format], icc_profile=PROFILES[space]))
    elif format == "tiff":
        photo.write_bytes(MADE[format](deep, iccprofile=PROFILES[space]))
    else:
        data = MADE[format](deep)
        profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(PROFILES[space]))
        photo.write_bytes(data[:33] + profile + data[33:])

    picture = read_picture(photo)
    seen = np.asarray(picture.rgb) if depth == 8 else picture.deep
    wanted = lab(deep, space)
    assert difference(lab(seen, "srgb"), wanted).mean() < (0.35 if depth == 8 else 0.06)
    assert difference(lab(deep, "srgb"), wanted).mean() > 3  # what relabelling would give

    assert paint(weights, photo, result, "--strength", 0) == 0
    painted = opened(result)
    assert painted.info["icc_profile"] == PROFILES[space]
    back = np.asarray(painted) if depth == 8 else READ[format](result.read_bytes())
    found = difference(lab(back, space), wanted)
    assert found.mean() < (0.4 if depth == 8 else 0.01) and found.max() < (2 if depth == 8 else 0.1)


def test_a_painting_has_the_same_colours_in_every_space(weights, tmp_path):
    """What the network paints of one photograph in two spaces looks alike, by LittleCMS's own Lab; grain goes by the last digits."""
    plain, to_lab = dull(), []
    for name, profile in PROFILES.items():
        image = ImageCms.profileToProfile(plain, io.BytesIO(SRGB), io.BytesIO(profile), ImageCms.Intent.RELATIVE_COLORIMETRIC)
        (tmp_path / f"{name}.png").write_bytes(saved(image, icc_profile=profile))
        assert paint(weights, tmp_path / f"{name}.png", tmp_path / f"{name}-b.png", "--no-grain") == 0
        painted = opened(tmp_path / f"{name}-b.png")
        assert painted.info["icc_profile"] == profile
        to_lab.append(lab(np.asarray(painted), name))
        image.save(tmp_path / "bare.png", icc_profile=None)
        assert paint(weights, tmp_path / "bare.png", tmp_path / "bare-b.png", "--no-grain") == 0
        to_lab.append(lab(np.asarray(opened(tmp_path / "bare-b.png")), name))  # were it only relabelled
    p3, p3_bare, adobe, adobe_bare, srgb, _ = to_lab
    for right, wrong in ((p3, p3_bare), (adobe, adobe_bare)):
        assert difference(right, srgb).mean() < 5 < 10 < difference(wrong, srgb).mean()  # 3 and 4.4 of a network of random weights; 11 and 16


# ---- --strip -----------------------------------------------------------------------------------

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF>SECRET of XMP</rdf:RDF></x:xmpmeta>'
IPTC = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + struct.pack(">I", 20) + b"\x1c\x02\x78\0\x0fSECRET caption"


def tattling(format: str) -> bytes:
    """A photograph with the maker's name, place, time and words in every field that the format has."""
    options = {"exif": photo_exif(6, note=b"SECRET note"), "icc_profile": ADOBE_RGB, "dpi": (144, 72)}
    if format in ("jpeg", "webp", "avif", "heic"):
        options["xmp"] = XMP
    if format == "jpeg":
        options |= {"comment": b"SECRET comment", "extra": b"\xff\xed" + struct.pack(">H", len(IPTC) + 2) + IPTC}
    if format == "png":
        text = PngImagePlugin.PngInfo()
        text.add_text("Author", "SECRET author")
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = text
    if format == "tiff":
        exif = Image.Exif()
        exif.load(options["exif"])
        exif[700], exif[33723], exif[315] = XMP, IPTC, "SECRET artist"
        options["exif"] = exif
    return encoded(smooth(), format, **options)


@pytest.mark.parametrize("format", FORMATS)
def test_strip_leaves_nothing_that_tells_of_the_photographer(weights, tmp_path, format):
    photo = tmp_path / f"a.{format}"
    photo.write_bytes(tattling(format))
    assert b"SECRET" in photo.read_bytes()
    front = ["batch", tmp_path, tmp_path / "out", "--style", "red-hill", "--weights", weights, "--backend", "torch", "-q"]
    assert main([str(w) for w in (*front, "--strip")]) == 0
    assert paint(weights, photo, tmp_path / f"b.{format}", "--strip") == 0
    for path in (tmp_path / f"b.{format}", tmp_path / "out" / f"a.{format}"):
        data, painted = path.read_bytes(), opened(path)
        for secret in (b"SECRET", b"Maker", b"2024:02:29", b"xmpmeta", b"8BIM"):
            assert secret not in data
        assert painted.size == (48, 64) and painted.info["icc_profile"] == ADOBE_RGB
        assert not {*painted.getexif()} & {0x010F, 0x0110, 0x8769, 0x8825}
        if format != "tiff":  # which has the size there, and the resolution
            assert not exif_tags(data, format) and not painted.info.get("exif")
        if format in ("jpeg", "png", "tiff"):
            assert tuple(round(float(v)) for v in painted.info["dpi"]) == (144, 72)


def test_strip_is_a_setting_of_a_batch_only_where_it_is_wanted(weights, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(saved(smooth()))
    words = ["batch", tmp_path / "in", tmp_path / "out", "--style", "red-hill", "--weights", weights, "--backend", "torch", "-q"]
    assert main([str(w) for w in words]) == 0
    assert '"strip"' not in next((tmp_path / "out").glob("*.jsonl")).read_text()  # as older versions wrote it
    assert main([str(w) for w in (*words, "--strip")]) == 2
    assert "strip unset instead of on" in capsys.readouterr().err


# ---- XMP and IPTC ------------------------------------------------------------------------------

WRITTEN = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Some Program 9.1">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
    xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"
    xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"
    xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/"
    xmlns:xmpNote="http://ns.adobe.com/xmp/note/"
    xmp:Rating="4" xmp:CreatorTool="Some Program 9.1"
    tiff:Orientation="6" tiff:ImageWidth="9999" tiff:Make="Maker &amp; Sons"
    crs:Exposure2012="+1.00" GCamera:MotionPhoto="1" xmpNote:HasExtendedXMP="0123456789ABCDEF0123456789ABCDEF"
    GPano:FullPanoWidthPixels="64">
   <dc:title><rdf:Alt><rdf:li xml:lang="x-default">Fog over the Elbe – 霞</rdf:li></rdf:Alt></dc:title>
   <dc:subject><rdf:Bag><rdf:li>fog</rdf:li><rdf:li>river</rdf:li></rdf:Bag></dc:subject>
   <exif:PixelXDimension>9999</exif:PixelXDimension>
   <xmp:Thumbnails><rdf:Alt><rdf:li rdf:parseType="Resource"><xmpGImg:image>T0xEUElDVFVSRQ==</xmpGImg:image></rdf:li></rdf:Alt></xmp:Thumbnails>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
""" + " " * 2000 + '<?xpacket end="w"?>'
GONE = ("Orientation", "9999", "crs:E", "MotionPhoto=", "HasExtended", "T0xE", "xmptk")
DC, XAP = "{http://purl.org/dc/elements/1.1/}", "{http://ns.adobe.com/xap/1.0/}"


def data_set(record: int, number: int, value: bytes) -> bytes:
    size = struct.pack(">H", len(value)) if len(value) < 32768 else struct.pack(">HI", 0x8004, len(value))
    return struct.pack(">BBB", 0x1C, record, number) + size + value


CAPTION = data_set(1, 90, b"\x1b%G") + data_set(2, 0, b"\0\4") + data_set(2, 120, "Fog over the Elbe –".encode())
PREVIEW = data_set(2, 200, b"\0\1") + data_set(2, 202, b"OLDPICTURE" * 4000)


def captioned(format: str, orientation: int = 1) -> bytes:
    options = {"exif": photo_exif(orientation), "xmp": WRITTEN.encode()}
    if format == "jpeg":
        block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(CAPTION + PREVIEW)) + CAPTION + PREVIEW
        options["extra"] = b"\xff\xed" + struct.pack(">H", len(block) + 16) + b"Photoshop 3.0\0" + block
    if format == "png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", WRITTEN)
    if format == "tiff":
        exif = Image.Exif()
        exif.load(options["exif"])
        exif[700], exif[33723] = options.pop("xmp"), CAPTION + PREVIEW
        options["exif"] = exif
    return encoded(smooth(), format, **options)


def packet_in(image: Image.Image) -> bytes:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    return packet.encode() if isinstance(packet, str) else packet


def told_by(packet: bytes) -> dict:
    """Title, keywords and rating of a packet, by another reader of XML."""
    root = ElementTree.fromstring(packet)
    described = root.find(".//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    items = {name: [li.text for li in described.iterfind(f"{DC}{name}/*/*")] for name in ("title", "subject")}
    return items | {"rating": described.get(f"{XAP}Rating"), "make": described.get("{http://ns.adobe.com/tiff/1.0/}Make")}


TOLD = {"title": ["Fog over the Elbe – 霞"], "subject": ["fog", "river"], "rating": "4", "make": "Maker & Sons"}


@pytest.mark.parametrize("format", FORMATS)
def test_title_keywords_and_rating_of_xmp_stay(weights, tmp_path, format):
    (tmp_path / "a").write_bytes(captioned(format, 6))
    for target in FORMATS:
        painted = tmp_path / f"b.{target}"
        assert paint(weights, tmp_path / "a", painted) == 0
        packet = packet_in(opened(painted))
        assert told_by(packet) == TOLD
        assert not [word for word in GONE if word.encode() in packet] and b"PanoWidthPixels=" not in packet  # it is turned
        assert opened(painted).getexif().get(0x0112, 1) == 1


FACES = """<mwg-rs:Regions xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/" rdf:parseType="Resource">
 <mwg-rs:AppliedToDimensions xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#" stDim:w="64" stDim:h="48" stDim:unit="pixel"/>
 <mwg-rs:RegionList><rdf:Bag><rdf:li><rdf:Description xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#" mwg-rs:Name="Eva">
 <mwg-rs:Area stArea:x="0.5" stArea:y="0.25" stArea:w="0.125" stArea:h="0.25" stArea:unit="normalized"/>
 </rdf:Description></rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>
 <GPano:CroppedAreaTopPixels>12</GPano:CroppedAreaTopPixels><GPano:PoseHeadingDegrees>350.5</GPano:PoseHeadingDegrees><dc:title>"""


@pytest.mark.parametrize("words, width, height, top", [((), 64, 48, 12), (("--size", "32"), 32, 24, 6)])
def test_a_panorama_stays_one_and_faces_are_where_they_are_at_another_size(weights, tmp_path, words, width, height, top):
    smooth().save(tmp_path / "a.jpg", exif=photo_exif(), xmp=WRITTEN.replace("<dc:title>", FACES).encode())
    assert paint(weights, tmp_path / "a.jpg", tmp_path / "b.jpg", *words) == 0
    packet = opened(tmp_path / "b.jpg").info["xmp"].decode()
    assert told_by(packet.encode()) == TOLD and 'mwg-rs:Name="Eva"' in packet and 'stArea:w="0.125"' in packet
    assert f'GPano:FullPanoWidthPixels="{width}"' in packet and f"<GPano:CroppedAreaTopPixels>{top}<" in packet
    assert f'stDim:w="{width}"' in packet and f'stDim:h="{height}"' in packet and ">350.5<" in packet


def test_where_the_subject_is_stays_as_long_as_the_picture_lies_and_is_as_it_was(weights, tmp_path):
    """Every iPhone writes SubjectArea, in pixels of the picture before it is turned."""
    packet = WRITTEN.replace("<exif:Pix", "<exif:SubjectArea><rdf:Seq><rdf:li>9</rdf:li></rdf:Seq></exif:SubjectArea><exif:Pix").encode()
    for turn, words, stays in ((1, (), True), (6, (), False), (1, ("--size", "32"), False)):
        exif = Image.Exif()
        exif.load(photo_exif(turn))
        photo = exif.get_ifd(ExifTags.IFD.Exif)
        photo[0x9214], photo[0xA214] = (30, 20, 8), (30, 20)
        smooth().save(tmp_path / "a.jpg", exif=exif, xmp=packet)
        assert paint(weights, tmp_path / "a.jpg", tmp_path / "b.jpg", *words) == 0
        painted = opened(tmp_path / "b.jpg")
        found = painted.getexif().get_ifd(ExifTags.IFD.Exif)
        assert found[0x9003] == TIME and told_by(painted.info["xmp"]) == TOLD
        assert [0x9214 in found, 0xA214 in found, b"SubjectArea" in painted.info["xmp"]] == [stays] * 3


@pytest.mark.parametrize("kind, stays", [("digitalCapture", False), ("print", False), ("trainedAlgorithmicMedia", True)])
def test_no_painting_is_said_to_be_as_the_camera_took_it(weights, tmp_path, kind, stays):
    """IPTC's digital source type, by which Google and others tell photographs from what a network has made."""
    told = f'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/{kind}"'
    told += ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmp:Rating'
    smooth().save(tmp_path / "a.jpg", xmp=WRITTEN.replace("xmp:Rating", told).encode())
    assert paint(weights, tmp_path / "a.jpg", tmp_path / "b.jpg") == 0
    packet = opened(tmp_path / "b.jpg").info["xmp"]
    assert (kind.encode() in packet) is stays and told_by(packet) == TOLD


@pytest.mark.parametrize("source", ["jpeg", "tiff"])
def test_captions_of_iptc_stay_in_jpeg_and_tiff_without_the_old_preview(weights, tmp_path, source):
    (tmp_path / "a").write_bytes(captioned(source))
    for target in ("jpeg", "tiff"):
        painted = tmp_path / f"b.{target}"
        assert paint(weights, tmp_path / "a", painted) == 0
        image = opened(painted)
        assert (image.info["photoshop"][0x0404] if target == "jpeg" else image.tag_v2[33723]) == CAPTION
        if source == "jpeg":  # Pillow has the shape of IPTC from the tag, too
            told = IptcImagePlugin.getiptcinfo(image)
            assert told[2, 120] == "Fog over the Elbe –".encode() and (2, 202) not in told


def test_sixteen_bits_keep_xmp(weights, tmp_path):
    samples = np.linspace(0, 65535, 40 * 30 * 3).astype(np.uint16).reshape(40, 30, 3)
    tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", metadata=None, extratags=[
        (700, 1, len(WRITTEN.encode()), WRITTEN.encode(), True), (33723, 7, len(CAPTION), CAPTION, True)
    ])  # fmt: skip
    for target in ("png", "tif"):
        assert paint(weights, tmp_path / "a.tif", tmp_path / f"b.{target}") == 0
        image = opened(tmp_path / f"b.{target}")
        assert told_by(packet_in(image)) == TOLD
    assert image.tag_v2[33723] == CAPTION and tifffile.imread(tmp_path / "b.tif").dtype == np.uint16


@pytest.mark.parametrize("order", "<>")
def test_a_big_tiff_keeps_what_a_tiff_does(weights, tmp_path, order):
    """libvips, GDAL and scanners' programs write them; exif and tags lie in another layout there."""
    packet = WRITTEN.encode()
    tifffile.imwrite(tmp_path / "a.tif", np.asarray(smooth()), photometric="rgb", bigtiff=True, byteorder=order, metadata=None, extratags=[
        (700, 1, len(packet), packet, True), (33723, 7, len(CAPTION), CAPTION, True), (274, 3, 1, 6, True),
        (33432, 2, 8, "(c) Ada", True), (0x8768, 16, 1, 0, True),
    ])  # fmt: skip
    data = bytearray((tmp_path / "a.tif").read_bytes())
    time = len(data) + 36  # behind a directory of one entry
    data += struct.pack(order + "QHHQQQ", 1, 0x9003, 2, 20, time, 0) + TIME.encode() + b"\0"
    at = data.index(struct.pack(order + "HHQ", 0x8768, 16, 1))
    struct.pack_into(order + "HHQQ", data, at, 0x8769, 16, 1, time - 36)  # which tifffile would not write
    (tmp_path / "a.tif").write_bytes(data)
    for target in ("tif", "jpg"):
        assert paint(weights, tmp_path / "a.tif", tmp_path / f"b.{target}") == 0
        painted = opened(tmp_path / f"b.{target}")
        exif = painted.getexif()
        assert painted.size == (48, 64) and exif[0x8298] == "(c) Ada" and exif.get(0x0112, 1) == 1
        assert exif.get_ifd(ExifTags.IFD.Exif) == {0x9003: TIME}
        assert told_by(packet_in(painted)) == TOLD and b"PanoWidthPixels=" not in packet_in(painted)  # it is turned
        assert (painted.info["photoshop"][0x0404] if target == "jpg" else painted.tag_v2[33723]) == CAPTION


def told_in_resources() -> bytes:
    """A PSD with EXIF, XMP, IPTC, 144 and 72 dots an inch and a profile."""
    held = {1005: struct.pack(">IHHIHH", 144 << 16, 1, 1, 72 << 16, 1, 1), 1028: CAPTION, 1039: DISPLAY_P3}
    held |= {1058: photo_exif(6)[6:], 1060: WRITTEN.encode()}
    packed = b"".join(b"8BIM" + struct.pack(">HHI", n, 0, len(d)) + d + bytes(len(d) % 2) for n, d in held.items())
    head = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 48, 64, 8, 3) + bytes(4)
    planes = np.asarray(dull()).transpose(2, 0, 1).tobytes()
    return head + struct.pack(">I", len(packed)) + packed + bytes(4) + b"\0\0" + planes


def told_in_boxes() -> bytes:
    """A JPEG 2000 with EXIF, XMP, IPTC and a profile."""

    def box(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I4s", len(data) + 8, kind) + data

    plain = saved(dull(), "JPEG2000", irreversible=False)
    at = plain.index(b"jp2h") - 4
    (size,) = struct.unpack_from(">I", plain, at)
    header = plain[at + 8 : at + size]
    header = header[: header.index(b"colr") - 4] + box(b"colr", b"\2\0\0" + DISPLAY_P3)
    held = {b"JpgTiffExif->JP2": photo_exif(6)[6:], bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): WRITTEN.encode()}
    held[bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")] = CAPTION
    return plain[:at] + box(b"jp2h", header) + b"".join(box(b"uuid", k + v) for k, v in held.items()) + plain[at + size :]


@pytest.mark.parametrize("make", [told_in_resources, told_in_boxes])
def test_photoshops_files_and_jpeg_2000_keep_what_others_do(weights, tmp_path, make):
    (tmp_path / "a").write_bytes(make())
    assert paint(weights, tmp_path / "a", tmp_path / "b.jpg", "--strength", 0, "--quality", 100) == 0
    painted = opened(tmp_path / "b.jpg")
    exif = painted.getexif()
    assert painted.size == (64, 48) and exif[0x0112] == 1 and exif.get_ifd(ExifTags.IFD.Exif)[0x9003] == TIME
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[2] == (48, 51, 29.5) and told_by(painted.info["xmp"]) == TOLD
    assert painted.info["photoshop"][0x0404] == CAPTION and painted.info["icc_profile"] == DISPLAY_P3
    assert painted.info["dpi"] == (144, 72)
    assert np.abs(np.asarray(painted).astype(int) - np.asarray(dull())).max() <= 6  # converted to sRGB and back
    assert difference(lab(np.asarray(read_picture(tmp_path / "a").rgb), "srgb"), lab(np.asarray(dull()), "p3")).mean() < 0.4


@pytest.mark.parametrize("make", [told_in_resources, told_in_boxes])
def test_with_bytes_of_them_changed_they_are_read_or_refused(make):
    whole, rng = make(), np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.integers(0, min(len(data), 1200), 4):
            data[at] = rng.integers(0, 256)
        try:
            assert min(read_picture(bytes(data)).size) > 0
        except ImageError:
            pass


BROKEN_PACKETS = {
    "no XML": b"\xff\xd8 nothing",
    "cut short": WRITTEN.encode()[:900],
    "entities": b'<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">]>' + WRITTEN.replace("Elbe", "&a;")[55:].encode(),
    "UTF-16": WRITTEN.encode("utf-16"),
    "deep": b"<a>" * 50_000 + b"</a>" * 50_000,
    "nothing that stays": b"<r:RDF xmlns:r='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><r:Description r:about=''/></r:RDF>",
    "an unknown prefix": WRITTEN.replace('xmlns:dc="http://purl.org/dc/elements/1.1/"', "").encode(),
    "5 megabytes": WRITTEN.replace("Elbe", "Elbe" * 1_200_000).encode(),
}


@pytest.mark.parametrize("kind", BROKEN_PACKETS)
def test_a_broken_packet_is_left_out_and_the_picture_painted(weights, tmp_path, kind):
    smooth().save(tmp_path / "a.webp", xmp=BROKEN_PACKETS[kind])
    assert paint(weights, tmp_path / "a.webp", tmp_path / "b.jpg") == 0
    assert not opened(tmp_path / "b.jpg").info.get("xmp")


def test_a_packet_of_very_many_properties_is_gone_through_once(monkeypatch):
    """Both of these count from the front each time, so that one uploaded photograph would keep a server busy for hours."""
    monkeypatch.delattr("xml.dom.minidom.NamedNodeMap.item")
    monkeypatch.delattr("xml.dom.minidom.Node.removeChild")
    image = smooth()
    many = "".join(f'crs:a{n}="" dc:a{n}="" ' for n in range(500))
    image.info["xmp"] = WRITTEN.replace("xmp:Rating=", f"{many}xmp:Rating=").replace("<dc:title>", "<crs:a/>" * 500 + "<dc:title>").encode()
    packet = read_picture(image).xmp
    assert told_by(packet) == TOLD and packet.count(b"dc:a") == 500 and b"crs:a" not in packet


def test_lines_of_a_caption_in_an_attribute_stay_lines():
    image = smooth()
    image.info["xmp"] = WRITTEN.replace("xmp:Rating=", 'dc:source="one&#xA;two&#xD;&#10;&#9;&lt;three&gt;" xmp:Rating=').encode()
    picture = read_picture(image)
    for packet in (picture.xmp, rewrap(picture, Image.new("RGB", (32, 24))).info["xmp"]):
        assert told_by(packet) == TOLD
        assert ElementTree.fromstring(packet).find(f".//*[@{DC}source]").get(f"{DC}source") == "one\ntwo\r\n\t<three>"


def test_what_is_too_long_for_a_jpeg_is_left_out_of_it(weights, tmp_path):
    long = WRITTEN.replace("Elbe", "Elbe" * 20_000)
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", long)
    smooth().save(tmp_path / "a.png", pnginfo=text)
    assert paint(weights, tmp_path / "a.png", tmp_path / "b.jpg") == 0
    assert paint(weights, tmp_path / "a.png", tmp_path / "b.webp") == 0
    assert "xmp" not in opened(tmp_path / "b.jpg").info
    assert len(packet_in(opened(tmp_path / "b.webp"))) > 80_000
    picture = read_picture(smooth())
    image = rewrap(picture, picture.rgb)
    image.info["iptc"] = data_set(2, 120, b"word " * 14_000)
    write_picture(image, tmp_path / "c.jpg")
    write_picture(image, tmp_path / "c.tif")
    assert not opened(tmp_path / "c.jpg").info.get("photoshop") and len(opened(tmp_path / "c.tif").tag_v2[33723]) > 70_000


@pytest.mark.skipif(not shutil.which("exiftool"), reason="there is no exiftool")
@pytest.mark.parametrize("target", FORMATS)
def test_exiftool_reads_the_words_and_complains_of_nothing(weights, tmp_path, target):
    (tmp_path / "a.jpg").write_bytes(captioned("jpeg", 6))
    painted = tmp_path / f"b.{target}"
    assert paint(weights, tmp_path / "a.jpg", painted) == 0
    command = ["exiftool", "-json", "-G1", "-n", painted]
    told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0]
    assert told["XMP-dc:Title"] == TOLD["title"][0] and told["XMP-dc:Subject"] == ["fog", "river"] and told["XMP-xmp:Rating"] == 4
    if target in ("jpeg", "tiff"):
        assert told["IPTC:Caption-Abstract"] == "Fog over the Elbe –"
    assert not {key for key in told if "Thumbnail" in key or "Preview" in key}
    assert "MakerNote" in told.get("ExifTool:Warning", "MakerNote")  # of the made-up EXIF


# ---- odd files ---------------------------------------------------------------------------------


def tiff(array: np.ndarray, **options) -> bytes:
    tifffile.imwrite(buffer := io.BytesIO(), array, metadata=None, **options)
    return buffer.getvalue()


def pages() -> bytes:
    return saved(smooth(), "TIFF", save_all=True, append_images=[smooth(30, 20), smooth(10, 10)])


def cmyk() -> Image.Image:
    return smooth().convert("CMYK")


def ycck() -> bytes:
    data = bytearray(saved(cmyk(), "JPEG"))
    data[data.index(b"Adobe") + 11] = 2
    return bytes(data)


def clear_palette() -> bytes:
    return saved(smooth().quantize(16), transparency=bytes(range(0, 256, 16)))


def bmp_with_alpha() -> bytes:
    """V4 header with a mask for each of four channels."""
    header = struct.pack("<IiiHHIIiiII4I", 108, 8, 6, 1, 32, 3, 8 * 6 * 4, 2835, 2835, 0, 0, 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    body = header.ljust(108, b"\0") + noise(8, 6, 4).tobytes()
    return b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, 14 + 108) + body


def mpo() -> bytes:
    return saved(smooth(), "MPO", save_all=True, append_images=[smooth(30, 20)])


def animation(format: str) -> bytes:
    return saved(smooth(), format, save_all=True, append_images=[Image.fromarray(noise())], duration=80)


def long_row(width: int, height: int) -> bytes:
    return saved(Image.fromarray(noise(width, height)))


def lie(data: bytes, width: int, height: int) -> bytes:
    """A PNG whose header says another size."""
    header = struct.pack(">II", width, height) + data[24:29]
    return data[:8] + chunk(b"IHDR", header) + data[33:]


def gif_of_no_frame() -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", 20, 20, 0, 0, 0) + b";"


def jpeg_size(width: int, height: int) -> bytes:
    data = bytearray(saved(smooth(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def interlaced() -> bytes:
    """8 x 8 grey in seven passes (Adam7)."""
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]
    data = bytearray(raw_png(8, 8, 8, 0, b"".join((b"\0" + bytes(range(w))) * h for w, h in passes)))
    header = bytes(data[16:28]) + b"\1"
    return bytes(data[:8]) + chunk(b"IHDR", header) + bytes(data[33:])


def psd() -> bytes:
    return b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 6, 8, 8, 3) + bytes(12) + b"\0\0" + noise(8, 6).tobytes()


DEEP = noise(48, 40, 6).view(np.uint16)  # (40,48,3)
WORDS = "a text that somebody gave a picture's name"
PAINTED = {
    "palette.png": clear_palette,
    "palette.gif": lambda: saved(smooth().quantize(8), "GIF", transparency=3),
    "one-bit.png": lambda: saved(smooth().convert("1")),
    "one-bit.tif": lambda: saved(smooth().convert("1"), "TIFF", compression="group4"),
    "two-bit.png": lambda: raw_png(8, 2, 2, 0, b"\0\x1b\x1b" * 2),
    "grey-alpha.png": lambda: saved(Image.merge("LA", [smooth().convert("L")] * 2)),
    "premultiplied.tif": lambda: tiff(noise(20, 20, 4), photometric="rgb", extrasamples=["assocalpha"]),
    "cmyk.jpg": lambda: saved(cmyk(), "JPEG"),
    "cmyk.tif": lambda: saved(cmyk(), "TIFF"),
    "cmyk-16.tif": lambda: tiff(noise(48, 40, 8).view(np.uint16), photometric="separated"),
    "ycck.jpg": ycck,
    "progressive.jpg": lambda: saved(smooth(), "JPEG", progressive=True),
    "grey.jpg": lambda: saved(smooth().convert("L"), "JPEG"),
    "broken-exif.jpg": lambda: saved(smooth(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(30)),
    "endless-exif.jpg": lambda: saved(smooth(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(90)),
    "interlaced.png": interlaced,
    "grey-16.png": lambda: saved(Image.fromarray(DEEP[..., 0])),
    "grey-16.tif": lambda: saved(Image.fromarray(DEEP[..., 0]), "TIFF"),
    "grey-16-big-endian.tif": lambda: tiff(DEEP[..., 0], byteorder=">", photometric="minisblack"),
    "grey-16-white-is-0.tif": lambda: raw_tiff(8, 8, 8, 0, noise(8, 8, 1).tobytes()),
    "float.tif": lambda: saved(Image.fromarray(noise(channels=1).astype(np.float32) / 255), "TIFF"),
    "float-colour.tif": lambda: tiff(noise().astype(np.float32) / 255, photometric="rgb"),
    "integers.tif": lambda: saved(Image.fromarray(noise(channels=1).astype(np.int32) * 9999), "TIFF"),
    "colour-16.tif": lambda: tiff(DEEP, photometric="rgb"),
    "planes-16.tif": lambda: tiff(np.ascontiguousarray(DEEP.transpose(2, 0, 1)), photometric="rgb", planarconfig="separate"),
    "planes-8.tif": lambda: tiff(np.ascontiguousarray(noise().transpose(2, 0, 1)), photometric="rgb", planarconfig="separate"),
    "tiles.tif": lambda: tiff(noise(100, 90), photometric="rgb", tile=(32, 32), compression="zlib"),
    "lzw.tif": lambda: saved(smooth(), "TIFF", compression="tiff_lzw"),
    "packbits.tif": lambda: saved(smooth(), "TIFF", compression="packbits"),
    "jpeg-inside.tif": lambda: saved(smooth(), "TIFF", compression="jpeg"),
    "lab.tif": lambda: saved(smooth().convert("LAB"), "TIFF"),
    "ycbcr.tif": lambda: saved(smooth().convert("YCbCr"), "TIFF", compression="tiff_lzw"),
    "big.tif": lambda: tiff(noise(), photometric="rgb", bigtiff=True),
    "pages.tif": pages,
    "alpha.bmp": bmp_with_alpha,
    "palette.bmp": lambda: saved(smooth().quantize(16), "BMP"),
    "dib.bmp": lambda: saved(smooth(), "BMP"),
    "plain.ppm": lambda: saved(smooth(), "PPM"),
    "grey.pgm": lambda: saved(smooth().convert("L"), "PPM"),
    "bits.pbm": lambda: saved(smooth().convert("1"), "PPM"),
    "grey-16.pgm": lambda: b"P5 2 1 65535\n" + bytes([128, 128, 255, 255]),
    "colour-16.ppm": lambda: b"P6 2 1 65535\n" + bytes(range(12)),
    "in-words.ppm": lambda: b"P3 # a comment\n2 1 255\n1 2 3 250 251 252\n",
    "moving.gif": lambda: animation("GIF"),
    "moving.webp": lambda: animation("WEBP"),
    "moving.png": lambda: animation("PNG"),
    "two-eyes.mpo": mpo,
    "a.jp2": lambda: saved(smooth(), "JPEG2000"),
    "grey-16.jp2": lambda: saved(Image.fromarray(DEEP[..., 0]), "JPEG2000"),
    "a.avif": lambda: saved(smooth(), "AVIF"),
    "a.qoi": lambda: saved(smooth(), "QOI"),
    "a.pcx": lambda: saved(smooth(), "PCX"),
    "a.sgi": lambda: saved(smooth(), "SGI"),
    "a.dds": lambda: saved(smooth(), "DDS"),
    "a.ico": lambda: saved(smooth(48, 48).convert("RGBA"), "ICO", sizes=[(16, 16), (32, 32)]),
    "a.psd": psd,
    "one-pixel.png": lambda: long_row(1, 1),
    "one-wide.png": lambda: long_row(1, 700),
    "one-high.png": lambda: long_row(700, 1),
    "a-jpeg-called.png": lambda: saved(smooth(), "JPEG"),
    "no-suffix": lambda: saved(smooth()),
    "lossless.webp": lambda: saved(Image.fromarray(noise(20, 20, 4)), "WEBP", lossless=True),
}
REFUSED = {
    "empty.jpg": lambda: b"",
    "words.jpg": lambda: WORDS.encode(),
    "cut.jpg": lambda: saved(Image.fromarray(noise()), "JPEG")[:1500],
    "cut.png": lambda: saved(Image.fromarray(noise()))[:1500],
    "cut.webp": lambda: saved(Image.fromarray(noise()), "WEBP")[:900],
    "cut.avif": lambda: saved(Image.fromarray(noise()), "AVIF")[:900],
    "cut.heic": lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "cut.gif": lambda: saved(smooth(), "GIF")[:60],
    "cut.tif": lambda: saved(Image.fromarray(noise()), "TIFF")[:3000],
    "cut-floats.tif": lambda: tiff(noise().astype(np.float32) / 255, photometric="rgb")[:3000],
    "head-only.jpg": lambda: b"\xff\xd8\xff\xe0",
    "head-only.tif": lambda: b"II*\0\x08\0\0\0",
    "no-frame.gif": gif_of_no_frame,
    "zero-size.png": lambda: lie(long_row(4, 4), 0, 4),
    "zero-size.jpg": lambda: jpeg_size(0, 0),
    "bomb.png": lambda: lie(long_row(4, 4), 65_000, 65_000),
    "bomb.jpg": lambda: jpeg_size(65_500, 65_500),
    "bomb.tif": lambda: raw_tiff(500_000, 500_000, 8, 1, b"x"),
    "bomb-of-floats.tif": lambda: raw_tiff(30_000, 30_000, 64, 1, b"x", sample_format=3),
    "bomb.gif": lambda: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",",
    "bomb.bmp": lambda: b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "circle.tif": lambda: b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
    "a.tga": lambda: saved(smooth(), "TGA"),
    "a.eps": lambda: saved(smooth(), "EPS"),
    "a.pdf": lambda: saved(smooth(), "PDF"),
    "a.svg": lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a.mp4": lambda: b"\0\0\0\x18ftypmp42" + bytes(200),
}


@pytest.mark.parametrize("name", [*PAINTED, *REFUSED])
def test_an_odd_file_is_painted_or_told_of_in_one_sentence(weights, tmp_path, capsys, name):
    photo, result = tmp_path / name, tmp_path / "painted.png"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow grumbles at some
        photo.write_bytes((PAINTED | REFUSED)[name]())
        code = paint(weights, photo, result)
    out, err = capsys.readouterr()
    assert out == ""
    if name in PAINTED:
        assert (code, err) == (0, "")
        assert opened(result).size == read_picture(photo).size
    else:
        assert code == 1 and err.startswith(f"stylenorm: {photo}") and err.count("\n") == 1, err
        assert not result.exists() and os.listdir(tmp_path) == [name]


def test_nothing_but_sentences_is_printed_of_odd_files(weights, tmp_path):
    """In an interpreter of its own, where nobody catches what libraries warn of and log."""
    names = ["broken-exif.jpg", "cut-floats.tif", "endless-exif.jpg", "circle.tif", "palette.gif", "cut.heic"]
    for name in names:
        (tmp_path / name).write_bytes((PAINTED | REFUSED)[name]())
    words = ["--style", "red-hill", "--weights", weights, "--backend", "torch", "--device", "cpu", "-o", tmp_path / "out"]
    command = [sys.executable, "-m", "stylenorm", "stylize", *(tmp_path / n for n in names), *words]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run([str(w) for w in command], capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert result.returncode == 1 and result.stdout.count("->") == 3
    assert result.stderr.count("\n") == 3 and all(t.startswith("stylenorm: ") for t in result.stderr.splitlines()), result.stderr


def test_odd_files_hold_the_pictures_that_they_should(tmp_path):
    """The colours, and not only a size: each against what was put in."""
    rgb = {"lzw.tif": smooth(), "big.tif": noise(), "planes-8.tif": noise(), "tiles.tif": noise(100, 90), "pages.tif": smooth()}
    rgb |= {"planes-16.tif": np.rint(DEEP / 257), "float-colour.tif": noise(), "colour-16.tif": np.rint(DEEP / 257)}
    rgb |= {"a.qoi": smooth(), "a.sgi": smooth(), "a.pcx": smooth(), "two-eyes.mpo": smooth(), "a.psd": None}
    for name, wanted in rgb.items():
        found = np.asarray(read_picture(PAINTED[name]()).rgb).astype(int)
        if name == "a.psd":
            wanted = noise(8, 6).reshape(3, 6, 8).transpose(1, 2, 0)
        assert np.abs(found - np.asarray(wanted)).max() <= (9 if name.endswith("mpo") else 0), name


def test_pages_are_counted_in_damaged_files_too(tmp_path):
    for name, make in {**PAINTED, **REFUSED}.items():
        (tmp_path / name).write_bytes(make())
        assert page_count(tmp_path / name) == (3 if name == "pages.tif" else 1), name
    for big in (False, True):
        first = tiff(noise(), photometric="rgb", bigtiff=big)
        with tifffile.TiffWriter(tmp_path / "more.tif", bigtiff=big, byteorder=">") as file:
            for kind in (0, 1, 4, 0):
                file.write(noise(channels=1) > 9, photometric=4 if kind == 4 else 1, subfiletype=kind, metadata=None)
        assert page_count(tmp_path / "more.tif") == 2
        at = (struct.unpack_from("<Q", first, 8) if big else struct.unpack_from("<I", first, 4))[0]
        tags = struct.unpack_from("<Q" if big else "<H", first, at)[0]
        circle = bytearray(first)
        struct.pack_into("<Q" if big else "<I", circle, at + (8 + 20 * tags if big else 2 + 12 * tags), at)
        (tmp_path / "circle.tif").write_bytes(circle)
        assert page_count(tmp_path / "circle.tif") == 1
