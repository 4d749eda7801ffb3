"""Formats by suffix: what is written, what a folder is searched for, what holds animations. No Pillow: the command line looks here before it starts anything."""

FORMAT = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp", ".tif": "tiff", ".tiff": "tiff"}
FORMAT |= {".avif": "avif", ".heic": "heic", ".heif": "heic", ".jfif": "jpeg", ".jpe": "jpeg"}
PHOTOGRAPHS = frozenset(FORMAT) | set(  # icons and textures can be read as well, but are no photographs
    ".apng .bmp .gif .hif .j2c .j2k .jp2 .jpc .jpf .jpx .mpo .pbm .pcx .pgm .pnm .ppm .psd .qoi .sgi".split()
)
ANIMATED = {".gif": "gif"}  # what only `stylenorm.animation` writes; WebP and PNG are stills' formats, too
ANIMATABLE = {".gif": "gif", ".webp": "webp", ".png": "png"}
