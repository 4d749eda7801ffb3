"""Sheets of pictures and loss curves, as PNG files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

BAND = 20  # px, height of the label above a tile
GAP = 6  # px between tiles


def sheet(tiles: Sequence[Image.Image], labels: Sequence[str], columns: int) -> Image.Image:
    """Labelled pictures in rows of ``columns``, each in a cell as large as the largest."""
    columns = min(columns, len(tiles))
    width, height = max(t.width for t in tiles) + GAP, max(t.height for t in tiles) + BAND + GAP
    canvas = Image.new("RGB", (columns * width - GAP, -(-len(tiles) // columns) * height - GAP), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(14)
    for i, (tile, label) in enumerate(zip(tiles, labels)):
        x, y = i % columns * width, i // columns * height
        draw.text((x + 4, y + 1), label, fill="black", font=font)
        canvas.paste(tile, (x, y + BAND))
    return canvas


def loss_curve(table: Path, path: Path) -> None:
    """Draw loss.csv: content, ten times style, and their smoothed sum against the step."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with open(table, newline="") as file:
        rows = [r for r in csv.DictReader(file) if all(r.values())]
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    steps = [int(r["step"]) for r in rows]
    for key in ("total", "content", "style"):
        axes.plot(steps, _smooth([float(r[key]) for r in rows]), label=key, linewidth=1)
    axes.set(xlabel="step", ylabel="loss, mean over 50 steps", yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _smooth(values: list[float], window: int = 50) -> list[float]:
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    return [(sums[i + 1] - sums[max(0, i + 1 - window)]) / min(window, i + 1) for i in range(len(values))]
