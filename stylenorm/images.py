"""Pictures in and out: file <-> `Picture` <-> tensor.

    picture = read_picture("photo.jpg")                   # upright, sRGB, 8 bit
    result = to_image(network(to_tensor(picture.rgb)))    # the network sees nothing else
    write_picture(rewrap(picture, result), "result.jpg")  # alpha, profile, EXIF, dpi put back

The network only ever sees upright 8-bit sRGB. What else a file holds waits in the `Picture` and
is put back by `rewrap`. Everything that goes wrong is an `ImageError`: one sentence with the
picture's name in it.
"""

from __future__ import annotations

import math
import os
import secrets
import struct
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, ImageCms

from stylenorm.errors import ImageError

MAX_PIXELS = 200_000_000

# suffix -> name of the format to write
FORMATS = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".png": "png",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}

# Pillow's names. A list of our own, because some of its other readers start programs (EPS) or
# take any bytes at all for a picture (TGA). HEIF is there for a host that registers a plugin.
READABLE = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "HEIF", "JPEG2000", "PPM")


@dataclass(frozen=True)
class Picture:
    """A decoded picture: what the network sees, and what `rewrap` puts back afterwards.

    rgb: "RGB", upright, sRGB. Under transparent pixels it holds the colours around them, never
        the file's hidden ones (see `_fill_hidden`).
    alpha: "L", upright, or None.
    exif: bytes with orientation 1 and no thumbnail, or None.
    icc: the file's RGB profile, or None if there is none, or one of another colour space.
    dpi: (x, y), or None.
    format: "jpeg", "png", "gif"..., or None.
    name: what messages call it.
    """

    rgb: Image.Image
    alpha: Image.Image | None = None
    exif: bytes | None = field(default=None, repr=False)
    icc: bytes | None = field(default=None, repr=False)
    dpi: tuple[float, float] | None = None
    format: str | None = None
    name: str = "the picture"

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, upright."""
        return self.rgb.size


# ---- reading -----------------------------------------------------------------------------------


def read_picture(source, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Picture:
    """Decode a picture to upright 8-bit sRGB, and keep what `rewrap` puts back.

    source: a path, bytes, a binary file object (read from where it stands), a PIL image (its
        current frame), or an array (H,W), (H,W,2|3|4) of bool, uint8, uint16 or floats in [0,1].
    name: what messages call it; by default the path.
    max_pixels: checked before any pixel is decoded.

    The format is told by content, not by name. Of an animation the first frame is read. Colours
    outside sRGB are clipped; more than 8 bits are rounded; integers or floats without a known
    range are scaled as `_white` says. Raises ImageError, and nothing else, for whatever is wrong.
    """
    if isinstance(source, Picture):
        return source
    name = _printable(name or _name_of(source))
    with _blaming(name):
        if isinstance(source, np.ndarray):
            source = _from_array(source, name)
        if isinstance(source, Image.Image):
            _check_pixels(source.size, name, max_pixels)
            source.load()
            return _picture(source, name, _stored_exif(source))
        with _open_stream(source, name) as stream:
            image = _decode(stream, name, max_pixels)
            return _picture(image, name, _stored_exif(image, stream))


@contextmanager
def opened(source, name: str | None = None, max_pixels: int = MAX_PIXELS):
    """The Pillow image of a picture file, with nothing decoded yet, for its frames. Raises ImageError like `read_picture`."""
    name = _printable(name or _name_of(source))
    with _blaming(name), _open_stream(source, name) as stream:
        image = _identify(stream, name)
        _check_pixels(image.size, name, max_pixels)
        yield image


def _name_of(source) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source) or "the empty file name"
    if isinstance(source, np.ndarray):
        return "the array"
    named = getattr(source, "filename", None) or getattr(source, "name", None)
    return os.fsdecode(named) if named and isinstance(named, (str, bytes)) else "the picture"


def _printable(name: str) -> str:
    """A file name may hold line ends and half characters; a message of one line may not."""
    return "".join(c if c.isprintable() else "?" for c in name)


@contextmanager
def _blaming(name: str):
    """Whatever a decoder raises becomes an ImageError about the picture `name`.

    Exception, and not a list: Pillow's readers raise OSError, SyntaxError, ValueError,
    struct.error, zlib.error, KeyError, EOFError, OverflowError and more on damaged files.
    """
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name} is too large for this machine's memory; resize it") from error
    except Image.DecompressionBombError as error:
        limit = "PIL.Image.MAX_IMAGE_PIXELS"  # a few of its readers check that by themselves
        raise ImageError(f"{name} is over Pillow's own {limit}; resize it or raise that") from error
    except Exception as error:
        raise ImageError(
            f"{name} is damaged, cut short or of an unsupported kind ({_brief(error)}); "
            "get a whole copy of it, or save it again as PNG or JPEG"
        ) from error


def _brief(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _printable(text.splitlines()[0][:100])


def _open_stream(source, name: str):
    """A seekable binary file, to be closed by the caller. Raises ImageError."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return BytesIO(source)
    if hasattr(source, "read"):
        content = source.read()
        if not isinstance(content, bytes):
            raise ImageError(f"{name} is open as text; open it in binary mode")
        return BytesIO(content)
    if not isinstance(source, (str, os.PathLike)):
        kind = type(source).__name__
        raise ImageError(f"a picture cannot be read from a {kind}; give a path, bytes or an array")
    return _open_path(source, name)


def _open_path(path, name: str):
    if os.path.isdir(path):
        raise ImageError(f"{name} is a folder, not a picture; name a file in it")
    try:
        stream = open(path, "rb")
    except FileNotFoundError as error:
        raise ImageError(f"{name} does not exist; check the path") from error
    except PermissionError as error:
        raise ImageError(f"{name} may not be read; change its permissions") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"{name} cannot be opened ({_brief(error)}); check the path") from error
    if stream.seekable():
        return stream
    with stream:  # a pipe
        return BytesIO(stream.read())


def _decode(stream, name: str, max_pixels: int) -> Image.Image:
    """The stream's first picture, decoded, in whatever mode it has."""
    image = _identify(stream, name)
    _check_pixels(image.size, name, max_pixels)
    _correct_key(image)
    image.load()
    _check_pixels(image.size, name, max_pixels)  # some headers promise another size
    return image


def _identify(stream, name: str) -> Image.Image:
    """The opened, undecoded image.

    Instead of Image.open, which warns or fails at a limit of pixels that is one global variable
    for the whole process: changing it, or the warning filters, would change them for the host
    application and its other threads too. This is the same loop without that check.
    """
    Image.init()
    head = stream.read(16)
    if not head:
        raise ImageError(f"{name} is empty; get a whole copy of it")
    trouble = None
    for kind in READABLE:
        factory, accepts = Image.OPEN.get(kind, (None, None))
        try:
            verdict = accepts(head) if factory else False  # a string says why a reader is missing
            if verdict and not isinstance(verdict, str):
                stream.seek(0)
                return factory(stream, "")
        except Exception as error:  # see _blaming; another reader may still know it
            trouble = error
    if trouble:
        raise trouble
    if head[4:10] == b"ftyphe":
        raise ImageError(f"{name} is a HEIC picture; save it as JPEG or PNG first")
    raise ImageError(f"{name} is not a picture; use JPEG, PNG, WebP, TIFF, GIF or BMP")


def _check_pixels(size: tuple[int, int], name: str, max_pixels: int) -> None:
    pixels = size[0] * size[1]
    if not pixels:
        raise ImageError(f"{name} has no pixels; use a picture of at least 1 x 1")
    if pixels > max_pixels:
        raise ImageError(
            f"{name} has {pixels / 1e6:.6g} megapixels, more than the limit of "
            f"{max_pixels / 1e6:.6g}; resize it or raise the limit"
        )


def _correct_key(image: Image.Image) -> None:
    """Put a PNG's transparent colour into the units that the decoded pixels will have.

    The file gives it in its own bit depth and Pillow leaves it so, while it stretches 1, 2 and
    4 bits to 8 and cuts 16-bit RGB down to 8.
    """
    key = image.info.get("transparency")
    if image.format != "PNG" or key is None or not image.tile:
        return
    depth = image.tile[0][3]
    if depth in ("1", "L;2", "L;4"):
        white = {"1": 1, "L;2": 3, "L;4": 15}[depth]
        image.info["transparency"] = min(key, white) * 255 // white
    elif depth == "RGB;16B":
        image.info["transparency"] = tuple(v >> 8 for v in key)


def _picture(image: Image.Image, name: str, exif_bytes: bytes | None) -> Picture:
    """Take a decoded image of any mode apart."""
    exif = _read_exif(image)
    turn = TURNS.get(exif.get(ExifTags.Base.Orientation))
    base, alpha = _split(image)
    rgb, icc = _to_srgb(base, image.info.get("icc_profile"))
    rgb.info = {}  # what is kept is in the Picture; a second, stale copy would be written out too
    if turn is not None:
        rgb = rgb.transpose(turn)
        alpha = None if alpha is None else alpha.transpose(turn)
    if alpha is not None:
        rgb = _fill_hidden(rgb, alpha)
    return Picture(
        rgb=rgb,
        alpha=alpha,
        exif=_clean_exif(exif_bytes, rgb.size),
        icc=icc,
        dpi=_dpi(image.info.get("dpi"), exif),
        format={"MPO": "jpeg"}.get(image.format, (image.format or "").lower() or None),
        name=name,
    )


# ---- modes and bit depth -----------------------------------------------------------------------


def _split(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """(base, alpha or None) of an image of any mode: base is "L", "RGB", "CMYK" or "LAB"."""
    if image.mode.startswith(("I", "F")):
        return _split_deep(image)
    if image.mode in ("LAB", "CMYK"):
        return image, None
    grey = image.mode in ("1", "L", "LA", "La")
    if not image.has_transparency_data:
        return image.convert("L" if grey else "RGB"), None
    image = image.convert("LA" if grey else "RGBA")
    return image.convert("L" if grey else "RGB"), image.getchannel("A")


def _split_deep(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The same for one channel of 16 or 32 bits."""
    values = np.asarray(image)
    base = Image.fromarray(_eight_bit(values, *_white(values, image.mode)))
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return base, None
    return base, Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8))


def _white(values: np.ndarray, mode: str) -> tuple[float, float]:
    """(black, white): the values that become 0 and 255.

    "I;16" has a range, 0..65535. The 32-bit modes have none, so it is told by the values: floats
    around [0, 1] have white at 1; else it is 255 or 65535, if that holds all of them; else they
    are stretched between their own extremes.
    """
    if mode.startswith("I;16"):
        return 0, 65535
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if mode == "F" and -0.1 <= low and high <= 2:  # sharpening overshoots a little
        return 0, 1
    return next(((0, top) for top in (255, 65535) if 0 <= low and high <= top), (low, high))


def _eight_bit(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Any numbers -> uint8, rounded to nearest; NaN becomes black."""
    if values.dtype.itemsize == 2 and values.dtype.kind == "u":
        return _eight_bit(np.arange(65536), black, white)[values]  # an eighth of the memory
    unit = (values.astype(np.float64) - black) / max(white - black, 1e-12)
    return np.rint(np.nan_to_num(unit, posinf=1).clip(0, 1) * 255).astype(np.uint8)


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    """(H,W) or (H,W,1|2|3|4) -> an "L", "LA", "RGB" or "RGBA" image."""
    shape = array.shape[:2] if array.ndim == 3 and array.shape[2] == 1 else array.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (2, 3, 4)):
        raise ImageError(f"{name} has shape {array.shape}; give (H,W), (H,W,3) or (H,W,4)")
    if 0 in shape:
        raise ImageError(f"{name} has shape {array.shape} and no pixels; give at least 1 x 1")
    if array.dtype != np.uint8:
        array = _eight_bit(array, 0, _array_white(array, name))
    return Image.fromarray(np.ascontiguousarray(array.reshape(shape)))


def _array_white(array: np.ndarray, name: str) -> int:
    if array.dtype == np.uint16:
        return 65535
    if array.dtype != bool and array.dtype.kind != "f":
        raise ImageError(f"{name} is of type {array.dtype}; use uint8, uint16 or floats in [0, 1]")
    if not (array.min() >= 0 and array.max() <= 1):  # written so that NaN is caught as well
        raise ImageError(f"{name} has values outside [0, 1]; scale them, or use uint8")
    return 1


# ---- transparency ------------------------------------------------------------------------------

# Below this alpha a stored colour counts for less: at alpha 1 of 255 it is mostly rounding.
TRUSTED_ALPHA = 16


def _fill_hidden(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    """Replace colours that nobody can see by those of the visible pixels around them.

    A file may hold anything under its transparent pixels, and the network would take it into its
    statistics and smear it over the edge. One flat colour would be safe but has an outline of
    its own, to be painted as a halo. So the visible colours are spread outward: averaged down to
    1 x 1, weighted by alpha, then back up, each level showing where the finer one has nothing.
    Pixels of alpha >= TRUSTED_ALPHA keep their colour. A wholly transparent picture becomes grey.
    """
    alpha = alpha.point(lambda a: min(255, a * 255 // TRUSTED_ALPHA))
    if alpha.getextrema()[0] == 255:
        return rgb
    level = rgb.copy()
    level.putalpha(alpha)
    levels = [level]
    while max(levels[-1].size) > 1:
        levels.append(_halve(levels[-1]))
    filled = Image.new("RGB", (1, 1), (128, 128, 128))
    for level in reversed(levels):
        filled = filled.resize(level.size, Image.Resampling.BILINEAR)
        filled.paste(level.convert("RGB"), mask=level.getchannel("A"))
    return filled


def _halve(rgba: Image.Image) -> Image.Image:
    """Half the size, colours weighted by alpha (Pillow does). Alpha is raised, not to fade out."""
    width, height = rgba.size
    rgba = rgba.resize(((width + 1) // 2, (height + 1) // 2), Image.Resampling.BOX)
    rgba.putalpha(rgba.getchannel("A").point(lambda a: min(255, a * 8)))
    return rgba


# ---- colour ------------------------------------------------------------------------------------


def _to_srgb(base: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None]:
    """(rgb, kept): the base in sRGB, and the profile if it is one to convert back into.

    A profile that is broken, or of another colour space than the pixels, is ignored; one that
    leads only out of its space, as some scanners' do, is used and not kept. CMYK without a
    profile is converted by Pillow's formula, which is brighter than any press.
    """
    try:
        profile = _open_profile(icc)
        space = profile.profile.xcolor_space.strip()
        if space == "RGB" and base.mode in ("L", "RGB"):
            rgb = base.convert("RGB")
            rgb = rgb if _is_srgb(profile) else _transform(profile, _srgb()).apply(rgb)
            return rgb, icc if _can_return(profile) else None
        if (space, base.mode) in (("GRAY", "L"), ("CMYK", "CMYK"), ("Lab", "LAB")):
            return _transform(profile, _srgb(), base.mode).apply(base), None
    except Exception:  # no profile, or one that LittleCMS or Pillow's wrapper cannot use
        pass
    return base.convert("RGB"), None


def _can_return(profile: ImageCms.ImageCmsProfile) -> bool:
    with suppress(ImageCms.PyCMSError):
        return bool(_transform(_srgb(), profile))
    return False


def _from_srgb(rgb: Image.Image, icc: bytes) -> Image.Image:
    """sRGB -> the colours of an RGB profile that `_to_srgb` has kept."""
    profile = _open_profile(icc)
    return rgb if _is_srgb(profile) else _transform(_srgb(), profile).apply(rgb)


def _open_profile(icc: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(BytesIO(icc))


def _srgb():
    return ImageCms.createProfile("sRGB")


def _transform(source, target, mode: str = "RGB") -> ImageCms.ImageCmsTransform:
    """Relative colorimetric, with black point compensation.

    Colours that both spaces have come back unchanged, which perceptual tables do not promise,
    and the common matrix profiles have no perceptual table anyway. The compensation maps black
    to black, so that a press profile's ink does not become dark grey.
    """
    return ImageCms.buildTransform(
        source,
        target,
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """True if no colour moves by more than one level of 255: by what it does, not by its name."""
    steps = np.linspace(0, 255, 18).round().astype(np.uint8)
    cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(18, -1, 3)
    moved = np.asarray(_transform(profile, _srgb()).apply(Image.fromarray(cube)))
    return int(np.abs(moved.astype(int) - cube).max()) <= 1


# Weights of red, green and blue in luma (ITU-R BT.601).
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def keep_color(stylized: Image.Image, original: Image.Image) -> Image.Image:
    """Brightness of `stylized`, colour of `original` (resized to it if need be): "RGB".

    Each pixel is the stylized luma plus the original's offset from its own luma, BT.601, in
    floats: YCbCr without its rounding. An offset that would leave [0, 1] is shortened, all three
    channels alike, until it fits. So nothing is clipped: luma is exact, hue stays, and only
    saturation gives way where a dark or a light tone cannot hold it. The method is that of
    "Preserving Color in Neural Artistic Style Transfer" (Gatys et al. 2016), luminance only.
    """
    _need_rgb(stylized, original)
    if original.size != stylized.size:
        original = original.resize(stylized.size, Image.Resampling.LANCZOS)
    tones, colours = np.asarray(stylized), np.asarray(original)
    result = np.empty_like(tones)
    for top in range(0, len(result), 256):  # in bands: floats of a whole picture are 12x its size
        band = slice(top, top + 256)
        result[band] = _recolor(tones[band], colours[band])
    return Image.fromarray(result)


def _recolor(tones: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """(h,W,3) uint8 twice -> (h,W,3) uint8."""
    luma = (tones @ LUMA / 255)[..., None]  # (h,W,1)
    colours = colours.astype(np.float32) / 255
    offset = colours - (colours @ LUMA)[..., None]  # (h,W,3), its own luma is 0
    room = np.where(offset > 0, 1 - luma, luma)
    share = (room / np.abs(offset).clip(1e-6)).min(axis=-1, keepdims=True).clip(0, 1)
    return np.rint((luma + share * offset) * 255).clip(0, 255).astype(np.uint8)


# ---- EXIF and resolution -----------------------------------------------------------------------

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The directories of EXIF: in the main one lie those of the photograph and of its place, and in
# the photograph's one more.
PHOTO, PLACE, INTEROP = ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.Interop
DIRECTORIES = {PHOTO: {INTEROP: {}}, PLACE: {}}

# Tags of the main directory that speak of the picture and not of how its file is laid out. A
# list of what may stay, because a TIFF has all its strip offsets there.
KEPT_TAGS = {
    *(0x010E, 0x010F, 0x0110, 0x0112, 0x011A, 0x011B, 0x0128),  # description ... resolution
    *(0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298),  # software ... copyright
    *range(0x9C9B, 0x9CA0),  # title, comment, author, keywords, subject
    *DIRECTORIES,
}

# Bytes of one value of each TIFF type, and of the numbers that it is made of.
SHORT, LONG, RATIONAL = 3, 4, 5
VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
NUMBER_BYTES = VALUE_BYTES | {5: 4, 10: 4}


def _read_exif(image: Image.Image) -> Image.Exif:
    """The image's EXIF as Pillow reads it; empty if there is none or a broken one."""
    try:
        exif = image.getexif()
        exif.get(ExifTags.Base.Orientation)  # decoded only when asked for, so it may raise now
        return exif
    except Exception:  # no reason to refuse the picture
        return Image.Exif()


def _stored_exif(image: Image.Image, stream=None) -> bytes | None:
    """The image's EXIF as its file has it; `stream` is that file, if it is open here."""
    if image.format == "TIFF" and stream:  # it has no EXIF, it is EXIF
        stream.seek(0)
        return stream.read()
    if image.info.get("exif"):
        return image.info["exif"]
    with suppress(Exception):  # a TIFF opened elsewhere, or a PNG that has it as text
        return image.getexif().tobytes()
    return None


def _clean_exif(exif: bytes | None, size: tuple[int, int]) -> bytes | None:
    """EXIF to go with an upright picture of `size` (width, height), or None if there is none.

    Orientation becomes 1, recorded sizes become true, and the thumbnail is left out: it shows
    the original. All else stays as it is, byte for byte and type for type, which it would not
    through Pillow's own Exif class. A maker's note that points into the old file is the exception.
    """
    tree, order = _parse_exif(exif)
    tree = {tag: entry for tag, entry in tree.items() if tag in KEPT_TAGS}
    photo = tree.get(PHOTO, {})
    for tag, pixels in zip((ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight), size):
        if tag in photo:
            photo[tag] = LONG, 1, struct.pack(order + "I", pixels)
    if ExifTags.Base.Orientation in tree:
        tree[ExifTags.Base.Orientation] = SHORT, 1, struct.pack(order + "H", 1)
    return _pack_exif(tree, order) if tree else None


def _parse_exif(exif: bytes | None) -> tuple[dict, str]:
    """({tag: (type, count, bytes), or a directory again}, byte order), of EXIF or a whole TIFF.

    The tree is empty if there is none or a broken one.
    """
    with suppress(KeyError, struct.error):
        exif = exif if isinstance(exif, bytes) else b""
        exif = exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")  # some have it twice
        order = {b"II*\0": "<", b"MM\0*": ">"}[exif[:4]]
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        return _parse_directory(exif, offset, order, DIRECTORIES), order
    return {}, "<"


def _parse_directory(tiff: bytes, offset: int, order: str, below: dict) -> dict:
    """`below` names the tags that are directories again; a broken one of these is left out."""
    found, room = {}, len(tiff)
    (entries,) = struct.unpack_from(order + "H", tiff, offset)
    for at in range(offset + 2, offset + 2 + 12 * entries, 12):
        tag, kind, count, where = struct.unpack_from(order + "HHII", tiff, at)
        size = VALUE_BYTES.get(kind, 0) * count
        value = tiff[at + 8 : at + 8 + size] if size <= 4 else tiff[where : where + size]
        room -= len(value)
        if room < 0:  # values that overlap would make gigabytes of a few bytes
            raise struct.error
        if size and len(value) == size:
            found[tag] = kind, count, value
    for tag in below.keys() & found.keys():
        _, _, value = found.pop(tag)
        with suppress(struct.error):
            (where,) = struct.unpack(order + "I", value)
            found[tag] = _parse_directory(tiff, where, order, below[tag])
    return found


def _pack_exif(tree: dict, order: str) -> bytes:
    exif = bytearray(struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 0))
    _append_main(exif, tree, order)
    return b"Exif\0\0" + bytes(exif)


def _append_main(tiff: bytearray, tree: dict, order: str) -> None:
    """Put a directory at the end of a TIFF and make it the main one."""
    struct.pack_into(order + "I", tiff, 4, _append_directory(tiff, tree, order))


def _append_directory(tiff: bytearray, tree: dict, order: str) -> int:
    """Append a directory, with all below it in front, and return its offset."""
    directory = b""
    for tag, entry in sorted(tree.items()):
        if isinstance(entry, dict):
            entry = LONG, 1, struct.pack(order + "I", _append_directory(tiff, entry, order))
        kind, count, value = entry
        if len(value) > 4:
            tiff += bytes(len(tiff) % 2)  # offsets are even
            value, place = struct.pack(order + "I", len(tiff)), value
            tiff += place
        directory += struct.pack(order + "HHI", tag, kind, count) + value.ljust(4, b"\0")
    tiff += bytes(len(tiff) % 2)
    offset = len(tiff)
    tiff += struct.pack(order + "H", len(tree)) + directory + bytes(4)  # and none follows
    return offset


def _reorder(tree: dict) -> dict:
    """The same tags in the other byte order."""

    def swap(kind: int, count: int, value: bytes) -> tuple[int, int, bytes]:
        numbers = np.frombuffer(value, np.uint8).reshape(-1, NUMBER_BYTES[kind])
        return kind, count, numbers[:, ::-1].tobytes()

    return {tag: _reorder(e) if isinstance(e, dict) else swap(*e) for tag, e in tree.items()}


def _dpi(dpi, exif: Image.Exif) -> tuple[float, float] | None:
    """(x, y) in dots an inch, from the file's own field or else from EXIF; None if implausible."""
    with suppress(Exception):  # numbers of any type, fractions with denominator 0, nothing at all
        if dpi is None:
            unit = {2: 1, 3: 2.54}[exif[ExifTags.Base.ResolutionUnit]]
            axes = (ExifTags.Base.XResolution, ExifTags.Base.YResolution)
            dpi = [float(exif[axis]) * unit for axis in axes]
        x, y = (_whole(float(value)) for value in dpi)
        if 1 < x <= 65535 and 1 < y <= 65535:  # Pillow gives 1 for a TIFF that says nothing
            return x, y
    return None


def _whole(dpi: float) -> float:
    """A PNG counts dots a metre, so that 300 dots an inch come back as 299.9994."""
    return float(round(dpi)) if abs(dpi - round(dpi)) < 0.0128 else dpi


# ---- writing -----------------------------------------------------------------------------------


def rewrap(picture: Picture, rgb: Image.Image) -> Image.Image:
    """Put the picture's alpha, profile, EXIF and dpi around a stylized image.

    rgb: "RGB", sRGB, of any size; the alpha and the sizes in EXIF follow it.
    Returns "RGB", or "RGBA" if the picture has alpha, in the colours of the picture's own RGB
    profile if it has one, else sRGB. Its `.info` holds icc_profile, exif and dpi as
    `write_picture` takes them, and nothing else.
    """
    _need_rgb(rgb)
    result = _from_srgb(rgb, picture.icc).copy() if picture.icc else rgb.copy()
    if picture.alpha is not None:
        # bilinear, because a sharper filter overshoots into faint ghosts where nothing was
        result.putalpha(picture.alpha.resize(rgb.size, Image.Resampling.BILINEAR))
    same = rgb.size == picture.size
    exif = picture.exif if same else _clean_exif(picture.exif, rgb.size)
    info = {"icc_profile": picture.icc, "exif": exif, "dpi": picture.dpi}
    result.info = {key: value for key, value in info.items() if value}
    return result


def write_picture(image: Image.Image, target, *, format: str | None = None, quality: int = 95) -> None:
    """Write an image with its profile, EXIF and dpi (from `.info`) to a path or a binary file.

    target: a path, whose suffix tells the format (see FORMATS), or a file object.
    format: "jpeg", "png", "webp" or "tiff", over the suffix.
    quality: 1..100, for JPEG (always 4:4:4, for brush strokes are colour) and WebP; PNG and
        TIFF lose nothing.

    JPEG has no transparency: the image is laid on white. EXIF too long for a JPEG is left out. A
    path is never half-written: the file appears whole, under the mode a new file gets, or not at
    all. Raises ImageError, and leaves nothing behind.
    """
    name = _printable(_name_of(target))
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
    suffix = os.path.splitext(os.fsdecode(target))[1] if format is None else "." + format.lstrip(".")
    if suffix.lower() not in FORMATS:
        ending = f"ending in {suffix}" if len(suffix) > 1 else "without a suffix"
        raise ImageError(f"{name}: no format {ending} can be written; use {', '.join(FORMATS)}")
    return FORMATS[suffix.lower()]


# The longest side that a format holds; Pillow's own messages for it are riddles.
LONGEST_SIDE = {"jpeg": 65500, "webp": 16383}
LONGEST_EXIF_IN_JPEG = 65533


def _encode(image: Image.Image, format: str, quality: int, name: str) -> bytes:
    """The file's bytes, whole, so that the encoder's troubles and the disk's do not mix."""
    longest = LONGEST_SIDE.get(format, math.inf)
    if max(image.size) > longest:
        raise ImageError(f"{name}: {format} holds at most {longest} pixels a side; use PNG")
    try:
        if image.mode not in ("L", "LA", "RGB", "RGBA"):
            picture = read_picture(image, name=name, max_pixels=math.inf)
            image = rewrap(picture, picture.rgb)
        if format == "jpeg":
            image = _on_white(image)
        options = _options(image.info, format, quality)
        exif = options.pop("exif", None) if format == "tiff" else None
        image.save(buffer := BytesIO(), format, **options)
        return _hang_on(exif, buffer.getvalue()) if exif else buffer.getvalue()
    except ImageError:
        raise
    except Exception as error:  # as with decoders
        raise ImageError(f"{name} cannot be encoded as {format} ({_brief(error)})") from error


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode not in ("LA", "RGBA"):
        return image
    flat = Image.new(image.mode[:-1], image.size, "white")
    flat.paste(image.convert(flat.mode), mask=image.getchannel("A"))
    flat.info = image.info
    return flat


def _options(info: dict, format: str, quality: int) -> dict:
    """Arguments for Image.save; each format wants them differently."""
    options = {"icc_profile": info.get("icc_profile"), "dpi": _dpi(info.get("dpi"), Image.Exif())}
    exif = info.get("exif")
    if format == "webp" and options["dpi"]:  # it has no field for dpi but that in EXIF
        exif = _exif_with_dpi(exif, options["dpi"])
    tree, _ = _parse_exif(exif)
    if tree and not (format == "jpeg" and len(exif) > LONGEST_EXIF_IN_JPEG):
        options["exif"] = exif
    if format in ("jpeg", "webp"):
        options["quality"] = quality
    if format == "jpeg":
        options["subsampling"] = "4:4:4"
    if format == "tiff":
        options["compression"] = "tiff_deflate"
    return {key: value for key, value in options.items() if value is not None}


def _exif_with_dpi(exif: bytes | None, dpi: tuple[float, float]) -> bytes:
    tree, order = _parse_exif(exif)
    for tag, value in zip((ExifTags.Base.XResolution, ExifTags.Base.YResolution), dpi):
        tree[tag] = RATIONAL, 1, struct.pack(order + "II", round(value * 100), 100)
    tree[ExifTags.Base.ResolutionUnit] = SHORT, 1, struct.pack(order + "H", 2)  # inch
    return _pack_exif(tree, order)


def _hang_on(exif: bytes, tiff: bytes) -> bytes:
    """The TIFF with the tags of EXIF, which Pillow cannot put into a compressed one.

    A new main directory goes to the end of the file, where both have room.
    """
    tree, order = _parse_exif(exif)
    main, tiff_order = _parse_exif(tiff)
    longer = bytearray(tiff)
    _append_main(longer, (tree if order == tiff_order else _reorder(tree)) | main, tiff_order)
    return bytes(longer)


def _store(data: bytes, path: str, name: str) -> None:
    """Write the file under another name in its folder, then rename it: whole or not at all."""
    path = os.path.realpath(path)  # a link stays a link
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise ImageError(f"{name} is a folder; name a file in it")
    if not os.path.isdir(folder):
        raise ImageError(f"{name} cannot be written: there is no folder {_printable(folder)}")
    draft = os.path.join(folder, f".stylenorm-{secrets.token_hex(6)}.tmp")
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # a device or a pipe: no renaming
            return _write_through(data, path)
        if os.path.exists(path) and not os.access(path, os.W_OK):
            raise PermissionError
        _write_new(data, draft)
        os.replace(draft, path)
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
        return ImageError(f"{name} may not be written; change the permissions or the place")
    return ImageError(f"{name} cannot be written ({_brief(error)}); try another place")


# ---- tensors and sizes -------------------------------------------------------------------------


def _need_rgb(*images: Image.Image) -> None:
    for image in images:
        if image.mode != "RGB":
            raise ImageError(f"an image has mode {image.mode}; read_picture makes RGB of it")


def to_tensor(rgb: Image.Image):
    """An "RGB" image -> a contiguous float32 tensor (1,3,H,W) in [0, 1]."""
    import torch

    _need_rgb(rgb)
    pixels = torch.from_numpy(np.array(rgb))  # (H,W,3), a copy: PIL's own memory is read-only
    return pixels.permute(2, 0, 1)[None].contiguous().float().div_(255)  # (1,3,H,W)


def to_image(tensor) -> Image.Image:
    """A tensor (3,H,W) or (1,3,H,W), 1 for white -> an "RGB" image; clamped, rounded to nearest."""
    import torch

    shape = tuple(tensor.shape)
    if len(shape) not in (3, 4) or shape[-3] != 3 or (len(shape) == 4 and shape[0] != 1):
        raise ImageError(f"a tensor of shape {shape} is no picture; give (3,H,W) or (1,3,H,W)")
    if 0 in shape:
        raise ImageError(f"a tensor of shape {shape} has no pixels; give at least 1 x 1")
    tensor = tensor.detach().reshape(shape[-3:]).float()
    if torch.isnan(tensor).any():
        raise ImageError("the result has values that are no numbers (NaN); try full precision")
    pixels = tensor.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)  # (H,W,3)
    return Image.fromarray(pixels.contiguous().cpu().numpy())


def fit(rgb: Image.Image, size: int) -> Image.Image:
    """Resize (Lanczos) so that the longer side has `size` pixels; the same image if it has."""
    return _scaled(rgb, size, max(rgb.size))


def short_side(rgb: Image.Image, size: int) -> Image.Image:
    """Resize (Lanczos) so that the shorter side has `size` pixels; the same image if it has."""
    return _scaled(rgb, size, min(rgb.size))


def _scaled(rgb: Image.Image, size: int, side: int) -> Image.Image:
    if size < 1:
        raise ImageError(f"a picture cannot have a side of {size} pixels; use 1 or more")
    if size == side:
        return rgb
    width, height = (max(1, round(length * size / side)) for length in rgb.size)
    return rgb.resize((width, height), Image.Resampling.LANCZOS)
