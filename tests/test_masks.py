"""Masks from drawings. How masks steer the network is in test_engine.py."""

import numpy as np
import pytest
from PIL import Image

from stylenorm.errors import ImageError
from stylenorm.masks import drawn_mask


def test_drawn_layers_become_a_mask_and_its_rest():
    a, b = Image.new("L", (40, 20)), Image.new("L", (40, 20))
    a.paste(255, (0, 0, 10, 20))
    b.paste(100, (30, 0, 40, 20))  # a thin brush is a brush
    mask, rest = drawn_mask([a, b], 0)
    row = np.asarray(mask)[10]
    assert row[:10].tolist() == row[30:].tolist() == [255] * 10 and not row[10:30].any()
    assert np.array_equal(255 - np.asarray(mask), np.asarray(rest))
    soft = np.asarray(drawn_mask([a], 20)[0])[10].astype(int)
    assert len(set(soft)) > 5 and (np.diff(soft) <= 0).all()
    for layers in ([], [Image.new("L", (4, 4))]):
        with pytest.raises(ImageError, match="paint over"):
            drawn_mask(layers, 0)
    with pytest.raises(ImageError, match="soft edge"):
        drawn_mask([a], 99)
