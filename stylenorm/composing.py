"""Frames of a GIF or an animated PNG, put together as browsers do.

Pillow's own differ: where nothing lies yet, or nothing lies any more, they may have a colour; a GIF's frame that does not say what becomes of
it has it from the one before; a PNG's own picture shines through, though it is no frame; and what is translucent comes out otherwise. So each
part is decoded as a picture of its own (GIF89a, 1990; PNG, third edition, 11.3.6).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from stylenorm.depth import chunk
from stylenorm.resources import chunks

KEPT, CLEARED, AS_BEFORE = 0, 1, 2  # what becomes of a frame before the next one, by PNG's numbers
OF_GIF = {2: CLEARED, 3: AS_BEFORE}
EXTENSION, IMAGE, END, CONTROL, LOCAL = 0x21, 0x2C, 0x3B, 0xF9, 0x80
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Part:
    """still: the file of a picture as large as the part, which lies ``at`` (x, y). over: else it replaces what lies there. duration: ms."""

    still: bytes
    at: tuple[int, int]
    over: bool
    after: int
    duration: float


def parts_of(format: str, stream: BinaryIO) -> Iterator[Part]:
    """format: "GIF" or "PNG". Raises EOFError or struct.error where a file ends too early."""
    return _parts_of_png(stream) if format == "PNG" else _parts_of_gif(stream)


def composed(parts: Iterator[Part], size: tuple[int, int], decode: Callable[[bytes], Image.Image]) -> Iterator[tuple[Image.Image, float]]:
    """(frame, ms): "RGB", or "RGBA" where something is clear. size: (width, height). decode: an "RGBA" image of a file."""
    canvas = Image.new("RGBA", size)
    for part in parts:
        piece, before = decode(part.still), canvas.copy() if part.after == AS_BEFORE else None
        if part.over:
            canvas.alpha_composite(piece, part.at)
        else:
            canvas.paste(piece, part.at)
        yield canvas.convert("RGB") if canvas.getextrema()[3][0] == 255 else canvas.copy(), part.duration
        if part.after == CLEARED:
            canvas.paste((0, 0, 0, 0), (*part.at, part.at[0] + piece.width, part.at[1] + piece.height))
        canvas = before or canvas


def _parts_of_gif(stream: BinaryIO) -> Iterator[Part]:
    stream.seek(0)
    data = stream.read()
    flags = data[10]
    at = 13 + _palette_bytes(flags)
    head, palette, control = data[:6], data[10:at], b""
    while at < len(data) and data[at] != END:
        if data[at] == EXTENSION:
            start, at = at, _end_of_blocks(data, at + 2)
            if data[start + 1] == CONTROL:
                control = data[start:at]
        elif data[at] == IMAGE:
            left, top, width, height, flags = struct.unpack_from("<4HB", data, at + 1)
            own, at = at + 9, _end_of_blocks(data, at + 11 + _palette_bytes(flags))
            told, duration = struct.unpack_from("<BH", control, 3) if control else (0, 0)
            image = struct.pack("<BIHH", IMAGE, 0, width, height) + data[own:at]
            yield Part(
                head + struct.pack("<HH", width, height) + palette + control + image + bytes([END]),
                (left, top), True, OF_GIF.get(told >> 2 & 7, KEPT), 10 * duration,
            )  # fmt: skip
            control = b""
        else:  # no block; others pass over it, too
            at += 1


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & LOCAL else 0


def _end_of_blocks(data: bytes, at: int) -> int:
    while at < len(data):
        size = data[at]
        at += 1 + size
        if not size:
            return at
    raise EOFError("it ends in the middle of a frame")


def _parts_of_png(stream: BinaryIO) -> Iterator[Part]:
    head, shared, control, packed, total, found = b"", [], b"", [], 0, 0
    for kind, at, size in chunks(stream):
        stream.seek(at)
        data = stream.read(size)
        if kind == b"IHDR":
            head = data
        elif kind in (b"PLTE", b"tRNS"):
            shared.append((kind, data))
        elif kind == b"acTL":
            (total,) = struct.unpack_from(">I", data)
        elif kind == b"IDAT" and control:
            packed.append(data)
        elif kind == b"fdAT":
            packed.append(data[4:])
        elif kind in (b"fcTL", b"IEND"):
            if packed:
                yield _part_of_png(head, shared, control, packed)
                found += 1
            control, packed = data, []
    if found < total:
        raise EOFError("it has fewer frames than it tells")


def _part_of_png(head: bytes, shared: list[tuple[bytes, bytes]], control: bytes, packed: list[bytes]) -> Part:
    width, height, left, top, part, whole, after, over = struct.unpack_from(">4IHHBB", control, 4)
    pieces = [(b"IHDR", struct.pack(">II", width, height) + head[8:]), *shared, (b"IDAT", b"".join(packed)), (b"IEND", b"")]
    still = PNG + b"".join(chunk(*piece) for piece in pieces)
    return Part(still, (left, top), over == 1, after, 1000 * part / (whole or 100))
