"""Writing: what a `Picture` has kept around a stylized image, and that into a file."""

from __future__ import annotations

import math
import os
from bisect import bisect
from contextlib import suppress
from importlib import import_module
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stylenorm import depth, tiffs
from stylenorm.bands import painted_inside
from stylenorm.colour import deep_from_srgb, from_srgb
from stylenorm.decode import Picture, brief, name_of, printable, read_picture
from stylenorm.drafts import replace, spare_read_only
from stylenorm.errors import ImageError, how_to_install, in_short
from stylenorm.formats import LONGEST_SIDE
from stylenorm.exif import clean_exif, exif_with_dpi, hang_on, parse_exif, read_dpi, without_makers_note, without_orientation
from stylenorm.tensors import fitted, need_rgb
from stylenorm.xmp import clean_iptc, clean_xmp, iptc_segment, tiff_tags

# suffix -> name of the format to write
FORMATS = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".avif": "avif",
    ".heic": "heic",
    ".heif": "heic",
    ".jfif": "jpeg",
    ".jpe": "jpeg",
}
LOSSY = ("jpeg", "webp", "avif", "heic")


def rewrap(picture: Picture, rgb: Image.Image | np.ndarray, *, strip: bool = False, inside: Image.Image | None = None) -> Image.Image:
    """Put the picture's alpha, profile, EXIF, XMP, IPTC and dpi around a stylized image.

    rgb: "RGB", or an array uint16 (H,W,3); sRGB, of any size; the alpha and the sizes in EXIF follow it.
    strip: leave EXIF, XMP and IPTC out, and with them by whom, when and where the photograph was taken.
    inside: mode "L", of the size of rgb: where it is 0 the picture itself stays, in colours outside sRGB as well.
    Returns "RGB", or "RGBA" if the picture has alpha, in the colours of the picture's own RGB
    profile if it has one, else sRGB. Its `.info` holds icc_profile, exif, xmp, iptc and dpi as `write_picture`
    takes them; of an array also `deep`, the 16 bits that the image shows 8 of; and nothing else.
    """
    if isinstance(rgb, np.ndarray):
        result, deep = _deep_result(picture, rgb, inside)
    else:
        result, deep = _result(picture, rgb, inside), None
    same = result.size == picture.size
    exif = picture.exif if same else clean_exif(picture.exif, result.size, same_place=False)
    xmp = picture.xmp if same else clean_xmp(picture.xmp, scale=(result.width / picture.size[0], result.height / picture.size[1]))
    info = {"icc_profile": picture.icc, "exif": exif, "dpi": picture.dpi} | ({} if strip else {"xmp": xmp, "iptc": picture.iptc})
    result.info = {key: value for key, value in info.items() if value}
    if strip:
        result.info["exif"] = b""  # not even one made for the dpi, see _options
    if deep is not None:
        result.info["deep"] = deep
    return result


def _result(picture: Picture, rgb: Image.Image, inside: Image.Image | None = None) -> Image.Image:
    need_rgb(rgb)
    own = picture.own if picture.icc else None
    if inside is not None and own is None:
        rgb = painted_inside(rgb, depth.at_size(picture.rgb, rgb.size), inside)
    result = from_srgb(rgb, picture.icc).copy() if picture.icc else rgb.copy()
    if inside is not None and own is not None:
        result = painted_inside(result, depth.at_size(own if isinstance(own, Image.Image) else depth.rounded(own), rgb.size), inside)
    if picture.alpha is not None:
        # bilinear, because a sharper filter overshoots into faint ghosts where nothing was
        result.putalpha(picture.alpha.resize(rgb.size, Image.Resampling.BILINEAR))
    return result


def _deep_result(picture: Picture, rgb: np.ndarray, inside: Image.Image | None = None) -> tuple[Image.Image, np.ndarray | None]:
    own = picture.own if picture.icc and isinstance(picture.own, np.ndarray) else None
    deep = rgb.copy()
    if inside is not None and own is None and picture.deep is not None:
        deep = painted_inside(deep, depth.at_size(picture.deep[..., :3], inside.size), inside)
    if picture.icc and deep_from_srgb(deep, picture.icc) is None:
        return _result(picture, depth.rounded(rgb), inside), None
    if inside is not None and own is not None:
        deep = painted_inside(deep, depth.at_size(own, inside.size), inside)
    if picture.alpha is not None:
        alpha = np.asarray(picture.alpha)[..., None] * np.uint16(257) if picture.deep is None else picture.deep[..., 3:]
        deep = np.dstack([deep, depth.resized(alpha, rgb.shape[1::-1], Image.Resampling.BILINEAR)])
    return depth.rounded(deep), deep


def write_picture(image: Image.Image, target: str | os.PathLike[str] | BinaryIO, *, format: str | None = None, quality: int = 95) -> None:
    """Write an image with its profile, EXIF, XMP, IPTC and dpi (from `.info`) to a path or a binary file.

    target: a path, whose suffix tells the format (see FORMATS), or a file object.
    format: "jpeg", "png", "webp", "tiff", "avif" or "heic", over the suffix.
    quality: 1..100, for JPEG and AVIF (always 4:4:4, for brush strokes are colour), WebP and HEIC
        (4:2:0, all that the one has and that every reader of the other knows); PNG and TIFF lose nothing.

    PNG and TIFF get the 16 bits in `.info["deep"]`, as long as the pixels are theirs; all else gets
    the image's 8. JPEG has no transparency: the image is laid on white. EXIF, XMP or IPTC too long for a JPEG is left out,
    of EXIF the maker's note first, and IPTC where there is no place for it, in all but JPEG and TIFF. A path is never half-written: the file appears
    whole, under the mode a new file gets, or not at all. Raises ImageError, and leaves nothing behind.
    """
    name = printable(name_of(target))
    if not isinstance(image, Image.Image):
        raise ImageError(f"{name}: a picture of type {type(image).__name__} cannot be written; give a PIL image, as Image.fromarray makes of an array")
    format = _format_of(target, format, name)
    if quality not in range(1, 101):
        raise ImageError(f"{name} cannot be written with quality {quality}; use 1 to 100")
    data = _encode(image, format, int(quality), name)
    if not hasattr(target, "write"):
        return _store(data, os.fspath(target), name)
    try:
        target.write(data)
    except (OSError, TypeError, ValueError) as error:
        raise _unwritable(error, name) from error


def _format_of(target, format: str | None, name: str) -> str:
    is_path = isinstance(target, (str, os.PathLike))
    if not is_path and not hasattr(target, "write"):
        raise ImageError(f"a picture cannot be written to a {type(target).__name__}; give a path")
    if format is None and not is_path:
        raise ImageError(f"{name} has no suffix to tell the format by; name the format")
    if not isinstance(format, (str, type(None))):
        raise ImageError(f"a format is a text, such as png, which {in_short(format)} is not")
    if is_path and "\0" in os.fsdecode(target):
        raise ImageError(f"{name} cannot be written: no path has a null byte in it; give another")
    suffix = os.path.splitext(os.fsdecode(target))[1] if format is None else "." + format.lstrip(".")
    if suffix.lower() not in FORMATS:
        ending = f"ending in {suffix}" if len(suffix) > 1 else "without a suffix"
        raise ImageError(f"{name}: no format {ending} can be written; use {', '.join(FORMATS)}")
    return FORMATS[suffix.lower()]


MOST_IN_HEIC = 142_606_336  # px, of sides filled up to multiples of 8: HEVC's level 7, and all that x265 takes
STRIP, LONGEST_STRIP = 32, 4216  # px: what is less high or less wide it takes only up to HEVC's level 4.1
LONGEST_EXIF_IN_JPEG, LONGEST_XMP_IN_JPEG = 65533, 65504


def check_sides(size: tuple[int, int], format: str, name: str, advice: str = "use PNG") -> None:
    """Refuse a picture of that width and height, in px, that the format cannot hold, with `ImageError`: best before it is painted.

    name: of the file. advice: what to do about it; {longest} in it becomes the most px a side.
    """
    longest = longest_side(size, format)
    if max(size) > longest:
        alike = " in these proportions" if format == "heic" else ""
        raise ImageError(
            f"{name}: {format} holds at most {longest} pixels a side{alike}, and the picture would have {size[0]} x {size[1]}; "
            + advice.format(longest=longest)
        )


def longest_side(size: tuple[int, int], format: str) -> float:
    """The most px that the longer side of a picture of these proportions may have in the format; of HEIC, no more than it has if it fits."""
    if format != "heic":
        return LONGEST_SIDE.get(format, math.inf)
    if min(size) < STRIP:
        return min(max(size), LONGEST_STRIP)

    def pixels(longer: int) -> int:
        width, height = (-(-side // 8) * 8 for side in fitted(size, longer))
        return width * height

    return bisect(range(1, max(size) + 1), MOST_IN_HEIC, key=pixels)


def _encode(image: Image.Image, format: str, quality: int, name: str) -> bytes:
    """The file's bytes, whole, so that the encoder's troubles and the disk's do not mix."""
    check_sides(image.size, format, name)
    try:
        if image.mode not in ("L", "LA", "RGB", "RGBA"):
            picture = read_picture(image, name=name, max_pixels=math.inf)
            image = rewrap(picture, picture.rgb)
        if format == "jpeg":
            image = _on_white(image)
        options = save_options(image.info, format, quality)
        if format != "tiff":
            return _saved(image, format, options)
        exif, more = options.pop("exif", None), tiff_tags(options.pop("xmp", None), options.pop("iptc", None))
        data = _saved(image, format, options)
        return hang_on(exif, data, more) if exif or more else data
    except ImageError:
        raise
    except Exception as error:  # as with decoders
        raise ImageError(f"{name} cannot be encoded as {format} ({brief(error)})") from error


def _saved(image: Image.Image, format: str, options: dict) -> bytes:
    deep = depth.samples_of(image) if format in depth.WRITTEN else None
    if deep is not None and format == "tiff":
        return tiffs.deep_tiff(deep, options.get("icc_profile"), options.get("dpi"))
    if deep is not None:
        return depth.deep_png(deep, _saved(Image.new("RGB", (1, 1)), format, options))
    buffer = BytesIO()
    if format == "heic":
        plain = image.copy()  # the plugin would take EXIF from its info, and takes the profile from nowhere else
        plain.info = {"icc_profile": options["icc_profile"]} if "icc_profile" in options else {}
        _heif_plugin().from_pillow(plain).save(
            buffer, quality=options["quality"], exif=options.get("exif"), xmp=options.get("xmp")
        )
    else:
        image.save(buffer, format, **options)
    return buffer.getvalue()


def _heif_plugin():
    try:
        return import_module("pillow_heif")
    except ImportError:
        raise ImageError(f"writing HEIC takes another library: {how_to_install('heic')}; or use JPEG or PNG") from None


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        return image
    flat = Image.new(image.mode[:-1], image.size, "white")
    flat.paste(image.convert(flat.mode), mask=image.getchannel("A"))
    flat.info = image.info
    return flat


def save_options(info: dict, format: str, quality: int) -> dict:
    """Arguments for Image.save that hold what `.info` holds; of TIFF, XMP and IPTC are "xmp" and "iptc"."""
    return _options(info, format, quality) | _told(info, format)


def _options(info: dict, format: str, quality: int) -> dict:
    """Those for all but XMP and IPTC; each format wants them differently."""
    options = {"icc_profile": info.get("icc_profile"), "dpi": read_dpi(info.get("dpi"), Image.Exif())}
    exif = info.get("exif")
    if format in ("webp", "avif", "heic") and options["dpi"] and exif != b"":  # no field for dpi but that in EXIF
        exif = exif_with_dpi(exif, options["dpi"])
    tree, _ = parse_exif(exif)
    if tree and format == "jpeg" and len(exif) > LONGEST_EXIF_IN_JPEG:
        exif = without_makers_note(exif)
    if tree and format == "avif":
        exif = without_orientation(exif)
    if tree and not (format == "jpeg" and len(exif) > LONGEST_EXIF_IN_JPEG):
        options["exif"] = exif
    if format in LOSSY:
        options["quality"] = quality
    if format in ("jpeg", "avif"):
        options["subsampling"] = "4:4:4"
    if format == "tiff":
        options["compression"] = "tiff_deflate"
    return {key: value for key, value in options.items() if value is not None}


def _told(info: dict, format: str) -> dict:
    """Those for XMP and IPTC."""
    xmp, iptc = info.get("xmp"), clean_iptc(info.get("iptc"))
    if not isinstance(xmp, bytes) or format == "jpeg" and len(xmp) > LONGEST_XMP_IN_JPEG:
        xmp = None
    told = {"xmp": xmp, "iptc": iptc if format == "tiff" else None}
    if format == "png" and told.pop("xmp"):
        told["pnginfo"] = PngInfo()
        told["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode(errors="replace"))
    if format == "jpeg" and iptc:
        told["extra"] = iptc_segment(iptc)
    return {key: value for key, value in told.items() if value}


def _store(data: bytes, path: str, name: str) -> None:
    """Write the file under another name in its folder, then rename it: whole or not at all."""
    through = os.path.exists(path) and not os.path.isfile(path)  # a device or a pipe: no renaming, and no real path either
    path = os.path.abspath(path) if through else os.path.realpath(path)  # a link stays a link
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise ImageError(f"{name} is a folder; name a file in it")
    if not os.path.isdir(folder):
        raise ImageError(f"{name} cannot be written: there is no folder {printable(folder)}")
    draft = os.path.join(folder, f".stylenorm-{os.urandom(6).hex()}.tmp")
    try:
        if through:
            return _write_through(data, path)
        spare_read_only(path)
        _write_new(data, draft)
        replace(draft, path)
    except OSError as error:
        raise _unwritable(error, name) from error
    finally:
        with suppress(OSError):
            os.unlink(draft)  # there only if something, an interrupt included, has gone wrong


def _write_new(data: bytes, path: str) -> None:
    with open(path, "xb") as file:  # "x" and not tempfile, whose files have mode 0600
        file.write(data)


def _write_through(data: bytes, path: str) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _unwritable(error: Exception, name: str) -> ImageError:
    if isinstance(error, PermissionError):
        held = "close the program that has it open, if one has, or " if hasattr(error, "winerror") else ""  # as on Windows
        return ImageError(f"{name} may not be written; {held}change the permissions or the place")
    return ImageError(f"{name} cannot be written ({brief(error)}); try another place")
