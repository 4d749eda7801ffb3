"""Network and style files, their headers, and the folder they lie in: what is written comes back, the rest is refused."""

import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

from stylenorm import catalog, checkpoint
from stylenorm.checkpoint import (
    load_network, load_style, network_hash, read_tensors, save_network, save_style, statistics_text, statistics_told
)  # fmt: skip
from stylenorm.errors import StyleError, StylenormError, WeightsError
from stylenorm.generator import Generator, GeneratorConfig
from stylenorm.metadata import read_metadata
from stylenorm.style import Style, StyleEncoder

CONFIG = GeneratorConfig(widths=(4, 6), blocks=(0, 1), num_groups=2)


def network(seed: int = 0, norm: str = "instance") -> tuple[Generator, StyleEncoder]:
    torch.manual_seed(seed)
    config = GeneratorConfig(CONFIG.widths, CONFIG.blocks, norm, CONFIG.num_groups)
    generator, encoder = Generator(config), StyleEncoder(config.channels, statistics=10, hidden=8)
    encoder.mean.normal_()
    encoder.std.uniform_(0.5, 2)
    return generator, encoder


def style(digest: str, seed: int = 0, name: str = "kiss", **about) -> Style:
    flat = torch.randn(1, 2, sum(CONFIG.channels), generator=torch.Generator().manual_seed(seed))
    return Style.from_flat(flat, CONFIG.channels, name=name, network=digest, provenance=about)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A network file and one style file of it."""
    digest = save_network(tmp_path / "network.safetensors", *network(), training={"images": 40})
    save_style(tmp_path / "styles" / "kiss.safetensors", style(digest, title="Der Kuß", year=1908))
    return tmp_path


def refused(call, path: Path | str, *parts: str, kind=StylenormError) -> str:
    """``call`` raises a `StylenormError` of one line that names ``path`` and ``parts``. Nothing else will do."""
    with pytest.raises(StylenormError) as caught:
        call()
    told = str(caught.value)
    assert isinstance(caught.value, kind)
    assert "\n" not in told and len(told) < 500
    assert all(part in told for part in (str(path), *parts)), told
    return told


def tamper(path: Path, change) -> Path:
    """Rewrite a file with ``change(metadata, tensors)`` applied, correct in everything else."""
    with safetensors.safe_open(path, "pt") as file:
        values = json.loads(file.metadata()["stylenorm"])
        tensors = {k: file.get_tensor(k).clone() for k in file.keys()}  # no part of the file, which Windows would not let be written
    changed = change(values, tensors)
    save_file(tensors, path, {"stylenorm": json.dumps(values if changed is None else changed)})
    return path


# ---- round trips -------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["instance", "layer", "group", "batch"])
def test_a_network_comes_back_as_it_was_in_float16(norm, tmp_path):
    generator, encoder = network(norm=norm)
    if norm == "batch":
        generator(torch.rand(3, 3, 16, 16), style("").to(torch.float32))
        generator.stem.norm.running_var[0] = 1e6  # beyond float16
    path = tmp_path / "deep" / "er" / "network.safetensors"
    digest = save_network(path, generator, encoder, training={"images": 40}, note="größer")
    back = load_network(path)
    assert back.hash == digest == network_hash(generator) == network_hash(back.generator)
    if (maps := Path("/proc/self/maps")).exists():  # Windows lets nobody replace a file that is mapped
        assert str(path) not in maps.read_text()
    assert back.about == {"training": {"images": 40}, "note": "größer"}
    assert back.generator.config == generator.config
    assert not back.generator.training and not back.encoder.training
    for ours, theirs in ((generator, back.generator), (encoder, back.encoder)):
        for key, value in ours.state_dict().items():
            wanted = value if "running" in key or not value.is_floating_point() else value.half().float()
            assert theirs.state_dict()[key].dtype == value.dtype
            assert torch.equal(theirs.state_dict()[key], wanted), key
    x, pairs = torch.rand(1, 3, 24, 24), style(digest)
    with torch.no_grad():
        torch.testing.assert_close(back.generator(x, pairs), generator.eval()(x, pairs), atol=0.01, rtol=0)


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
def test_weights_are_read_from_a_folder_whose_name_is_no_utf_8(tmp_path):
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    digest = save_network(strange / "network.safetensors", *network())
    save_style(strange / "kiss.safetensors", style(digest))
    assert load_network(strange / "network.safetensors").hash == digest
    assert torch.equal(load_style(strange / "kiss.safetensors", digest).flat(), style(digest).flat().half().float())


def test_writing_what_was_read_changes_nothing(folder):
    path = folder / "network.safetensors"
    back = load_network(path)
    assert save_network(folder / "again.safetensors", back.generator, back.encoder, **back.about) == back.hash
    assert (folder / "again.safetensors").read_bytes() == path.read_bytes()
    made = load_style(folder / "styles" / "kiss.safetensors")
    save_style(folder / "styles" / "again.safetensors", made)
    assert (folder / "styles" / "again.safetensors").read_bytes() == (folder / "styles" / "kiss.safetensors").read_bytes()


def test_a_loaded_network_can_be_trained_further(folder):
    back = load_network(folder / "network.safetensors")
    back.generator(torch.rand(1, 3, 16, 16), style(back.hash)).sum().backward()
    assert all(p.requires_grad and not p.is_meta and p.grad is not None for p in back.generator.parameters())
    assert all(p.requires_grad and not p.is_meta for p in back.encoder.parameters())


def test_a_compiled_network_is_written_as_any_other(folder, tmp_path):
    back = load_network(folder / "network.safetensors")
    whole, encoder = torch.compile(back.generator), torch.compile(back.encoder)
    assert save_network(tmp_path / "whole.safetensors", whole, encoder) == network_hash(whole) == back.hash
    back.generator.stem = torch.compile(back.generator.stem)
    assert save_network(tmp_path / "part.safetensors", back.generator, None) == back.hash
    for name in ("whole", "part"):
        assert load_network(tmp_path / f"{name}.safetensors").hash == back.hash


def test_loading_leaves_the_random_numbers_alone(folder):
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    load_network(folder / "network.safetensors")
    assert torch.equal(torch.rand(3), wanted)


def test_a_network_may_have_no_encoder(tmp_path):
    save_network(tmp_path / "n.safetensors", network()[0], None)
    assert load_network(tmp_path / "n.safetensors").encoder is None


def test_a_style_comes_back_as_it_was_in_float16(folder):
    back = load_style(folder / "styles" / "kiss.safetensors")
    assert torch.equal(back.flat(), style("").flat().half().float())
    assert (back.name, back.provenance, back.channels) == ("kiss", {"title": "Der Kuß", "year": 1908}, CONFIG.channels)
    assert back.network == load_network(folder / "network.safetensors").hash


def test_statistics_of_a_painting_come_back_and_are_none_where_they_are_damaged():
    told = torch.linspace(-9, 2, 10)[None]
    text = statistics_text(told)
    assert torch.equal(statistics_told(style("", statistics=text)), told.half().float())
    for wrong in ({}, *({"statistics": value} for value in ("", text[:3], "!" + text, 7, statistics_text(told / 0)))):
        assert statistics_told(style("", **wrong)) is None


def test_the_hash_tells_networks_apart():
    """It depends on every weight and on the configuration, but neither on layout nor on what float16 drops."""
    generator, _ = network()
    digest = network_hash(generator)
    assert digest != network_hash(network(seed=1)[0])
    assert digest != network_hash(network(norm="layer")[0])  # the same weights
    for name, parameter in generator.named_parameters():
        with torch.no_grad():
            before = parameter.flatten()[-1].item()
            parameter.view(-1)[-1] = before + 1
            assert network_hash(generator) != digest, name
            parameter.view(-1)[-1] = before
    assert network_hash(generator) == digest
    assert network_hash(generator.to(memory_format=torch.channels_last)) == digest
    with torch.no_grad():
        generator.out.bias += 1e-12
    assert network_hash(generator) == digest


# ---- the files, seen by others -----------------------------------------------------------------


def test_plain_safetensors_reads_them_and_they_are_small(folder):
    for path in (folder / "network.safetensors", folder / "styles" / "kiss.safetensors"):
        tensors = load_file(path)
        assert {t.dtype for t in tensors.values()} == {torch.float16}
        assert path.stat().st_size < 2 * sum(t.numel() for t in tensors.values()) + 8000
    assert (folder / "styles" / "kiss.safetensors").stat().st_size < 1500


def test_the_header_describes_the_file(folder):
    with safetensors.safe_open(folder / "styles" / "kiss.safetensors", "np") as file:
        values = json.loads(file.metadata()["stylenorm"])
    assert values["kind"] == "style" and values["format_version"] == 1 and values["name"] == "kiss"
    assert values["about"] == {"title": "Der Kuß", "year": 1908}
    values = read_metadata(folder / "network.safetensors")
    assert values["kind"] == "network" and values["config"] == CONFIG.to_dict()


@pytest.mark.skipif(os.name == "nt", reason="POSIX modes")
def test_new_files_are_readable_by_others_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        save_network(tmp_path / "n.safetensors", network()[0], None)
    finally:
        os.umask(before)
    assert (tmp_path / "n.safetensors").stat().st_mode & 0o777 == 0o644


def test_writing_leaves_the_umask_alone_which_is_that_of_all_threads(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("another thread's files would get wrong modes"))
    save_style(tmp_path / "s.safetensors", style("0" * 16))
    assert [p.name for p in tmp_path.iterdir()] == ["s.safetensors"]


# ---- refusing files ----------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("read, name", [(load_network, "network.safetensors"), (load_style, "styles/kiss.safetensors")])


@BOTH
def test_a_file_cut_short_anywhere_is_refused(read, name, folder, tmp_path):
    whole = (folder / name).read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    lengths = {0, 1, 7, 8, 9, 10, header - 1, header, header + 1, header + 2, len(whole) // 2, len(whole) - 2, len(whole) - 1}
    lengths |= set(random.Random(0).sample(range(len(whole)), 40))
    path = tmp_path / "cut.safetensors"
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        refused(lambda: read(path), path, kind=WeightsError)


@BOTH
def test_a_file_with_more_at_its_end_is_refused(read, name, folder):
    path = folder / name
    path.write_bytes(path.read_bytes() + b"\0" * 16)
    refused(lambda: read(path), path)


@BOTH
def test_a_flipped_bit_in_any_tensor_is_noticed(read, name, folder):
    """In the generator, in the encoder, in a style: wherever it is."""
    path = folder / name
    whole = path.read_bytes()
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    places = random.Random(1).sample(range(start, len(whole)), 30) + [start, len(whole) - 1]
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(lambda: read(path), path, kind=WeightsError)
    path.write_bytes(whole)
    read(path)


@BOTH
def test_noise_in_the_header_is_refused_or_harmless(read, name, folder):
    """Whatever a damaged header says, the answer is a network, a style or one sentence."""
    path = folder / name
    whole = path.read_bytes()
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    noise = random.Random(2)
    refusals = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(noise.choice([1, 1, 2, 5])):
            damaged[noise.randrange(end)] = noise.randrange(256)
        path.write_bytes(damaged)
        try:
            read(path)
        except StylenormError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refusals += 1
    assert refusals > 75


@BOTH
def test_a_renamed_pickle_is_refused_and_not_run(read, name, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "boom"),))

    for i, write in enumerate([lambda f: torch.save({"a": Bomb()}, f), lambda f: pickle.dump(Bomb(), f)]):
        path = tmp_path / f"pickle{i}.safetensors"
        with open(path, "wb") as file:
            write(file)
        refused(lambda: read(path), path, kind=WeightsError)
    assert not (tmp_path / "boom").exists()


@BOTH
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        b"\0" * 100,
        b"{}",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2**64 - 1) + b"{}" * 50,
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
        struct.pack("<Q", 4) + b"\xff\xfe\xfd\xfc",
        struct.pack("<Q", 200_000) + b"[" * 200_000,
        struct.pack("<Q", 200_000) + b'{"a":' * 40_000,
        b"\xff\xd8\xff\xe0 a photograph",
    ],
)
def test_what_is_no_safetensors_file_is_refused(read, name, content, tmp_path):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    refused(lambda: read(path), path, kind=WeightsError)


def test_a_huge_header_length_takes_no_memory(tmp_path):
    path = tmp_path / "huge.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", 3 * 10**9))
        file.truncate(4 * 10**9)  # sparse
    refused(lambda: load_network(path), path, kind=WeightsError)


@BOTH
def test_what_is_not_there_is_named(read, name, tmp_path):
    refused(lambda: read(tmp_path / "none.safetensors"), tmp_path / "none.safetensors", "does not exist")
    refused(lambda: read(tmp_path), tmp_path, "cannot be read")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such pipes")
def test_a_pipe_is_told_to_be_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # which nobody writes into
    refused(lambda: load_style(tmp_path / "pipe"), tmp_path, "cannot be read: it is a pipe; give a file")


@BOTH
def test_somebody_elses_safetensors_file_is_refused(read, name, tmp_path):
    path = tmp_path / "other.safetensors"
    for about in (None, {"format": "pt"}, {"stylenorm": "no json"}, {"stylenorm": "[1]"}, {"stylenorm": "{}"}, {"stylenorm": "7"}):
        save_file({"gamma": torch.zeros(3)}, path, about)
        refused(lambda: read(path), path, "stylenorm", kind=WeightsError)


def test_a_network_is_no_style_and_a_style_no_network(folder):
    network_file, style_file = folder / "network.safetensors", folder / "styles" / "kiss.safetensors"
    refused(lambda: load_style(network_file), network_file, "network file", "style file")
    refused(lambda: load_network(style_file), style_file, "style file", "network file")


@BOTH
@pytest.mark.parametrize("version, told", [(2, "update"), (99, "update"), (0, ""), (-1, ""), ("1", ""), (None, ""), (1.5, ""), (True, "")])
def test_other_format_versions_are_refused(read, name, version, told, folder):
    path = tamper(folder / name, lambda v, t: v.update(format_version=version))
    refused(lambda: read(path), path, told, kind=WeightsError)


@BOTH
def test_a_kind_of_a_future_version_is_told_to_be_so(read, name, folder):
    path = tamper(folder / name, lambda v, t: v.update(format_version=2, kind="palette"))
    refused(lambda: read(path), path, "version 2", "update")


def drop(key):
    return lambda v, t: (v.pop(key, None), t.pop(key, None)) and None


def config(**values):
    return lambda v, t: v["config"].update(values)


def put(key, value):
    return lambda v, t: v.update({key: value})


@pytest.mark.parametrize(
    "change",
    [
        config(colour=3),
        config(widths=[4, 7]),
        config(widths=[4]),
        config(widths="wide"),
        config(widths=[4, float("inf")]),
        config(widths=[4, float("nan")]),
        config(widths=[4, -6]),
        config(widths=None),
        config(widths=[2**20, 2**20]),
        config(widths=[2**40, 2**40]),
        config(blocks=[0, 10**12]),
        config(blocks=[0, 2]),
        config(blocks=[0, 0]),
        config(norm="spectral"),
        config(norm=["instance"]),
        config(norm="layer"),
        config(norm="group", num_groups=0),
        config(norm="group", num_groups="2"),
        put("config", None),
        put("config", [1]),
        put("config", {}),
        put("encoder", {"hidden": 8}),
        put("encoder", {"hidden": 10**9, "statistics": 10**6}),
        put("encoder", {"hidden": -8, "statistics": 10}),
        put("encoder", {"hidden": 8, "statistics": 10, "depth": 3}),
        put("encoder", "large"),
        put("hash", "0" * 16),
        put("hash", None),
        put("about", "mine"),
        put("about", None),
        put("kind", "resume"),
        put("kind", ["network"]),
        drop("config"),
        drop("hash"),
        drop("generator.out.bias"),
        drop("encoder.mean"),
        lambda v, t: t.update({"generator.more": torch.zeros(2)}),
        lambda v, t: t.update({"generator.out.bias": torch.ones(12, dtype=torch.float16)}),
        lambda v, t: t.update({"generator.out.bias": torch.full((12,), float("nan"))}),
        lambda v, t: t.update({"generator.out.bias": torch.zeros(12, 1, dtype=torch.float16)}),
    ],
)
def test_a_network_file_that_does_not_add_up_is_refused(change, folder):
    path = tamper(folder / "network.safetensors", change)
    refused(lambda: load_network(path), path, kind=WeightsError)


@pytest.mark.parametrize(
    "change",
    [
        put("channels", [4, 6]),
        put("channels", "many"),
        put("channels", [float("inf")]),
        put("channels", [sum(CONFIG.channels) + 1, -1]),
        put("name", None),
        put("name", 7),
        put("about", ["mine"]),
        drop("channels"),
        drop("name"),
        drop("network"),
        drop("gamma"),
        drop("beta"),
        lambda v, t: t.update(gamma=t["gamma"][:-1]),
        lambda v, t: t.update(gamma=t["gamma"][None]),
        lambda v, t: (v.pop("checksum"), t.update(gamma=t["gamma"] * float("nan"))) and None,
        lambda v, t: (v.pop("checksum"), t.update(beta=t["beta"] * float("inf"))) and None,
        lambda v, t: t.update(gamma=t["beta"], beta=t["gamma"]),
    ],
)
def test_a_style_file_that_does_not_add_up_is_refused(change, folder):
    path = tamper(folder / "styles" / "kiss.safetensors", change)
    refused(lambda: load_style(path), path, kind=WeightsError)


def test_files_from_before_the_checksum_are_read(folder):
    for read, name in ((load_network, "network.safetensors"), (load_style, "styles/kiss.safetensors")):
        read(tamper(folder / name, drop("checksum")))


def test_a_style_of_another_network_is_refused(folder, tmp_path):
    other = save_network(tmp_path / "other" / "network.safetensors", *network(seed=1))
    path = folder / "styles" / "kiss.safetensors"
    refused(lambda: load_style(path, other), path, "another network", kind=StyleError)
    load_style(path, load_network(folder / "network.safetensors").hash)


# ---- refusing to write -------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="the system does not tell what is mapped")
@pytest.mark.parametrize("system", ["nt", "posix"])
def test_windows_lets_a_file_be_replaced_whose_tensors_are_in_use(system, folder, monkeypatch):
    """Not while it is mapped: a damaged network could not be fetched again as long as the error was shown. (On Wine it failed so.)"""
    path = folder / "network.safetensors"
    monkeypatch.setattr("stylenorm.stored.os", SimpleNamespace(name=system))
    tensors = read_tensors(path)
    assert (str(path) in Path("/proc/self/maps").read_text()) == (system == "posix") and tensors


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 70000.0])
def test_numbers_that_float16_does_not_hold_are_not_written(value, folder):
    """70000 is finite in float32 and infinite in float16."""
    generator, encoder = network()
    digest = network_hash(generator)
    bad = style(digest, name="wave")
    bad.gammas[0][0, 0] = value
    path = folder / "bad.safetensors"
    with pytest.raises(StyleError, match="'wave'.*finite"):
        save_style(path, bad)
    with torch.no_grad():
        encoder.layers[0].bias[0] = value
    refused(lambda: save_network(path, generator, encoder), path, "finite")
    assert not path.exists()


def test_what_is_on_the_meta_device_is_not_written(folder):
    generator, encoder = network()
    flat = torch.ones(1, 2, sum(CONFIG.channels), device="meta")
    path = folder / "bad.safetensors"
    with pytest.raises(StyleError, match="'wave'.*meta device"):
        save_style(path, Style.from_flat(flat, CONFIG.channels, name="wave", network=network_hash(generator)))
    with pytest.raises(WeightsError, match="weight.*meta device"):
        save_network(path, generator.to("meta"), encoder)
    assert not path.exists()


@pytest.mark.parametrize("lack", [{"name": ""}, {"name": 7}, {"network": None}])
def test_a_style_without_name_or_network_is_not_written(lack, tmp_path):
    flat = torch.ones(1, 2, sum(CONFIG.channels))
    made = Style.from_flat(flat, CONFIG.channels, **{"name": "a", "network": "n"} | lack)
    with pytest.raises(StyleError, match="name"):
        save_style(tmp_path / "s.safetensors", made)


@pytest.mark.parametrize("about", [{"year": date(1908, 1, 1)}, {"colours": {"red"}}, {("a", 1): 2}, "text", [1]])
def test_what_json_cannot_hold_is_not_written_about_a_style(about, tmp_path):
    made = Style.from_flat(torch.ones(1, 2, sum(CONFIG.channels)), CONFIG.channels, name="a", network="n", provenance=about)
    with pytest.raises(StyleError, match="what JSON holds"):
        save_style(tmp_path / "s.safetensors", made)
    assert not list(tmp_path.iterdir())


def test_several_rows_are_not_one_style(tmp_path):
    made = Style.from_flat(torch.ones(2, 2, sum(CONFIG.channels)), CONFIG.channels, name="a", network="n")
    with pytest.raises(StyleError, match="one row"):
        save_style(tmp_path / "s.safetensors", made)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.safetensors").mkdir()
    generator, _ = network()
    for path in (tmp_path / "file" / "n.safetensors", tmp_path / "folder.safetensors", *([Path("/proc/none/n.safetensors")] if os.path.exists("/proc") else [])):
        refused(lambda: save_network(path, generator, None), path, "cannot be written")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.safetensors"]


def test_a_name_that_no_system_takes_is_told(tmp_path):
    generator, _ = network()
    for write in (lambda path: save_network(path, generator, None), lambda path: save_style(path, style("n1"))):
        refused(lambda: write(tmp_path / "a\0b.safetensors"), "the file to write is given as a path")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere, and on Windows everybody into such a folder")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        refused(lambda: save_network(tmp_path / "n.safetensors", network()[0], None), tmp_path / "n.safetensors")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_write_that_is_interrupted_leaves_the_old_file_and_nothing_else(place, error, folder, monkeypatch):
    path = folder / "network.safetensors"
    before = path.read_bytes()

    def fail(*_):
        raise error

    monkeypatch.setattr(checkpoint.os, place, fail)
    with pytest.raises((StylenormError, KeyboardInterrupt)) as caught:
        save_network(path, *network(seed=5))
    assert isinstance(caught.value, KeyboardInterrupt) or "No space left" in str(caught.value)
    assert path.read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["network.safetensors", "styles"]


# ---- the catalog -------------------------------------------------------------------------------


def test_the_styles_of_a_folder_are_listed_by_name(weights):
    entries = catalog.style_entries(weights)
    assert [e.name for e in entries] == ["blue-tree", "red-hill", "tall-grass"]
    assert entries[1].to_dict() == {
        "name": "red-hill",
        "title": "Red Hill",
        "artist": "Jānis Krāsa",
        "year": 1888,
        "file": str(weights / "styles" / "red-hill.safetensors"),
    }
    assert (entries[2].title, entries[2].artist, entries[2].year) == (None, None, None)
    assert catalog.style_entries(weights / "network.safetensors") == entries


def test_the_environment_says_where_weights_lie(weights, monkeypatch, tmp_path):
    monkeypatch.setenv("STYLENORM_WEIGHTS", str(weights))
    assert catalog.weights_folder() == weights
    assert catalog.network_file() == weights / "network.safetensors"
    assert len(catalog.style_entries()) == 3
    monkeypatch.setenv("STYLENORM_WEIGHTS", str(tmp_path / "nowhere"))
    refused(lambda: catalog.network_file(), tmp_path / "nowhere", "does not exist")
    monkeypatch.setenv("STYLENORM_WEIGHTS", "")
    assert catalog.weights_folder().name == "weights"


def test_a_folder_without_network_is_named(tmp_path):
    refused(lambda: catalog.network_file(tmp_path), tmp_path / "network.safetensors", "does not exist", kind=WeightsError)
    refused(lambda: catalog.style_entries(tmp_path), tmp_path)


def test_styles_of_another_network_are_left_out(weights, other_weights, tmp_path):
    shutil.copytree(weights, tmp_path / "w")
    shutil.copy(other_weights / "styles" / "blue-tree.safetensors", tmp_path / "w" / "styles" / "a-stray.safetensors")
    assert [e.file.name for e in catalog.style_entries(tmp_path / "w")] == [f"{n}.safetensors" for n in ("blue-tree", "red-hill", "tall-grass")]


def test_the_users_own_styles_are_listed_after_the_shipped_ones(weights, other_weights, tmp_path, monkeypatch):
    """Those of this network; and a shipped style is not replaced by one of the user's with its name."""
    monkeypatch.setenv("STYLENORM_HOME", str(tmp_path))
    digest = read_metadata(weights / "network.safetensors")["hash"]
    channels = load_style(weights / "styles" / "red-hill.safetensors").channels
    flat = torch.ones(1, 2, sum(channels))
    for name in ("aquarelle", "red-hill"):
        save_style(tmp_path / "styles" / f"{name}.safetensors", Style.from_flat(flat, channels, name=name, network=digest))
    shutil.copy(other_weights / "styles" / "blue-tree.safetensors", tmp_path / "styles" / "stray.safetensors")
    entries = catalog.style_entries(weights)
    assert [e.name for e in entries] == ["blue-tree", "red-hill", "tall-grass", "aquarelle"]
    assert entries[1].file.parent == weights / "styles" and entries[3].file.parent == tmp_path / "styles"


def test_a_network_without_styles_has_none(weights, tmp_path):
    shutil.copy(weights / "network.safetensors", tmp_path)
    assert catalog.style_entries(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"no style", None])
def test_a_broken_style_file_is_named(content, weights, tmp_path):
    shutil.copytree(weights, tmp_path / "w")
    path = tmp_path / "w" / "styles" / "m.safetensors"
    path.write_bytes((tmp_path / "w" / "styles" / "red-hill.safetensors").read_bytes()[:-7] if content is None else content)
    refused(lambda: catalog.style_entries(tmp_path / "w"), path)


@pytest.mark.parametrize("change", [drop("name"), drop("about"), put("about", {"year": None})])
def test_headers_with_gaps_do_not_break_the_list(change, weights, tmp_path):
    shutil.copytree(weights, tmp_path / "w")
    path = tamper(tmp_path / "w" / "styles" / "red-hill.safetensors", change)
    try:
        assert len(catalog.style_entries(tmp_path / "w")) == 3
    except StylenormError as error:
        assert str(path) in str(error)


def test_the_vgg_beside_the_network_comes_first(weights, tmp_path, monkeypatch):
    shutil.copy(weights / "network.safetensors", tmp_path)
    monkeypatch.setenv("STYLENORM_WEIGHTS", str(tmp_path / "shipped"))
    for given in (tmp_path, tmp_path / "network.safetensors"):
        assert catalog.vgg_file(given) == tmp_path / "shipped" / "vgg16.safetensors"
    (tmp_path / "vgg16.safetensors").write_bytes(b"x")
    for given in (tmp_path, tmp_path / "network.safetensors"):
        assert catalog.vgg_file(given) == tmp_path / "vgg16.safetensors"


def test_an_unknown_name_gets_a_suggestion():
    known = ["starry-night", "great-wave", "scream"]
    assert catalog.unknown_style("stary-nigt", known) == "no style is named 'stary-nigt'; did you mean starry-night?"
    assert all(name in catalog.unknown_style("zzz", known) for name in known)
    assert "none" in catalog.unknown_style("zzz", [])
    assert "\n" not in catalog.unknown_style("a\nb", known)


def test_listing_styles_imports_no_torch(weights):
    code = (
        "import sys; from stylenorm.catalog import style_entries; "
        f"print(len(style_entries({str(weights)!r})), *[m for m in ('torch', 'numpy', 'safetensors', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"
