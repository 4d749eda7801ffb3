"""Sheets of pictures and loss curves, as PNG files."""

from __future__ import annotations

import csv
from bisect import bisect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from stylenorm.tensors import fitted

BAND = 20  # px, height of the label above a tile
GAP = 6  # px between tiles
FONT = 14, 8  # px, size of the labels, and what it stays above
WINDOW = 50  # steps that a loss is averaged over before it is drawn
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito


def sheet(tiles: Sequence[Image.Image], labels: Sequence[str], columns: int, alpha: Image.Image | None = None) -> Image.Image:
    """Labelled pictures in rows of ``columns``, each in a cell as large as the largest. alpha: "L", of all of them; where it is 0 the sheet stays white."""
    columns, largest = min(columns, len(tiles)), (max(t.width for t in tiles), max(t.height for t in tiles))
    width, height = largest[0] + GAP, largest[1] + BAND + GAP
    canvas = Image.new("RGB", sheet_size(largest, len(tiles), columns), "white")
    draw, (labels, font) = ImageDraw.Draw(canvas), _fitted(labels, width - GAP - 4)
    for i, (tile, label) in enumerate(zip(tiles, labels)):
        x, y = i % columns * width, i // columns * height
        draw.text((x + 4, y + 1), label, fill="black", font=font)
        canvas.paste(tile, (x, y + BAND), alpha and alpha.resize(tile.size, Image.Resampling.BILINEAR))
    return canvas


def sheet_size(tile: tuple[int, int], count: int, columns: int) -> tuple[int, int]:
    """Width and height, in px, of a `sheet` of ``count`` pictures whose largest is ``tile`` px wide and high."""
    columns = min(columns, count)
    return columns * (tile[0] + GAP) - GAP, -(-count // columns) * (tile[1] + BAND + GAP) - GAP


def largest_tile(photo: tuple[int, int], count: int, columns: int, longest: int) -> int:
    """The longer side, in px, of the largest pictures, like a photograph of that size, whose `sheet` has no side above ``longest`` px; 0 for none."""
    return bisect(range(1, longest + 1), longest, key=lambda tile: max(sheet_size(fitted(photo, tile), count, columns)))


def _fitted(labels: Sequence[str], width: int) -> tuple[list[str], ImageFont.FreeTypeFont]:
    """The labels in the largest font in which they are ``width`` px wide at most; what is wider in the smallest one is cut."""
    for size in range(*FONT, -1):
        font = ImageFont.load_default(size)
        if max(map(font.getlength, labels)) <= width:
            break
    return [_cut(label, font, width) for label in labels], font


def _cut(label: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(label) <= width:
        return label
    return next((cut for end in range(len(label) - 1, 0, -1) if font.getlength(cut := f"{label[:end]}…") <= width), "")


def loss_curve(table: Path, path: Path) -> None:
    """Draw loss.csv: content, ten times style, and their smoothed sum against the step."""
    with open(table, newline="") as file:
        rows = [r for r in csv.DictReader(file) if all(r.values())]
    steps = [int(r["step"]) for r in rows]
    with _figure(path) as axes:
        for key in ("total", "content", "style"):
            axes.plot(steps, _smooth([float(r[key]) for r in rows]), label=key, linewidth=1)
        axes.set(xlabel="step", ylabel=f"loss, mean over {WINDOW} steps", yscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.legend()


def _smooth(values: list[float], window: int = WINDOW) -> list[float]:
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    return [(sums[i + 1] - sums[max(0, i + 1 - window)]) / min(window, i + 1) for i in range(len(values))]


@dataclass(frozen=True)
class KindCurves:
    """The losses of several runs that differ in their seeds alone, a value a step."""

    title: str
    runs: Sequence[Sequence[float]]


def kind_curves(kinds: Sequence[KindCurves], path: Path) -> None:
    """A line for the mean of each kind's runs, over a band from the lowest run to the highest."""
    with _figure(path) as axes:
        for color, kind in zip(COLORS, kinds):
            smooth = list(zip(*map(_smooth, kind.runs)))
            first = min(WINDOW, len(smooth) // 4)  # the fall from random weights would flatten all the rest
            steps, smooth = range(first + 1, len(smooth) + 1), smooth[first:]
            axes.plot(steps, [sum(v) / len(v) for v in smooth], label=kind.title, color=color, linewidth=1.5)
            axes.fill_between(steps, [min(v) for v in smooth], [max(v) for v in smooth], color=color, alpha=0.2, linewidth=0)
        axes.set(xlabel="step", ylabel=f"loss, mean over {WINDOW} steps", yscale="log")
        axes.grid(alpha=0.3, which="both")
        axes.legend()


def kind_bars(kinds: Sequence[str], parts: Mapping[str, Sequence[tuple[float, float]]], path: Path, label: str) -> None:
    """A group of bars for each part, a bar a kind: ``parts[part][kind]`` is (mean, deviation)."""
    with _figure(path) as axes:
        width = 0.8 / len(kinds)
        for i, (kind, color) in enumerate(zip(kinds, COLORS)):
            places = [p + (i - (len(kinds) - 1) / 2) * width for p in range(len(parts))]
            heights, errors = zip(*(values[i] for values in parts.values()))
            axes.bar(places, heights, width, yerr=errors, label=kind, color=color, capsize=3)
        axes.set_xticks(range(len(parts)), list(parts))
        axes.set(ylabel=label)
        axes.grid(alpha=0.3, axis="y")
        axes.legend()


@contextmanager
def _figure(path: Path) -> Iterator:
    """The axes of a plot that is written to ``path`` when the block ends. Without pyplot, whose state is the caller's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    yield figure.subplots()
    figure.savefig(path, dpi=120, metadata={"Software": None} if str(path).endswith(".png") else None)
