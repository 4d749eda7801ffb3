"""Maps in temporary files: what is written is read again, what is counted is there, and nothing stays behind."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from types import SimpleNamespace

import pytest
import torch

from stylenorm import spill as spill_module
from stylenorm.errors import ImageError
from stylenorm.spill import MARGIN, Spill, free_disk, spill_folder

SHAPE = (3, 10, 7)


@pytest.mark.parametrize("in_memory", [0, 10**6])
def test_rows_are_read_as_they_were_written(tmp_path, in_memory):
    whole = torch.randn(1, *SHAPE)
    with Spill(tmp_path, in_memory) as spill:
        kept, other = spill.new(SHAPE), spill.new(SHAPE)
        assert (kept.on_disk, spill.disk > 0) == ((True, True) if not in_memory else (False, False))
        for first, last in ((6, 10), (0, 4), (4, 6)):  # in any order, in any memory format
            strip = whole[:, :, first:last]
            kept.write(first, strip.contiguous(memory_format=torch.channels_last) if first else strip)
            other.write(first, torch.zeros_like(strip))
        for first, last in ((0, 10), (3, 4), (8, 10)):
            assert torch.equal(kept.read(first, last), whole[:, :, first:last])
        kept.write(3, whole[:, :, :2])
        assert torch.equal(kept.read(3, 5), whole[:, :, :2]) and torch.equal(kept.read(5, 10), whole[:, :, 5:])


def test_what_is_counted_is_what_lies_on_the_disk(tmp_path):
    with Spill(tmp_path, in_memory=4 * 3 * 10 * 7) as spill:
        first, second, third = (spill.new(SHAPE) for _ in range(3))
        assert [k.on_disk for k in (first, second, third)] == [False, True, True]
        for kept in (second, third):
            kept.write(0, torch.ones(1, *SHAPE))
            kept.file.flush()
        assert spill.disk == sum(os.fstat(k.file.fileno()).st_size for k in (second, third)) == 2 * 840
        spill.free(second)
        spill.free(first)
        assert (spill.disk, spill.peak, spill.memory) == (840, 1680, 0)
        assert not spill.new(SHAPE).on_disk  # there is room again
    assert (spill.disk, spill.memory) == (0, 0) and third.file is None
    assert list(tmp_path.iterdir()) == []


def test_a_dry_one_counts_and_keeps_nothing(tmp_path):
    with Spill(tmp_path, 0, dry=True) as spill:
        kept = spill.new((1000, 10_000, 10_000))
        assert spill.peak == 4 * 10**11 and kept.file is None and list(tmp_path.iterdir()) == []


class Full:
    def seek(self, place):
        pass

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self):
        self.write(b"")


def test_a_disk_that_becomes_full_is_told_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(spill_module, "_unnamed", lambda folder: Full())
    with pytest.raises(ImageError, match="No space left") as caught, Spill(tmp_path, 0) as spill:
        spill.new(SHAPE).write(0, torch.ones(1, *SHAPE))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_takes_no_file_is_named(tmp_path):
    with pytest.raises(ImageError, match="TMPDIR"), Spill(tmp_path / "none", 0) as spill:
        spill.new(SHAPE)


def test_tmpdir_says_where(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert spill_folder() == tmp_path and Spill().folder == tmp_path
    assert free_disk(tmp_path) == pytest.approx(shutil.disk_usage(tmp_path).free - MARGIN, rel=0.05)


@pytest.mark.parametrize("free, wanted", [(MARGIN + 1000, 1000), (MARGIN - 1, 0)])
def test_some_disk_is_left_to_others(tmp_path, monkeypatch, free, wanted):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(total=2**40, used=2**40 - free, free=free))
    assert free_disk(tmp_path) == wanted
