"""Films of high dynamic range, against FFmpeg's own conversion."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from stylenorm.hdr import SIDE, TRANSFERS, _table, in_standard_range, is_hdr

HLG, PQ = 18, 16
GREYS = Image.fromarray(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2))


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_greys_stay_grey_and_in_their_order(transfer):
    made = np.asarray(in_standard_range(GREYS, transfer), int)[0]
    assert np.ptp(made, axis=1).max() <= 6 and np.ptp(made[:230], axis=1).max() <= 3
    assert (np.diff(made[:240, 1]) >= 0).all() and made[0].max() <= 1 and made[-1].min() >= 250  # above that, PQ has 7,000 cd/m2


def test_lights_are_fainter_and_not_cut_off():
    """White of 203 cd/m2 is at 75 % of HLG and at 58 % of PQ (ITU-R BT.2408); what is brighter still differs."""
    for transfer, white in ((HLG, 191), (PQ, 148)):
        made = np.asarray(in_standard_range(GREYS, transfer), int)[0, :, 1]
        assert 150 < made[white] < 200 and (np.diff(made[white::8]) > 0).all()


def test_colours_of_a_wider_space_are_less_of_a_mixture_in_a_narrower_one():
    red = Image.new("RGB", (2, 2), (128, 90, 80))
    before, after = ((r - b) / r for r, _, b in (red.getpixel((0, 0)), in_standard_range(red, HLG).getpixel((0, 0))))
    assert after > before + 0.03


def test_any_other_film_is_left_alone():
    assert in_standard_range(GREYS, 1) is GREYS and not is_hdr(2) and is_hdr(HLG)


@pytest.mark.slow  # FFmpeg takes seconds for each
@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_the_tables_are_what_ffmpeg_computes(transfer):
    av = pytest.importorskip("av")
    steps = np.linspace(0, 65535, SIDE).round().astype(np.uint16)
    b, g, r = np.meshgrid(steps, steps, steps, indexing="ij")
    frame = av.VideoFrame.from_ndarray(np.stack([r, g, b], -1).reshape(SIDE * SIDE, SIDE, 3), format="rgb48le")
    frame.color_range, frame.color_trc, frame.color_primaries, frame.colorspace = 2, transfer, 9, 0
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    graph = av.filter.Graph()
    chain = [
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
        graph.add("scale", "out_range=pc:out_primaries=bt709:out_transfer=bt709:intent=perceptual"),
        graph.add("format", "rgb48le"),
        graph.add("buffersink"),
    ]
    for one, next_one in zip(chain, chain[1:]):
        one.link_to(next_one)
    graph.configure()
    chain[0].push(frame)
    made = chain[-1].pull().to_ndarray().reshape(-1, 3) / 65535
    ours = np.asarray(_table(TRANSFERS[transfer]).table).reshape(-1, 3)
    assert np.abs(made - ours).max() < 1.5 / 255
