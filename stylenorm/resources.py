"""What files hold in places where Pillow does not look.

Photoshop's and JPEG 2000's: EXIF, XMP, IPTC, resolution, profile (Adobe Photoshop File Formats Specification, 2019, image
resources; ISO/IEC 15444-1, annex I, boxes). PNG, AVIF and HEIC: colours told by the numbers of ITU-T H.273 (PNG, third edition, 11.3.2.6;
ISO/IEC 14496-12, 12.1.5, and 23008-12, 9.3).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import BinaryIO

from PIL import Image, PngImagePlugin

from stylenorm.exif import clean_exif

OF_PHOTOSHOP = {1028: "iptc", 1058: "exif", 1060: "xmp"}
RESOLUTION = 1005
OF_JPEG_2000 = {  # uuid of the box
    b"JpgTiffExif->JP2": "exif",
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",
    bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"): "iptc",
}
HEADER, COLOUR, OWN, PIXELS = b"jp2h", b"colr", b"uuid", b"jp2c"
BY_PROFILE = (2, 3)  # methods of telling colours
LONGEST = 16_000_000  # bytes, of a box that is read
UNTOLD = 2  # of colours by number
# What stands before the packed part of a PNG's chunk: names, and that it is packed, in the one way that there is.
PACKED_AFTER = {b"iCCP": re.compile(rb"[^\0]*\0\0"), b"iTXt": re.compile(rb"[^\0]*\0\x01\0[^\0]*\0[^\0]*\0")}
LEAST = {b"gAMA": 4, b"cHRM": 32}  # bytes
PACKED_AFTER[b"zTXt"] = PACKED_AFTER[b"iCCP"]
# Names of texts that Pillow would put in the place of what it has found out itself.
OF_PILLOW = {b"bbox", b"chromaticity", b"default_image", b"duration", b"gamma", b"interlace", b"loop", b"srgb", b"transparency"}


def add_info(image: Image.Image, stream: BinaryIO) -> None:
    """Put it into the opened image's ``info``, under the names that other formats' readers give it.

    Colours by number are "cicp", (primaries, transfer), where they count: before a PNG's profile, and after that of all others.
    """
    found: dict = {}
    if image.format == "PSD":
        found = _of_photoshop(image.resources)
    elif image.format == "JPEG2000":
        with suppress(struct.error):
            found = _of_jpeg_2000(stream)
    elif image.format == "PNG" or image.format in ("AVIF", "HEIF") and not image.info.get("icc_profile"):
        with suppress(KeyError, IndexError, struct.error):
            found["cicp"] = _by_number(image, stream)
    if "exif" in found:  # hardly a viewer turns these files by it
        found["exif"] = clean_exif(found["exif"], image.size, same_place=True)
    image.info.update({name: value for name, value in found.items() if value})


def _of_photoshop(resources: list[tuple[int, bytes, bytes]]) -> dict:
    found = {OF_PHOTOSHOP[number]: data for number, _, data in resources if number in OF_PHOTOSHOP}
    for number, _, data in resources:
        if number == RESOLUTION and len(data) >= 12:
            found["dpi"] = tuple(n / 65536 for n in struct.unpack_from(">I4xI", data))
    return found


def _of_jpeg_2000(stream: BinaryIO) -> dict:
    found = {}
    end = stream.seek(0, 2)
    for kind, at, size in _boxes(stream, 0, end):
        if kind == HEADER:
            for kind, at, size in _boxes(stream, at, at + size):
                told = _read(stream, at, size) if kind == COLOUR else b""
                if told[:1] and told[0] in BY_PROFILE:
                    found.setdefault("icc_profile", told[3:])
        elif kind == OWN and (told := _read(stream, at, size))[:16] in OF_JPEG_2000:
            found[OF_JPEG_2000[told[:16]]] = told[16:]
    return found


def _by_number(image: Image.Image, stream: BinaryIO) -> tuple[int, int] | None:
    """(primaries, transfer), or None where the file tells neither."""
    if image.format == "HEIF":
        told = image.info["nclx_profile"]
        pair = int(told["color_primaries"]), int(told["transfer_characteristics"])
    else:
        at = stream.tell()
        pair = _of_png(stream) if image.format == "PNG" else _of_avif(stream)
        stream.seek(at)
    return None if pair is None or set(pair) <= {0, UNTOLD} else pair


def _of_png(stream: BinaryIO) -> tuple[int, int] | None:
    for kind, at, _ in chunks(stream):
        if kind == b"cICP":
            return struct.unpack("BB", _read(stream, at, 2))
        if kind == b"IDAT":
            return None
    return None


def chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(kind, where its contents begin, their bytes) of each chunk of a PNG that is there as a whole."""
    at, end = 8, stream.seek(0, 2)
    while at + 12 <= end:
        stream.seek(at)
        size, kind = struct.unpack(">I4s", stream.read(8))
        if at + 12 + size > end:
            return
        yield kind, at + 8, size
        at += 12 + size


def lean_png(stream: BinaryIO) -> tuple[BinaryIO, bytes | None]:
    """The PNG without what Pillow would stumble over, and the profile if that is among it.

    That is profiles and texts that unpack to over 1 MB, texts with names that it uses itself, and chunks that are no part of the
    picture and damaged, or shorter than they have to be.
    """
    profile, left_out, room = None, [], PngImagePlugin.MAX_TEXT_MEMORY
    for kind, at, size in chunks(stream):
        if kind[:1].islower() and kind != b"fdAT" and (size < LEAST.get(kind, 0) or _is_damaged(_read(stream, at - 4, size + 8))):
            left_out.append((at - 8, at + size + 4))
            continue
        data = _read(stream, at, size) if kind in (b"iCCP", b"iTXt", b"tEXt", b"zTXt") else b""
        start = PACKED_AFTER[kind].match(data) if kind in PACKED_AFTER else None
        if kind != b"iCCP" and data.partition(b"\0")[0] in OF_PILLOW or start and room < PngImagePlugin.MAX_TEXT_CHUNK:
            left_out.append((at - 8, at + size + 4))
        elif start:
            unpacker = zlib.decompressobj()
            with suppress(zlib.error):  # Pillow passes over those
                unpacked = unpacker.decompress(data[start.end() :], PngImagePlugin.MAX_TEXT_CHUNK)
                if unpacker.unconsumed_tail:
                    left_out.append((at - 8, at + size + 4))
                    if kind == b"iCCP":
                        unpacked += unpacker.decompress(unpacker.unconsumed_tail, LONGEST)
                        profile = None if unpacker.unconsumed_tail else unpacked
                room -= len(unpacked)
    if not left_out:
        return stream, None
    stream.seek(0)
    whole, lean, first = stream.read(), BytesIO(), 0
    for start, end in [*left_out, (len(whole), 0)]:
        lean.write(whole[first:start])
        first = end
    return lean, profile


def _is_damaged(chunk: bytes) -> bool:
    """chunk: a PNG's, from its kind to its checksum, or nothing, where it is too long."""
    return bool(chunk) and zlib.crc32(chunk[:-4]) != int.from_bytes(chunk[-4:], "big")


def is_deep_avif(stream: BinaryIO) -> bool:
    """Whether the picture has more than 8 bits, and is no grid of others (AV1-ISOBMFF, 2.3.3)."""
    with suppress(KeyError, IndexError, struct.error):
        return any(kind == b"av1C" and _read(stream, *place)[2] & 0x40 for kind, place in _properties(stream))
    return False


def _of_avif(stream: BinaryIO) -> tuple[int, int] | None:
    for kind, place in _properties(stream):
        told = _read(stream, *place) if kind == COLOUR else b""
        if told[:4] == b"nclx":
            return struct.unpack_from(">HH", told, 4)
    return None


def _properties(stream: BinaryIO) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Those of an AVIF's primary item; others, such as a map of gains, have their own."""
    found = dict(_within(stream, 0, stream.seek(0, 2)))
    at, size = found[b"meta"]
    found = dict(_within(stream, at + 4, at + size))
    head = _read(stream, *found[b"pitm"])
    primary = int.from_bytes(head[4 : 6 if head[0] == 0 else 8], "big")
    found = dict(_within(stream, found[b"iprp"][0], sum(found[b"iprp"])))
    properties = list(_within(stream, found[b"ipco"][0], sum(found[b"ipco"])))
    for number in _properties_of(primary, _read(stream, *found[b"ipma"])):
        if number:
            yield properties[number - 1]


def _properties_of(item: int, told: bytes) -> list[int]:
    """The numbers of an item's properties, from 1, by the box that associates them."""
    wide, kind, size = told[0] > 0, ">I" if told[0] else ">H", 2 if told[3] & 1 else 1
    (entries,) = struct.unpack_from(">I", told, 4)
    at = 8
    for _ in range(entries):
        (number,) = struct.unpack_from(kind, told, at)
        at += 4 if wide else 2
        count = told[at]
        if number == item:
            return [int.from_bytes(told[i : i + size], "big") & (0x7FFF if size == 2 else 0x7F) for i in range(at + 1, at + 1 + count * size, size)]
        at += 1 + count * size
    return []


def _within(stream: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    return ((kind, (at, size)) for kind, at, size in _boxes(stream, at, end))


def many_bits(image: Image.Image, stream: BinaryIO) -> list[int]:
    """How many each component of an undecoded JPEG 2000 has, if it has colours, or opacity, of more than 8; else none.

    Pillow rounds them, and drops the ninth bit that white gets: it becomes black. Numbers with a sign count 128 more.
    """
    if image.format != "JPEG2000" or image.mode not in ("LA", "RGB", "RGBA", "CMYK"):
        return []
    with suppress(struct.error):
        at = 0
        if image.codec == "jp2":
            at = next((at for kind, at, _ in _boxes(stream, 0, stream.seek(0, 2)) if kind == PIXELS), 0)
        stream.seek(at + 40)  # in the codestream's SIZ (A.5.1): how many components, and three bytes of each
        head = stream.read(14)
        (count,) = struct.unpack_from(">H", head)
        bits = [number + 1 for number in head[2 : 2 + 3 * count : 3]]
        return bits if any((number - 1) % 128 > 7 for number in bits) else []
    return []


def _boxes(stream: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, where its contents begin, their bytes) of each box from ``at`` to ``end``."""
    while at + 8 <= end:
        stream.seek(at)
        size, kind = struct.unpack(">I4s", stream.read(8))
        head = 8
        if size == 1:
            (size,), head = struct.unpack(">Q", stream.read(8)), 16
        size = size or end - at  # 0: up to the end
        if size < head:
            return
        yield kind, at + head, min(size, end - at) - head
        at += size


def _read(stream: BinaryIO, at: int, size: int) -> bytes:
    stream.seek(at)
    return stream.read(size) if size <= LONGEST else b""
