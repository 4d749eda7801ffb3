"""Colour: profiles to sRGB and back, and one picture's colours on another's brightness."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

from stylenorm.bands import Pixels, in_bands
from stylenorm.profiles import converted, srgb
from stylenorm.tensors import need_rgb

def to_srgb(
    base: Image.Image, icc: bytes | None, deep: np.ndarray | None = None
) -> tuple[Image.Image, bytes | None, np.ndarray | None, Image.Image | np.ndarray | None]:
    """(rgb, kept, deep, own): the base in sRGB, the profile if it is one to convert back into, and what was in its colours, unless they are sRGB's.

    deep: the same picture's samples of 16 bits (see `depth`), converted in place and alike. None where the
        profile has more to it than curves and a matrix: then 8 bits are what there is.

    A profile that is broken, or of another colour space than the pixels, is ignored; one that
    leads only out of its space, as some scanners' do, is used and not kept. CMYK without a
    profile is converted by Pillow's formula, which is brighter than any press.
    """
    try:
        profile = open_profile(icc)
        space = profile.profile.xcolor_space.strip()
        if space == "RGB" and base.mode in ("L", "RGB"):
            rgb, kept = base.convert("RGB"), icc if _can_return(profile) else None
            if is_srgb(profile):
                return rgb, kept, deep, None
            fine = deep[..., :3].copy() if kept and deep is not None else None
            deep = _deep_to_srgb(deep, icc)
            return _transform(profile, _srgb()).apply(rgb), kept, deep, None if kept is None else rgb if deep is None else fine
        if (space, base.mode) in (("GRAY", "L"), ("CMYK", "CMYK"), ("Lab", "LAB")):
            return _transform(profile, _srgb(), base.mode).apply(base), None, _deep_to_srgb(deep, icc), None
    except Exception:  # no profile, or one that LittleCMS or Pillow's wrapper cannot use
        pass
    return base.convert("RGB"), None, deep, None


def _deep_to_srgb(deep: np.ndarray | None, icc: bytes) -> np.ndarray | None:
    return None if deep is None else converted(deep, icc, srgb())


def _can_return(profile: ImageCms.ImageCmsProfile) -> bool:
    with suppress(ImageCms.PyCMSError):
        return bool(_transform(_srgb(), profile))
    return False


def from_srgb(rgb: Image.Image, icc: bytes) -> Image.Image:
    """sRGB -> the colours of an RGB profile that `to_srgb` has kept."""
    profile = open_profile(icc)
    return rgb if is_srgb(profile) else _transform(_srgb(), profile).apply(rgb)


def deep_from_srgb(deep: np.ndarray, icc: bytes) -> np.ndarray | None:
    """The same for samples of 16 bits, in place; None if the profile has more to it than curves and a matrix."""
    return deep if is_srgb(open_profile(icc)) else converted(deep, srgb(), icc)


def open_profile(icc: bytes) -> ImageCms.ImageCmsProfile:
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


def is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
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
    need_rgb(stylized, original)
    if original.size != stylized.size:
        original = original.resize(stylized.size, Image.Resampling.LANCZOS)
    return recolored(stylized, original)


def recolored(tones: Pixels, colours: Pixels) -> Pixels:
    """`keep_color` of two images, or of two arrays (H,W,3), both uint8 or both uint16, of one size."""
    return in_bands(lambda _, *bands: _recolor(*bands), tones, colours)


def _recolor(tones: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """(h,W,3) twice -> (h,W,3), of one type."""
    white = np.iinfo(tones.dtype).max
    luma = (tones @ LUMA / white)[..., None]  # (h,W,1)
    colours = colours.astype(np.float32) / white
    offset = colours - (colours @ LUMA)[..., None]  # (h,W,3), its own luma is 0
    room = np.where(offset > 0, 1 - luma, luma)
    share = (room / np.abs(offset).clip(1e-6)).min(axis=-1, keepdims=True).clip(0, 1)
    return np.rint((luma + share * offset) * white).clip(0, white).astype(tones.dtype)
