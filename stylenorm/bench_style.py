"""How far `train-style` comes: from what the encoder predicts towards what training the whole network finds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from stylenorm.catalog import vgg_file
from stylenorm.checkpoint import load_style
from stylenorm.data import find_images, style_name
from stylenorm.engine import Stylizer
from stylenorm.errors import StylenormError
from stylenorm.images import read_picture, short_side
from stylenorm.new_style import NewStyleConfig, train_style
from stylenorm.perceptual import VGGFeatures
from stylenorm.scoring import Tick, against, content_features, mean, paintings_of, square, style_grams, unseen_pictures


def run_new_styles(
    photos: str | Path,
    styles: str | Path,
    names: Sequence[str] = (),
    pictures: int = 6,
    size: int = 512,
    weights: str | Path | None = None,
    config: NewStyleConfig = NewStyleConfig(),
    progress: Tick | None = None,
) -> list[dict]:
    """A row a named style: the mean ``total`` of its painting as ``predicted``, ``trained`` and ``full``.

    ``predicted`` is the encoder's γ and β, ``trained`` what `train_style` makes of them with ``config`` on the
    photographs that come with the package, and ``full`` the named style, which was trained together with the network.
    ``share`` is how much of the way from the first to the last the second has gone, None where there is no way.
    Judged on ``pictures`` held-out photographs of ``size`` x ``size`` px. names: which styles, else all of them.
    """
    stylizer = Stylizer(weights, config.device)
    found = {style_name(p): p for p in find_images(styles)} if names else paintings_of(stylizer, styles)
    names = list(names) or list(found)
    for name in names:
        if name not in stylizer.styles or name not in found:
            raise StylenormError(f"{name!r} is no named style with a painting in {styles}")
    vgg = VGGFeatures.from_file(vgg_file(weights))
    shown = [square(path, size) for path in unseen_pictures(photos, pictures)]
    contents = [content_features(vgg, photo) for photo in shown]
    rows = []
    for name in names:
        goal = style_grams(vgg, short_side(read_picture(found[name]).seen, size))

        def total(style) -> float:
            return mean([against(vgg, stylizer.stylize(x, style, faces=0), content, goal) for x, content in zip(shown, contents)]).total

        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            new = load_style(train_style("benched anew", [found[name]], weights=weights, folder=folder, config=config))
        seconds = time.monotonic() - started
        predicted = total(stylizer.style_from(found[name], config.style_size))
        trained, full = total(new), total(name)
        way = predicted - full
        row = {"style": name, "predicted": round(predicted, 3), "trained": round(trained, 3), "full": round(full, 3)}
        rows.append(row | {"share": round((predicted - trained) / way, 3) if way > 0 else None, "seconds": round(seconds, 1)})
        if progress:
            progress(name)
    return rows
