"""XMP and IPTC: title, caption, keywords, rating and rights, which photo software keeps beside EXIF.

Of an XMP packet those properties stay that are still true of the painted picture (Adobe, XMP Specification, part 1,
2012). A list of what may stay, as in `exif`: others tell of a film behind a photograph, of a depth map, a smaller copy
of the old picture or how to develop a raw file, which the new file has not got.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress

from PIL import Image

from stylenorm.exif import parse_exif

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
SYNTAX = (RDF, "http://www.w3.org/2000/xmlns/", "http://www.w3.org/XML/1998/namespace", "adobe:ns:meta/")
TIFF = "http://ns.adobe.com/tiff/1.0/"
EXIF = "http://ns.adobe.com/exif/1.0/"
BASIC = "http://ns.adobe.com/xap/1.0/"
IPTC_EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

# Namespaces of which all may stay but these properties
LEFT_OUT = {
    "http://purl.org/dc/elements/1.1/": {"format"},
    BASIC: {"Thumbnails"},
    "http://ns.adobe.com/xap/1.0/rights/": (),
    "http://ns.adobe.com/photoshop/1.0/": {"ICCProfile", "ColorMode", "LegacyIPTCDigest", "DocumentAncestors", "TextLayers"},
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": (),
    IPTC_EXTENSION: {"ImageRegion"},
    EXIF: {"PixelXDimension", "PixelYDimension", "ColorSpace", "NativeDigest", "ComponentsConfiguration", "CompressedBitsPerPixel"},
    "http://cipa.jp/exif/1.0/": (),
    "http://ns.adobe.com/exif/1.0/aux/": {"NeutralDensityFactor", "EnhanceDetailsAlreadyApplied"},
    "http://ns.adobe.com/lightroom/1.0/": (),
    "http://ns.useplus.org/ldf/xmp/1.0/": (),
    "http://creativecommons.org/ns#": (),
    "http://www.digikam.org/ns/1.0/": {"ImageHistory", "ImageUniqueID"},
    "http://ns.microsoft.com/photo/1.0/": (),
    "http://ns.microsoft.com/photo/1.0": (),
    "http://ns.acdsee.com/iptc/1.0/": (),
    "http://www.metadataworkinggroup.com/schemas/keywords/": (),
}
KEPT_OF_TIFF = {"Make", "Model", "Artist", "Copyright", "ImageDescription", "DateTime"}
# Places in the picture, of faces or of a whole sphere: true as long as it lies as it lay.
PANORAMA, DIMENSIONS = "http://ns.google.com/photos/1.0/panorama/", "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
PLACES = {
    PANORAMA,
    "http://www.metadataworkinggroup.com/schemas/regions/",
    "http://ns.microsoft.com/photo/1.2/",
}
# How the picture came to be. That it is a camera's or a scanner's is not true any more; that it was made by a network is.
SOURCE_TYPES, BY_ALGORITHMS = {"DigitalSourceType", "DigitalSourcefileType"}, "lgorithmic"
PLACES_OF_EXIF = {"SubjectArea", "SubjectLocation"}  # and is as large
# What of them is told in pixels, along the width and along the height; Google's and the size that faces are told for.
IN_PIXELS = {PANORAMA: (("WidthPixels", "LeftPixels", "RectLeft", "RectWidth"), ("HeightPixels", "TopPixels", "RectTop", "RectHeight"))}
IN_PIXELS |= {DIMENSIONS: (("w",), ("h",))}
LONGEST_PACKET = 4_000_000  # bytes; they have a few thousand
WRAPPED = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{}\n<?xpacket end="w"?>'
HELD = dict(zip(b"\t\n\r", "\1\2\3"))  # characters that no XML has
BY_NUMBER = dict(zip(b"\1\2\3", ("&#9;", "&#10;", "&#13;")))

XMP_TAG, IPTC_TAG = 700, 33723  # of TIFF
BYTE, UNDEFINED = 1, 7
PHOTOSHOP, IPTC_RESOURCE = b"Photoshop 3.0\0", 0x0404
MARK = 0x1C  # in front of each data set of IPTC
PREVIEWS = (200, 201, 202)  # a smaller copy of the picture as it was


def stored_xmp(image: Image.Image, exif: bytes | None) -> bytes | None:
    """The image's XMP packet as its file has it. exif: of a TIFF, the whole file."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if not packet and image.format == "TIFF":
        packet = _tag(exif, XMP_TAG)
    return packet.encode(errors="replace") if isinstance(packet, str) else packet


def stored_iptc(image: Image.Image, exif: bytes | None) -> bytes | None:
    """The image's IPTC data sets (IIM 4.2), without previews. exif: of a TIFF, the whole file."""
    resources = image.info.get("photoshop")
    found = resources.get(IPTC_RESOURCE) if isinstance(resources, dict) else image.info.get("iptc")
    return clean_iptc(_tag(exif, IPTC_TAG) if image.format == "TIFF" else found)


def _tag(tiff: bytes | None, tag: int) -> bytes | None:
    tree, _ = parse_exif(tiff)
    return tree[tag][2] if tag in tree else None


def clean_xmp(packet: bytes | None, same_place: bool = True, scale: tuple[float, float] | None = None) -> bytes | None:
    """The packet with the properties that stay, or None if there are none, or it is none.

    same_place: the picture is not turned. scale: how many times as wide and as high as it was, or None for the same.
    """
    if not isinstance(packet, bytes) or len(packet) > LONGEST_PACKET:
        return None
    from xml.dom import minidom  # keeps prefixes as they are; few pictures have XMP
    from xml.parsers.expat import ExpatError

    with suppress(ExpatError, UnicodeDecodeError, RecursionError, ValueError):
        text = packet.rstrip(b"\0").decode("utf-8-sig").strip()
        if "<!DOCTYPE" in text:  # XMP has none, and entities could grow without end
            return None
        root = minidom.parseString(text.encode()).documentElement
        if root is not None and _clean(root, same_place, scale):
            return WRAPPED.format(_text_of(root)).encode()
    return None


def _text_of(root) -> str:
    """An XML tree as text, with line breaks in attributes by number: any others a reader takes for spaces, and not every minidom sees to that."""
    for node in root.getElementsByTagName("*"):
        for part in node.attributes.values():
            part.nodeValue = part.nodeValue.translate(HELD)
    return root.toxml().translate(BY_NUMBER)


def _clean(root, same_place: bool, scale: tuple[float, float] | None) -> bool:
    """Take out of an XML tree what does not stay. Returns whether a property is left."""

    def stays(node) -> bool:
        space, name = node.namespaceURI, node.localName
        if space in PLACES:
            return same_place
        if space == EXIF and name in PLACES_OF_EXIF:
            return same_place and scale is None
        return _stays(node)

    left = 0
    whole = [root] if root.namespaceURI == RDF else root.getElementsByTagNameNS(RDF, "RDF")
    for described in whole:
        for node in list(described.childNodes):
            if node.nodeType == node.ELEMENT_NODE:
                left += _clean_description(node, stays)
    for name in [name for name in root.attributes.keys() if not name.startswith("xmlns")]:
        root.removeAttribute(name)  # which program wrote it
    for node in root.getElementsByTagNameNS("*", "*") if scale else ():
        for part in (*node.attributes.values(), *(node.childNodes if node.namespaceURI in IN_PIXELS else ())):
            _rescale(part, node if part.nodeType == part.TEXT_NODE else part, scale)
    return left > 0


def _rescale(part, named, scale: tuple[float, float]) -> None:
    """Make a number of pixels true. part: an attribute or a text. named: what has its name."""
    for names, factor in zip(IN_PIXELS.get(named.namespaceURI, ()), scale):
        if named.localName.endswith(names):
            with suppress(ValueError, OverflowError):  # no number
                part.nodeValue = str(round(float(part.nodeValue) * factor))


def _clean_description(node, stays: Callable) -> int:
    left = 0
    for item in list(node.attributes.values()):  # .item(i) would count up to i each time, for hours in the longest packet
        if item.namespaceURI in SYNTAX or not item.prefix:
            continue
        if stays(item):
            left += 1
        else:
            node.removeAttributeNode(item)
    kept = []
    for child in node.childNodes:
        if good := child.nodeType == child.ELEMENT_NODE and stays(child):
            left += 1
        if good or child.nodeType == child.TEXT_NODE:
            kept.append(child)
    node.childNodes[:] = kept  # each removeChild would move all behind it
    return left


def _stays(node) -> bool:
    space, name = node.namespaceURI, node.localName
    if space == TIFF:
        return name in KEPT_OF_TIFF
    if space == IPTC_EXTENSION and name in SOURCE_TYPES:
        return BY_ALGORITHMS in (node.value if node.nodeType == node.ATTRIBUTE_NODE else node.toxml())
    return space in LEFT_OUT and name not in LEFT_OUT[space]


def clean_iptc(data: bytes | None) -> bytes | None:
    """The data sets of records 1 and 2 but for the previews; None if there are none."""
    if not isinstance(data, (bytes, bytearray)):
        return None
    kept, at = bytearray(), 0
    with suppress(struct.error):
        while at + 5 <= len(data) and data[at] == MARK:
            record, number, size = struct.unpack_from(">BBH", data, at + 1)
            start = at + 5
            if size & 0x8000:  # an extended data set: that many bytes hold its size
                count = size & 0x7FFF
                size = int.from_bytes(data[start : start + count], "big")
                start += count
            end = start + size
            if end > len(data):
                break
            if record in (1, 2) and not (record == 2 and number in PREVIEWS):
                kept += data[at:end]
            at = end
    return bytes(kept) or None


def iptc_segment(iptc: bytes) -> bytes | None:
    """The segment of a JPEG that holds IPTC, as Photoshop lays it out; None if it is too long for one."""
    resource = b"8BIM" + struct.pack(">HHI", IPTC_RESOURCE, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
    size = 2 + len(PHOTOSHOP) + len(resource)
    return b"\xff\xed" + struct.pack(">H", size) + PHOTOSHOP + resource if size <= 65535 else None


def tiff_tags(xmp: bytes | None, iptc: bytes | None) -> dict:
    """Both as tags of a TIFF's main directory."""
    tags = {XMP_TAG: (BYTE, xmp), IPTC_TAG: (UNDEFINED, iptc)}
    return {tag: (kind, len(value), value) for tag, (kind, value) in tags.items() if value}
