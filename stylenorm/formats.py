"""Formats that hold animations, by suffix. No Pillow: the command line looks here before it starts anything."""

ANIMATED = {".gif": "gif"}  # what only `stylenorm.animation` writes; WebP and PNG are stills' formats, too
ANIMATABLE = {".gif": "gif", ".webp": "webp", ".png": "png"}
