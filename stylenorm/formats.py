"""Formats by suffix: what is written, what a folder is searched for, what holds animations. No Pillow: the command line looks here before it starts anything."""

from collections.abc import Iterable
from os.path import splitext

FORMAT = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff"}
FORMAT |= {".avif": "avif", ".heic": "heic", ".heif": "heic", ".jfif": "jpeg", ".jpe": "jpeg"}
PHOTOGRAPHS = frozenset(FORMAT) | set(  # icons and textures can be read as well, but are no photographs
    ".apng .bmp .gif .hif .j2c .j2k .jp2 .jpc .jpf .jpx .mpo .pbm .pcx .pgm .pnm .ppm .psd .qoi .sgi".split()
)
RAW = frozenset(".3fr .arw .cr2 .cr3 .crw .dng .erf .iiq .mef .mos .mrw .nef .nrw .orf .pef .raf .rw2 .rwl .sr2 .srf .srw .x3f".split())
UNREAD = frozenset(".ai .emf .eps .exr .hdr .jxl .jxr .pdf .pict .svg .tga .wmf .xcf".split())  # pictures all the same
FILMS = frozenset(".3gp .avi .m2ts .m4v .mkv .mov .mp4 .mpg .mts .webm .wmv".split())
FACES = 0.5  # how much of faces' features comes back in a painting, unless the caller says otherwise
PEOPLE, BACKGROUND = "people", "background"  # what a mask may be called, in place of a picture, to be found in each photograph
USUAL_PIXELS = 1280 * 960  # of which larger pictures are painted: strokes are some pixels wide, and mere grain in a larger one
FULL = "full"  # instead of a side: at the picture's own
LONGEST_SIDE = {"jpeg": 65500, "webp": 16383, "avif": 32768}  # px; Pillow's own messages for it are riddles, and AVIFs of 65536 it writes and does not read
ANIMATED = {".gif": "gif"}  # what only `stylenorm.animation` writes; WebP and PNG are stills' formats, too
ANIMATABLE = {".gif": "gif", ".webp": "webp", ".png": "png"}

# Folders of systems: thumbnails that a Synology makes of every photograph, what has been thrown away, a Mac's second half of each file.
OF_SYSTEMS = {"@eadir", "#recycle", "$recycle.bin", "system volume information", "__macosx"}


# Ends of the names of folders that Macs show as one file: Photos, iPhoto and Aperture keep several copies of each photograph in there, small ones, too.
LIBRARIES = ("photoslibrary", "photolibrary", "aplibrary")


def is_hidden(name: str) -> bool:
    """Whether a file or a folder of this name is passed over."""
    return name.startswith(".") or name.casefold() in OF_SYSTEMS or is_library(name)


def is_library(name: str) -> bool:
    """Whether a folder of this name is a Mac's library of photographs."""
    return splitext(name)[1].casefold().endswith(LIBRARIES)


def told_of_others(names: Iterable[str]) -> list[str]:
    """A sentence for cameras' raw files among these names, and one for films: neither are painted with a folder."""
    suffixes = [splitext(name)[1].lower() for name in names]
    kinds = ("raw file", RAW, "save as JPEG, PNG or TIFF what is to be painted"), ("film", FILMS, "stylenorm video paints films, a folder of them, too")
    return [
        f"{len(found)} {what}{'s' if found[1:] else ''} ({', '.join(sorted(set(found)))}) left out; {advice}"
        for what, kind, advice in kinds
        if (found := [suffix for suffix in suffixes if suffix in kind])
    ]
