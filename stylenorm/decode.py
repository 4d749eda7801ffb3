"""Reading: a file, or anything that holds a picture, to a `Picture`."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from typing import BinaryIO
from unicodedata import category

import numpy as np
from PIL import ExifTags, Image

from stylenorm.colour import to_srgb
from stylenorm.composing import PNG, composed, parts_of
from stylenorm.depth import coloured, deep_grey, divide_by_alpha, each_plane, ppm_white, raw_mode, read_deep, read_ppm, rounded
from stylenorm.errors import ImageError, how_to_install
from stylenorm.exif import as_srgb, clean_exif, orientation, read_dpi, read_exif, stored_exif, tells_adobe_rgb
from stylenorm.formats import FILMS, RAW, UNREAD
from stylenorm.hdr import deep_in_standard_range, in_standard_range, is_hdr
from stylenorm.modes import TRUSTED_ALPHA, correct_key, correct_order, fill_hidden, from_array, scaled, split, visible_in
from stylenorm.profiles import adobe_rgb, numbered_profile, numbers_of, png_profile
from stylenorm.psds import as_shallow, is_left_empty, read_psd
from stylenorm.resources import UNTOLD, add_info, is_deep_avif, lean_png, many_bits
from stylenorm.stills import read_avif, read_jpeg_2000
from stylenorm.tensors import need_rgb
from stylenorm.tiffs import is_preview, misread, packed_planes, read_planes, read_tiff
from stylenorm.xmp import clean_xmp, stored_iptc, stored_xmp

MAX_PIXELS = 200_000_000  # unless $STYLENORM_MEGAPIXELS or the caller says otherwise

# Pillow's names. A list of our own, because some of its other readers start programs (EPS) or
# take any bytes at all for a picture (TGA). HEIF is there for a host that registers a plugin.
READABLE = (
    *("JPEG", "MPO", "PNG", "WEBP", "TIFF", "GIF", "BMP", "AVIF", "HEIF", "JPEG2000", "PPM"),
    *("PSD", "QOI", "SGI", "DDS", "ICO", "PCX"),
)
PSD = b"8BPS"
SCAN_OF_JPEG, END_OF_JPEG = b"\xff\xda", b"\xff\xd9"  # marks
TIFF, BIG_TIFF = (b"II*\0", b"MM\0*"), (b"II+\0", b"MM\0+")
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}  # brands in the first box of a file


# EXIF orientation -> what brings it upright
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """A decoded picture: what the network sees, and what `rewrap` puts back afterwards.

    rgb: "RGB", upright, sRGB. Under transparent pixels it holds the colours around them, never
        the file's hidden ones (see `stylenorm.modes.fill_hidden`).
    alpha: "L", upright, or None.
    exif: bytes with orientation 1 and no thumbnail, or None.
    xmp: the packet, with what stays true of another picture of this size, or None.
    iptc: data sets (IIM) without previews, or None.
    icc: the file's RGB profile, or that of what it tells of its colours in numbers; None if there is none, or one of another
        colour space, and of high dynamic range, which is brought to sRGB for good.
    dpi: (x, y), or None.
    deep: what has more than 8 bits: uint16 (H,W,3), or (H,W,4) with alpha, upright, sRGB. rgb and alpha
        are the same, rounded. None for all others.
    format: "jpeg", "png", "gif"..., or None.
    name: what messages call it.
    own: the pixels in the colours of ``icc``, like rgb or, where there is deep, like that without alpha. None where they are sRGB's.
    """

    rgb: Image.Image
    alpha: Image.Image | None = None
    exif: bytes | None = field(default=None, repr=False)
    icc: bytes | None = field(default=None, repr=False)
    dpi: tuple[float, float] | None = None
    format: str | None = None
    name: str = "the picture"
    deep: np.ndarray | None = field(default=None, repr=False, compare=False)
    xmp: bytes | None = field(default=None, repr=False)
    iptc: bytes | None = field(default=None, repr=False)
    own: Image.Image | np.ndarray | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        need_rgb(self.rgb)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, upright."""
        return self.rgb.size

    @property
    def seen(self) -> Image.Image:
        """``rgb`` without transparent margins, of which a painting's style has nothing."""
        box = None if self.alpha is None else visible_in(self.alpha)[0]
        return self.rgb if box is None or box == (0, 0, *self.size) else self.rgb.crop(box)


Source = str | bytes | os.PathLike[str] | BinaryIO | Image.Image | np.ndarray | Picture  # what holds a picture


def read_picture(source: Source, *, name: str | None = None, max_pixels: int | None = None) -> Picture:
    """Decode a picture to upright 8-bit sRGB, and keep what `rewrap` puts back.

    source: a path, bytes, a binary file object (read from where it stands), a PIL image (its
        current frame), or an array (H,W), (H,W,2|3|4) of bool, uint8, uint16 or floats in [0,1].
    name: what messages call it; by default the path.
    max_pixels: checked before any pixel is decoded; by default $STYLENORM_MEGAPIXELS millions, or `MAX_PIXELS`.

    The format is told by content, not by name. Of an animation the first frame is read. Colours
    outside sRGB are clipped; integers or floats without a known range are scaled as `white_of` says.
    Sixteen bits of PNG, TIFF, PSD, PPM, JPEG 2000 and uint16 arrays, 10 or 12 of HEIC and AVIF, are kept as well, and so is what is read as a mode of
    more than 8. Raises ImageError, and nothing else, for whatever is wrong.
    """
    if isinstance(source, Picture):
        return source
    name = printable(str(name or name_of(source)))
    with _blaming(name):
        deep = None
        if isinstance(source, np.ndarray):
            source = source.astype(source.dtype.newbyteorder("="), copy=False)  # such as a big-endian file's samples
            source, deep = from_array(source, name), coloured(source) if source.dtype == np.uint16 else None
        if isinstance(source, Image.Image):
            _check_pixels(source.size, name, max_pixels)
            source.load()
            return _picture(source, name, stored_exif(source), deep)
        with _open_stream(source, name) as stream:
            image, deep = _decode(stream, name, max_pixels)
            return _picture(image, name, stored_exif(image, stream), deep)


@contextmanager
def opened(source, name: str | None = None, max_pixels: int | None = None):
    """The Pillow image of a picture file, with nothing decoded yet, for its frames. Raises ImageError like `read_picture`."""
    name = printable(name or name_of(source))
    with _blaming(name), _open_stream(source, name) as stream:
        image = _identify(stream, name)
        if image is None:
            raise ImageError(f"{name} has no frames; it is painted as a still")
        _check_pixels(image.size, name, max_pixels)
        add_info(image, stream)
        yield image


def rgba_of(data: bytes, name: str) -> Image.Image:
    """A file's picture as "RGBA", in the colours that it has there. Raises whatever its decoder does."""
    base, alpha = split(_decode(BytesIO(data), name, None)[0])
    rgba = base.convert("RGB")
    rgba.putalpha(255 if alpha is None else alpha)
    return rgba


def name_of(source) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source) or "the empty file name"
    if isinstance(source, np.ndarray):
        return "the array"
    named = getattr(source, "filename", None) or getattr(source, "name", None)
    return os.fsdecode(named) if named and isinstance(named, (str, bytes)) else "the picture"


def printable(name: str) -> str:
    """A file name may hold line ends and half characters; a message of one line may not."""
    return "".join(c if c.isprintable() or category(c) == "Zs" else "?" for c in name)  # a Mac has narrow spaces in its names


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
            f"{name} is damaged, cut short or of an unsupported kind ({brief(error)}); "
            "get a whole copy of it, or save it again as PNG or JPEG"
        ) from error


def brief(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(text.splitlines()[0][:100])


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
        raise ImageError(f"{name} cannot be opened ({brief(error)}); check the path") from error
    if stream.seekable():
        return stream
    with stream:  # a pipe
        return BytesIO(stream.read())


def _decode(stream, name: str, max_pixels: int | None) -> tuple[Image.Image, np.ndarray | None]:
    """The stream's first picture, decoded, in whatever mode it has, and its samples if they have 16 bits."""
    image = _identify(stream, name)
    if image is None or misread(image):
        return read_tiff(stream, lambda size: _check_pixels(size, name, max_pixels))
    if is_preview(image):
        raise ImageError(f"{name} is a camera's raw file, or has its picture behind a preview; save it as JPEG, PNG or TIFF first")
    _check_pixels(image.size, name, max_pixels)
    if bits := many_bits(image, stream):
        return _deep_jpeg_2000(image, stream, bits, name)
    if image.format == "GIF" and image.tile and image.tile[0].extents != (0, 0, *image.size):  # Pillow colours what is beside it
        frame, _ = next(composed(parts_of("GIF", stream), image.size, lambda still: rgba_of(still, name)))
        frame.info, frame.format = {key: value for key, value in image.info.items() if key != "transparency"}, "GIF"
        return frame, None
    if image.format == "PSD":
        return _decode_psd(image, stream, name)
    if white := ppm_white(image):
        deep = read_ppm(stream, image.tile[0].offset, image.size, white)
        return _shown(deep, image), deep
    mode, planes = raw_mode(image), packed_planes(image)
    correct_key(image)
    correct_order(image)
    add_info(image, stream)
    if image.format == "HEIF" and image.info.get("bit_depth", 8) > 8 and image.mode != "I;16":
        return _deep_heic(image, stream)
    image = _loaded(image, stream)
    _check_pixels(image.size, name, max_pixels)  # some headers promise another size

    def again() -> Image.Image:
        stream.seek(0)
        return _identify(stream, name)

    if image.format == "AVIF":
        return image, _beyond_pillow(image, stream)
    if planes:
        return image, read_planes(stream, planes)
    return image, read_deep(image, mode, again) if mode else None


def _loaded(image: Image.Image, stream) -> Image.Image:
    """The image, decoded. Raises whatever the decoder does."""
    if image.format == "JPEG" and "progressive" not in image.info:  # in which whole scans may lack
        stream.seek(0)
        data = stream.read()
        if data.rfind(END_OF_JPEG) < data.rfind(SCAN_OF_JPEG):
            return _without_end(data.rstrip(b"\0\xff"))  # what was to be a copy may be filled up with zeros
    image.load()
    return image


def _without_end(data: bytes) -> Image.Image:
    """That of a JPEG without the mark at its end, as some scanners and webcams leave it, if it is whole all the same.

    Then it comes out the same whatever follows. Pillow refuses some of them, and of others fills up what is missing.
    """
    first, second = (_by_a_reader(BytesIO(data + more + END_OF_JPEG), data[:16], "")[0] for more in (b"", b"\xaa" * 64))
    if first.tobytes() != second.tobytes():  # which decode them
        raise OSError("image file is truncated")
    return first


def _identify(stream, name: str) -> Image.Image | None:
    """The opened, undecoded image, or None for a TIFF that Pillow has no mode for, or cannot make out.

    Instead of Image.open, which warns or fails at a limit of pixels that is one global variable
    for the whole process: changing it, or the warning filters, would change them for the host
    application and its other threads too. This is the same loop without that check.
    """
    head = stream.read(16)
    if not head:
        raise ImageError(f"{name} is empty; get a whole copy of it")
    stream, profile = lean_png(stream) if head.startswith(PNG) else (stream, None)
    stream = as_shallow(stream) if head.startswith(PSD) else stream
    for load_readers in (Image.preinit, Image.init):  # the usual ones; importing all takes as long as reading a small photograph
        load_readers()
        image, trouble = _by_a_reader(stream, head, name)
        if image is not None:
            image.info.update({"icc_profile": profile} if profile else {})
            return image
    if _is_heic(stream):
        return _heic(stream, name)
    if trouble and ("pixel mode" in str(trouble) and head[:4] in TIFF or head[:4] in BIG_TIFF):
        return None
    if trouble:
        raise trouble
    suffix = os.path.splitext(name)[1].lower()
    if suffix in FILMS:
        raise ImageError(f"{name} is a film and not a picture; stylenorm video paints films")
    if suffix in RAW:
        raise ImageError(f"{name} is a camera's raw file; save it as JPEG, PNG or TIFF first")
    if suffix in UNREAD:
        raise ImageError(f"{name} is of a kind that is not read; save it as PNG or JPEG first")
    raise ImageError(f"{name} is not a picture; use JPEG, PNG, WebP, TIFF, GIF or BMP")


def _by_a_reader(stream, head: bytes, name: str) -> tuple[Image.Image | None, Exception | None]:
    """The image of the first of Pillow's readers that knows it, else what the last one that tried has stumbled on."""
    trouble = None
    for kind in READABLE:
        factory, accepts = Image.OPEN.get(kind, (None, None))
        try:
            verdict = accepts(head) if factory else False
            if isinstance(verdict, str):  # why a reader is missing; another one may know it, for AVIF's begins as HEIC does
                trouble = ImageError(
                    f"{name} is a kind of picture that this Pillow was built without ({kind}); "
                    "pip install --force-reinstall pillow, or save it as JPEG or PNG first"
                )
            elif verdict:
                stream.seek(0)
                return factory(stream, ""), None
        except Exception as error:  # see _blaming; another reader may still know it
            trouble = error
    return None, trouble


def helpers(head: bytes) -> list[str]:
    """The packages beside Pillow that may have a part in reading a file with these first 64 bytes."""
    tiff = ["tifffile"] if head[:4] in (*TIFF, *BIG_TIFF) else []
    ffmpeg = ["av"] if head[4:8] in (b"ftyp", b"jP  ") or head.startswith(b"\xff\x4f") else []
    return tiff + ffmpeg + (["pillow_heif"] if _is_heic(BytesIO(head)) else [])


def _is_heic(stream) -> bool:
    stream.seek(0)
    head = stream.read(64)
    brands = head[: int.from_bytes(head[:4], "big")][8:]
    return head[4:8] == b"ftyp" and any(brands[i : i + 4] in HEIC for i in range(0, len(brands), 4))


def _heic(stream, name: str) -> Image.Image:
    """By the plugin's reader itself: registered, it would read for the whole host application."""
    try:
        plugin = import_module("pillow_heif")
    except ImportError:
        raise ImageError(
            f"{name} is a HEIC picture, which takes another library: {how_to_install('heic')}; or save it as JPEG or PNG first"
        ) from None
    stream.seek(0)
    return plugin.HeifImageFile(stream)


def _deep_heic(image: Image.Image, stream) -> tuple[Image.Image, np.ndarray]:
    """What `_decode` gives of a HEIC of 10 or 12 bits in colour, of which the undecoded image of `_heic` would show 8."""
    found = import_module("pillow_heif").HeifFile(stream, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    samples = np.asarray(found[found.primary_index])
    deep = scaled(samples, 0, 2 ** image.info["bit_depth"] - 1, 65535)
    if image.mode == "RGBa":
        divide_by_alpha(deep)
    return _shown(deep, image), deep


def _decode_psd(image: Image.Image, stream, name: str) -> tuple[Image.Image, np.ndarray | None]:
    """What `_decode` gives of an undecoded PSD."""
    if is_left_empty(image, stream):
        raise ImageError(f"{name} holds its layers alone, and not the picture that they make; save it with Maximize Compatibility, or as PNG or TIFF")
    add_info(image, stream)
    found, deep = read_psd(image, stream), None
    if isinstance(found, np.ndarray):
        deep = coloured(found)
        found = rounded(deep).convert({1: "L", 2: "LA"}.get(found.shape[2]))  # for which there are other profiles
    found.info, found.format = image.info, image.format
    return found, deep


def _deep_jpeg_2000(image: Image.Image, stream, bits: list[int], name: str) -> tuple[Image.Image, np.ndarray]:
    """What `_decode` gives of an undecoded JPEG 2000 of which Pillow would make white black."""
    deep = read_jpeg_2000(stream, image.size, bits) if image.mode in ("RGB", "RGBA") else None
    if deep is None:
        advice = "" if find_spec("av") else f"{how_to_install('video')}, or "
        raise ImageError(f"{name} is a JPEG 2000 of more than 8 bits in colour, whose white Pillow takes for black; {advice}save it as PNG or TIFF first")
    add_info(image, stream)
    return _shown(deep, image), deep


def _shown(deep: np.ndarray, image: Image.Image) -> Image.Image:
    """The image of these samples, and with what the one of the file tells."""
    whole = rounded(deep)
    whole.info, whole.format = image.info, image.format
    return whole


def _beyond_pillow(image: Image.Image, stream) -> np.ndarray | None:
    """The samples of a decoded AVIF of more than 8 bits. Its ``info`` gets what the coded picture alone tells of the colours."""
    deep, untold = is_deep_avif(stream), not (image.info.get("cicp") or image.info.get("icc_profile"))
    if not (deep or untold):
        return None
    samples, numbers = read_avif(image if deep else None, stream)
    if untold and numbers and not set(numbers) <= {0, UNTOLD}:
        image.info["cicp"] = numbers
    return samples


def _check_pixels(size: tuple[int, int], name: str, max_pixels: int | None) -> None:
    pixels = size[0] * size[1]
    advice = "resize it or raise the limit"
    if max_pixels is None:
        max_pixels, advice = most_pixels(), "resize it, or set STYLENORM_MEGAPIXELS to more"
    if not pixels:
        raise ImageError(f"{name} has no pixels; use a picture of at least 1 x 1")
    if pixels > max_pixels:
        raise ImageError(
            f"{name} has {pixels / 1e6:.6g} megapixels, more than the limit of "
            f"{max_pixels / 1e6:.6g}; {advice}"
        )


def most_pixels() -> float:
    """Pixels that a picture may have unless the caller says otherwise. Raises ImageError where what is set is no number."""
    text = os.environ.get("STYLENORM_MEGAPIXELS")
    if not text:
        return MAX_PIXELS
    with suppress(ValueError):
        if (number := float(text)) > 0:
            return number * 1e6
    raise ImageError(f"STYLENORM_MEGAPIXELS must be a number above 0, not {text!r}")


def _picture(image: Image.Image, name: str, exif_bytes: bytes | None, deep: np.ndarray | None) -> Picture:
    """Take a decoded image of any mode apart. deep: its samples of 16 bits, if they are known already."""
    exif = read_exif(image)
    turn = TURNS.get(exif.get(ExifTags.Base.Orientation))
    base, alpha = split(image)
    numbers = image.info.get("cicp")
    if not isinstance(numbers, tuple):  # there may be a text of that name
        numbers = numbers_of(image.info.get("icc_profile"))
    told = image.info.get("icc_profile") or (png_profile(image.info) if image.format == "PNG" else None)
    if told is None and image.format != "JPEG2000" and tells_adobe_rgb(exif_bytes):  # that one always tells its colours itself
        told = adobe_rgb()
    rgb, icc, deep, own = _coloured(base, told, numbers, deep_grey(image) if deep is None else deep)
    if deep is not None:
        whole = rounded(deep)
        rgb, alpha = whole.convert("RGB"), whole.getchannel("A") if whole.mode == "RGBA" else None
    rgb.info = {}  # what is kept is in the Picture; a second, stale copy would be written out too
    if turn is not None:
        rgb = rgb.transpose(turn)
        alpha = None if alpha is None else alpha.transpose(turn)
        deep = None if deep is None else each_plane(deep, lambda plane: plane.transpose(turn))
        own = each_plane(own, lambda plane: plane.transpose(turn)) if isinstance(own, np.ndarray) else own and own.transpose(turn)
    if alpha is not None:
        rgb = fill_hidden(rgb, alpha)
        if deep is not None:
            _fill_deep(deep, rgb, alpha)
        if isinstance(own, np.ndarray):
            _fill_deep(own, fill_hidden(rounded(own), alpha), alpha)
        elif own is not None:
            own = fill_hidden(own, alpha)
    same_place = not _was_turned(image, exif_bytes, turn)
    kept = clean_exif(exif_bytes, rgb.size, same_place)
    untrue = icc is None and (numbers and is_hdr(numbers[1]) or tells_adobe_rgb(kept))  # what it says of the colours
    return Picture(
        rgb=rgb,
        alpha=alpha,
        exif=as_srgb(kept) if untrue else kept,
        icc=icc,
        dpi=read_dpi(image.info.get("dpi"), exif),
        deep=deep,
        format={"MPO": "jpeg", "HEIF": "heic"}.get(image.format, (image.format or "").lower() or None),
        name=name,
        xmp=clean_xmp(stored_xmp(image, exif_bytes), same_place),
        iptc=stored_iptc(image, exif_bytes),
        own=own,
    )


def _fill_deep(deep: np.ndarray, filled: Image.Image, alpha: Image.Image) -> None:
    """Put what `fill_hidden` has made of the 8 bits into the samples as well, in place."""
    hidden = np.asarray(alpha) < TRUSTED_ALPHA
    deep[hidden, :3] = np.asarray(filled)[hidden].astype(np.uint16) * 257


def _coloured(
    base: Image.Image, icc: bytes | None, numbers: tuple[int, int] | None, deep: np.ndarray | None
) -> tuple[Image.Image, bytes | None, np.ndarray | None, Image.Image | np.ndarray | None]:
    """What `to_srgb` makes of an image's base and its samples of 16 bits, by H.273's numbers or else by the profile."""
    if numbers is None:
        return to_srgb(base, icc, deep)
    primaries, transfer = numbers
    if not is_hdr(transfer):
        return to_srgb(base, numbered_profile(primaries, transfer), deep)
    if deep is not None:
        deep_in_standard_range(deep, transfer, primaries)
    return in_standard_range(base.convert("RGB"), transfer, primaries, still=True), None, deep, None


def _was_turned(image: Image.Image, exif_bytes: bytes | None, turn: Image.Transpose | None) -> bool:
    """Whether the decoded image lies otherwise than in its file, by `turn` or by the reader already (TIFF, HEIC)."""
    before = image.info.get("original_orientation") or (orientation(exif_bytes) if image.format == "TIFF" else None)
    return turn is not None or before in TURNS
