"""EXIF, as bytes that keep what they are, and the resolution.

Pillow's own Exif class changes types on the way through; here every value stays byte for byte what it was.
"""

from __future__ import annotations

import struct
from contextlib import suppress

import numpy as np
from PIL import ExifTags, Image

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

UNCALIBRATED = 0xFFFF  # a colour space
SUBJECT = (0x9214, 0xA214)  # its area and its location, px in the file's picture

# First bytes of a TIFF: its byte order, and whether it is a BigTIFF, whose offsets have 8 bytes.
HEADS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}

# Bytes of one value of each TIFF type, and of the numbers that it is made of.
SHORT, LONG, RATIONAL, OFFSETS_OF_8 = 3, 4, 5, (16, 18)
VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1} | dict.fromkeys(OFFSETS_OF_8, 8)
NUMBER_BYTES = VALUE_BYTES | {5: 4, 10: 4}


def read_exif(image: Image.Image) -> Image.Exif:
    """The image's EXIF as Pillow reads it; empty if there is none or a broken one."""
    try:
        exif = image.getexif()
        exif.get(ExifTags.Base.Orientation)  # decoded only when asked for, so it may raise now
        return exif
    except Exception:  # no reason to refuse the picture
        return Image.Exif()


def stored_exif(image: Image.Image, stream=None) -> bytes | None:
    """The image's EXIF as its file has it; `stream` is that file, if it is open here."""
    if image.format == "TIFF" and stream:  # it has no EXIF, it is EXIF
        stream.seek(0)
        return stream.read()
    if image.format == "AVIF" and stream:  # Pillow writes it anew where the file turns the picture by itself
        with suppress(Exception):  # of another version
            return image._decoder.get_info()[4] or None
    if image.info.get("exif"):
        return image.info["exif"]
    with suppress(Exception):  # a TIFF opened elsewhere, or a PNG that has it as text
        return image.getexif().tobytes()
    return None


def clean_exif(exif: bytes | None, size: tuple[int, int], same_place: bool) -> bytes | None:
    """EXIF to go with an upright picture of `size` (width, height), or None if there is none.

    Orientation becomes 1, recorded sizes become true, and the thumbnail is left out: it shows
    the original. Where the subject is stays if the picture lies as it lay and is as large
    (`same_place`). All else stays as it is, byte for byte and type for type, which it would not
    through Pillow's own Exif class. A maker's note that points into the old file is the exception.
    """
    tree, order = parse_exif(exif)
    tree = {tag: entry for tag, entry in tree.items() if tag in KEPT_TAGS}
    photo = tree.get(PHOTO, {})
    for tag in () if same_place else SUBJECT:
        photo.pop(tag, None)
    for tag, pixels in zip((ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight), size):
        if tag in photo:
            photo[tag] = LONG, 1, struct.pack(order + "I", pixels)
    if ExifTags.Base.Orientation in tree:
        tree[ExifTags.Base.Orientation] = SHORT, 1, struct.pack(order + "H", 1)
    return pack_exif(tree, order) if tree else None


def as_srgb(exif: bytes | None) -> bytes | None:
    """The same EXIF for a picture that has been brought to sRGB: cameras tell of HDR "uncalibrated", which may stand for Adobe RGB."""
    tree, order = parse_exif(exif)
    photo = tree.get(PHOTO, {})
    if ExifTags.Base.ColorSpace not in photo:
        return exif
    photo[ExifTags.Base.ColorSpace] = SHORT, 1, struct.pack(order + "H", 1)
    photo.pop(INTEROP, None)
    return pack_exif(tree, order)


def tells_adobe_rgb(exif: bytes | None) -> bool:
    """Whether EXIF says that the colours are Adobe RGB, as cameras do instead of a profile (DCF 2.0: R03; some have 2 for it)."""
    tree, order = parse_exif(exif)
    photo = tree.get(PHOTO, {})
    space = photo.get(ExifTags.Base.ColorSpace, (None, 0, b""))
    mark = photo.get(INTEROP, {}).get(1, (None, 0, b""))[2][:3]
    told = struct.unpack_from(order + "H", space[2])[0] if space[0] == SHORT else None
    return told == 2 or told == UNCALIBRATED and mark == b"R03"


def orientation(exif: bytes | None) -> int | None:
    """How the picture lies in its file, 1 to 8, by EXIF or a whole TIFF; None if it does not say."""
    tree, order = parse_exif(exif)
    kind, _, value = tree.get(ExifTags.Base.Orientation, (None, 0, b""))
    return struct.unpack_from(order + "H", value)[0] if kind == SHORT else None


def parse_exif(exif: bytes | None) -> tuple[dict, str]:
    """({tag: (type, count, bytes), or a directory again}, byte order), of EXIF or a whole TIFF.

    The tree is empty if there is none or a broken one.
    """
    with suppress(KeyError, OverflowError, struct.error):
        exif = exif if isinstance(exif, bytes) else b""
        exif = exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0")  # some have it twice
        order, big = HEADS[exif[:4]]
        (offset,) = struct.unpack_from(order + "Q", exif, 8) if big else struct.unpack_from(order + "I", exif, 4)
        return _parse_directory(exif, offset, order, DIRECTORIES, big), order
    return {}, "<"


def _parse_directory(tiff: bytes, offset: int, order: str, below: dict, big: bool) -> dict:
    """`below` names the tags that are directories again; a broken one of these is left out."""
    found, room = {}, len(tiff)
    head, entry, inside = (order + "Q", order + "HHQQ", 8) if big else (order + "H", order + "HHII", 4)
    (entries,) = struct.unpack_from(head, tiff, offset)
    first, step = offset + struct.calcsize(head), struct.calcsize(entry)
    for at in range(first, first + step * min(entries, 65535), step):  # a BigTIFF may promise any number
        tag, kind, count, where = struct.unpack_from(entry, tiff, at)
        size = VALUE_BYTES.get(kind, 0) * count
        start = at + step - inside if size <= inside else where
        value = tiff[start : start + size]
        room -= len(value)
        if room < 0:  # values that overlap would make gigabytes of a few bytes
            raise struct.error
        if size and len(value) == size and (kind not in OFFSETS_OF_8 or tag in below):  # numbers of 8 bytes are none of EXIF's
            found[tag] = kind, count, value
    for tag in below.keys() & found.keys():
        _, _, value = found.pop(tag)
        with suppress(OverflowError, struct.error):
            (where,) = struct.unpack(order + ("Q" if len(value) == 8 else "I"), value)
            found[tag] = _parse_directory(tiff, where, order, below[tag], big)
    return found


def pack_exif(tree: dict, order: str) -> bytes:
    exif = bytearray(struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 0))
    append_main(exif, tree, order)
    return b"Exif\0\0" + bytes(exif)


def append_main(tiff: bytearray, tree: dict, order: str) -> None:
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


def reorder(tree: dict) -> dict:
    """The same tags in the other byte order."""

    def swap(kind: int, count: int, value: bytes) -> tuple[int, int, bytes]:
        numbers = np.frombuffer(value, np.uint8).reshape(-1, NUMBER_BYTES[kind])
        return kind, count, numbers[:, ::-1].tobytes()

    return {tag: reorder(e) if isinstance(e, dict) else swap(*e) for tag, e in tree.items()}


def exif_with_dpi(exif: bytes | None, dpi: tuple[float, float]) -> bytes:
    tree, order = parse_exif(exif)
    for tag, value in zip((ExifTags.Base.XResolution, ExifTags.Base.YResolution), dpi):
        tree[tag] = RATIONAL, 1, struct.pack(order + "II", round(value * 100), 100)
    tree[ExifTags.Base.ResolutionUnit] = SHORT, 1, struct.pack(order + "H", 2)  # inch
    return pack_exif(tree, order)


def without_makers_note(exif: bytes) -> bytes:
    """The same EXIF without what may be long in it, and what hardly a program but the maker's understands."""
    tree, order = parse_exif(exif)
    tree.get(PHOTO, {}).pop(ExifTags.Base.MakerNote, None)
    return pack_exif(tree, order)


def without_orientation(exif: bytes) -> bytes:
    """The same EXIF for Pillow's writer of AVIF, which writes one with an orientation anew, and not byte for byte."""
    tree, order = parse_exif(exif)
    tree.pop(ExifTags.Base.Orientation, None)
    return pack_exif(tree, order)


def hang_on(exif: bytes | None, tiff: bytes, more: dict) -> bytes:
    """The TIFF with the tags of EXIF and ``more`` of bytes, which Pillow cannot put into a compressed one.

    A new main directory goes to the end of the file, where both have room.
    """
    tree, order = parse_exif(exif)
    main, tiff_order = parse_exif(tiff)
    longer = bytearray(tiff)
    append_main(longer, (tree if order == tiff_order else reorder(tree)) | more | main, tiff_order)
    return bytes(longer)


def read_dpi(dpi, exif: Image.Exif) -> tuple[float, float] | None:
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
