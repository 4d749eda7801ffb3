"""The generator's contract: sizes, independence of neighbours, styles as the only door, a sane start."""

import itertools
import re
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounter

from stylenorm.errors import StylenormError
from stylenorm.functional import moments
from stylenorm.generator import Generator, GeneratorConfig, ResidualBlock, StyledConv, UnfoldingConv, joined_reflect, pad_to, reflect
from stylenorm.layers import ConditionalNorm
from stylenorm.style import Style, regions

torch.set_num_threads(1)  # the maps are tiny

KINDS = ("batch", "layer", "instance", "group")
TINY = dict(widths=(8, 8, 16), blocks=(1, 0, 2), num_groups=4)


def generator_of(norm: str = "instance", **settings) -> Generator:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(**TINY | {"norm": norm} | settings)).eval()
    if norm == "batch":  # moments of some data, not of none
        generator.train()
        for _ in range(3):
            generator(torch.rand(4, 3, 40, 40), style_of(generator))
        generator.eval()
    return generator


def style_of(generator: Generator, rows: int = 1, seed: int = 0) -> Style:
    random = torch.Generator().manual_seed(seed)
    channels = generator.config.channels
    flat = torch.randn(rows, 2, sum(channels), generator=random) * 0.5 + torch.tensor([1.0, 0.0]).view(1, 2, 1)
    return Style.from_flat(flat, channels)


def picture(height: int, width: int, count: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("reflect", [reflect, joined_reflect], ids=["by itself", "for a compiler"])
@pytest.mark.parametrize("size", [(2, 2), (3, 5), (7, 4)])
def test_a_reflected_border_is_torchs_in_either_memory_format(size, reflect):
    torch.manual_seed(0)
    x = torch.rand(2, 3, *size, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    ours, theirs = reflect(x), F.pad(x, (1, 1, 1, 1), mode="reflect")
    assert torch.equal(ours, theirs) and ours.is_contiguous(memory_format=torch.channels_last)
    slope = torch.rand_like(theirs)
    (mine,), (torchs,) = (torch.autograd.grad(y, x, slope) for y in (ours, theirs))
    torch.testing.assert_close(mine, torchs)
    assert torch.autograd.gradcheck(reflect, x) and torch.autograd.gradgradcheck(reflect, x)
    assert torch.equal(reflect(x.contiguous()), theirs)


def test_layers_of_one_shape_share_what_is_compiled(monkeypatch):
    generator, content = generator_of(widths=(8, 12), blocks=(2, 3)), picture(12, 16)
    given = style_of(generator)
    wanted = generator(content, given)
    torch._dynamo.reset()
    counted = CompileCounter()  # of torch's own tests: it counts graphs and compiles nothing
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counted))
    generator.compile_parts()
    for _ in range(2):
        torch.testing.assert_close(generator(content, given), wanted)
    assert counted.frame_count == 2 + 2 + 1 + 1  # 2 on the way down, 5 blocks of two widths, 1 on the way up, the last
    torch._dynamo.reset()


# ---- sizes -------------------------------------------------------------------------------------

SIZES = [(1, 1), (1, 2), (2, 1), (1, 70), (70, 1), (2, 3), (3, 5), (7, 8), (8, 8), (9, 16), (15, 17), (16, 16)]
SIZES += [(17, 70), (31, 33), (33, 31), (63, 64), (64, 65), (69, 70), (3, 200), (257, 2)]


@torch.no_grad()
@pytest.mark.parametrize("norm", KINDS)
def test_output_is_as_large_as_the_input(norm):
    generator = generator_of(norm)
    style = style_of(generator)
    for height, width in SIZES:
        y = generator(picture(height, width), style)
        assert y.shape == (1, 3, height, width)
        assert torch.isfinite(y).all() and y.min() >= 0 and y.max() <= 1


@torch.no_grad()
def test_the_default_network_takes_any_size_too():
    generator = Generator().eval()
    for size in ((1, 1), (16, 16), (33, 65), (31, 70)):
        assert generator(picture(*size), style_of(generator)).shape[2:] == size


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 11])
def test_padding_mirrors_as_often_as_it_takes(length):
    x = torch.arange(length * 2, dtype=torch.float32).view(1, 1, length, 2)
    padded = pad_to(x, 16)
    assert padded.shape == (1, 1, 32, 32)
    column = padded[0, 0, :, 0].tolist()
    wave = list(range(length)) + list(range(length - 2, 0, -1))  # 0 1 2 1 0 1 2 1 ...
    assert column == [2.0 * v for v in itertools.islice(itertools.cycle(wave), 32)]
    assert torch.equal(padded[:, :, :length, :2], x)


def test_a_picture_that_fits_is_not_copied():
    x = picture(32, 48)
    assert pad_to(x, 16) is x


@torch.no_grad()
def test_the_margin_is_cut_off_again_at_the_right_and_lower_edge():
    """A picture and the same picture already mirrored to the padded size have one result where both are."""
    generator = generator_of()
    x = picture(20, 27)
    whole = generator(pad_to(x, generator.config.stride), style_of(generator))
    torch.testing.assert_close(generator(x, style_of(generator)), whole[:, :, :20, :27])


# ---- what is in it -----------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize(
    "settings", [{}, {"widths": (8, 16), "blocks": (0, 0)}, {"widths": (4, 8, 8, 16), "blocks": (2, 1, 0, 1)}]
)
def test_names_are_those_of_the_layers_in_their_order(settings):
    generator = generator_of(**settings)
    called = {module: name for name, module in generator.named_modules() if isinstance(module, StyledConv)}
    seen = []
    for module in called:
        module.register_forward_hook(lambda layer, inputs, output: seen.append((called[layer], output.shape[1])))
    generator(picture(32, 32), style_of(generator))
    assert seen == list(zip(generator.config.names, generator.config.channels))


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (17, 40), (64, 33)])
@pytest.mark.parametrize(
    "settings", [{}, {"widths": (8, 16), "blocks": (0, 0)}, {"widths": (4, 8, 8, 16), "blocks": (2, 1, 0, 1)}]
)
def test_channels_and_region_sizes_are_those_of_the_maps(settings, size):
    generator = generator_of(**settings)
    seen = []
    for module in generator.modules():
        if isinstance(module, ConditionalNorm):
            module.register_forward_hook(lambda m, inputs, y: seen.append((inputs[0].shape[1], tuple(y.shape[2:]))))
    generator(picture(*size), style_of(generator))
    assert tuple(c for c, _ in seen) == generator.config.channels
    assert tuple(hw for _, hw in seen) == generator.region_sizes(*size)


@pytest.mark.parametrize("norm", KINDS)
def test_every_normalization_is_a_conditional_norm_of_the_kind(norm):
    generator = generator_of(norm)
    norms = [m for m in generator.modules() if "norm" in type(m).__name__.lower()]
    assert len(norms) == len(generator.config.channels)
    assert all(type(m) is ConditionalNorm and m.kind == norm for m in norms)
    assert {type(m) for m in generator.modules()} <= {
        Generator, StyledConv, ResidualBlock, UnfoldingConv, ConditionalNorm, nn.Conv2d, nn.ModuleList
    }  # fmt: skip


@pytest.mark.parametrize("norm", KINDS)
def test_the_state_dict_holds_convolutions_and_batch_moments_only(norm):
    generator = generator_of(norm)
    ends = {"running_mean", "running_var", "num_batches_tracked"} if norm == "batch" else set()
    for key in generator.state_dict():
        *_, layer, end = key.split(".")
        assert (layer == "conv" and end == "weight") or key in ("out.weight", "out.bias") or (layer == "norm" and end in ends)
    assert not any("norm" in key for key, _ in generator.named_parameters())


def inert(norm: str) -> set[str]:
    """β of TINY that can do nothing: a constant on a trunk whose next stop is a norm that takes channel means away.

    They are those of the second halves of the deep residual blocks, for the norm that takes each channel's own mean.
    """
    return {"β4", "β6"} if norm == "instance" else set()


@torch.no_grad()
@pytest.mark.parametrize("norm", KINDS)
def test_style_reaches_the_picture_through_every_pair(norm):
    """Each γ and each β alone changes the result, and nothing but them and the content does."""
    generator, x = generator_of(norm), picture(24, 24)
    style = style_of(generator)
    before = generator(x, style)
    for i in range(len(style)):
        for letter, which in (("γ", 0), ("β", 1)):
            pairs = [list(pair) for pair in style]
            shift = torch.linspace(0.2, 0.8, pairs[i][which].shape[1])
            pairs[i][which] = pairs[i][which] + shift
            change = (generator(x, pairs) - before).abs().max()
            if f"{letter}{i}" in inert(norm):
                assert change < 1e-5
            else:
                assert change > 1e-3, f"{letter}{i}"
    assert torch.equal(generator(x, style), before)


@pytest.mark.parametrize("norm", KINDS)
def test_the_gradient_reaches_every_parameter_and_every_pair(norm):
    generator = generator_of(norm).train()
    style = style_of(generator, rows=2).map(lambda t: t.clone().requires_grad_())
    x = picture(24, 40, 2).requires_grad_()
    (generator(x, style) - 0.3).square().sum().backward()
    tensors = dict(generator.named_parameters()) | {f"γ{i}": g for i, g in enumerate(style.gammas)}
    tensors |= {f"β{i}": b for i, b in enumerate(style.betas)} | {"content": x}
    for name in inert(norm):
        assert tensors.pop(name).grad.abs().max() < 1e-2
    for name, tensor in tensors.items():
        assert tensor.grad is not None and torch.isfinite(tensor.grad).all() and tensor.grad.abs().max() > 0.1, name


@torch.no_grad()
def test_each_resolution_on_the_way_down_reaches_its_like_on_the_way_up():
    """With γ = β = 0 an upsampled map is nothing, and the result depends on the content through that skip alone."""
    generator = generator_of(blocks=(0, 0, 0))  # pairs: three down, two up
    x, y = picture(24, 24, seed=1), picture(24, 24, seed=2)
    pairs = list(style_of(generator))
    for i in (3, 4):
        muted = pairs[:i] + [(torch.zeros_like(g), torch.zeros_like(b)) for g, b in pairs[i:]]
        assert (generator(x, muted) - generator(y, muted)).abs().max() > 0.05


def test_batch_norm_follows_its_data_only_in_training():
    generator = generator_of("batch")
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    with torch.no_grad():
        generator(picture(24, 24, 3), style_of(generator))
        assert all(torch.equal(v, before[k]) for k, v in generator.state_dict().items())
        generator.train()(picture(24, 24, 3), style_of(generator))
    moved = {k for k, v in generator.state_dict().items() if not torch.equal(v, before[k])}
    assert {k for k in before if "norm" in k} == moved


# ---- neighbours, rows, regions -----------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_function_transforms_take_many_styles_at_once(layout):
    generator, style = generator_of(), style_of(generator_of(), 3)
    generator.requires_grad_(False).to(memory_format=layout)
    x = picture(20, 24).contiguous(memory_format=layout)

    def painted(flat: torch.Tensor, x: torch.Tensor = x) -> torch.Tensor:
        return generator(x, Style.from_flat(flat[None], generator.config.channels))[0]

    rows = style.flat()
    torch.testing.assert_close(torch.func.vmap(painted)(rows), torch.stack([painted(row) for row in rows]))
    slopes = torch.func.vmap(torch.func.grad(lambda row: painted(row).square().sum()))(rows)
    alone = torch.stack([torch.func.grad(lambda row: painted(row).square().sum())(row) for row in rows])
    torch.testing.assert_close(slopes, alone, rtol=1e-3, atol=1e-3)
    to_content = torch.func.grad(lambda row, x: painted(row, x).square().sum(), 1)
    torch.testing.assert_close(torch.func.vmap(to_content, (0, None))(rows, x)[1], to_content(rows[1], x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_forward_mode_tells_how_a_picture_moves(layout):
    generator = generator_of().requires_grad_(False).double().to(memory_format=layout)
    pairs = list(style_of(generator))
    x, dx = (picture(20, 24, seed=seed).double().contiguous(memory_format=layout) for seed in (0, 1))
    _, tangent = torch.func.jvp(lambda x: generator(x, pairs), (x,), (dx,))
    ahead, behind = (generator(x + s * dx, pairs) for s in (1e-6, -1e-6))
    torch.testing.assert_close(tangent, (ahead - behind) / 2e-6, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("norm", KINDS)
def test_a_result_does_not_depend_on_the_rest_of_the_batch(norm):
    generator = generator_of(norm)
    x = picture(26, 35, 3)
    x[1] = x[1] * 5 - 2  # a very different neighbour
    style = style_of(generator)
    together = generator(x, style)
    for i in range(3):
        torch.testing.assert_close(together[i : i + 1], generator(x[i : i + 1], style), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_with_batch_statistics_it_would_depend_on_the_batch():
    generator = generator_of("batch").train()
    x, style = picture(26, 35, 3), style_of(generator)
    x[1] = x[1] * 5 - 2
    assert (generator(x, style)[:1] - generator(x[:1], style)).abs().max() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("norm", KINDS)
def test_each_picture_of_a_batch_has_its_own_style(norm):
    generator = generator_of(norm)
    x, style = picture(24, 31, 3), style_of(generator, rows=3)
    together = generator(x, style)
    for i in range(3):
        alone = generator(x[i : i + 1], style.map(lambda t: t[i : i + 1]))
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-5, rtol=1e-5)
    assert (together - generator(x, style.map(lambda t: t[:1]))).abs().amax((1, 2, 3))[1:].min() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("norm", KINDS)
@pytest.mark.parametrize("size", [(24, 32), (19, 37)])
def test_regions_of_one_style_are_that_style(norm, size):
    generator = generator_of(norm)
    x, style = picture(*size), style_of(generator)
    masks = torch.rand(2, *size, generator=torch.Generator().manual_seed(3)) + 0.1
    everywhere = regions([style, style], masks, generator.region_sizes(*size))
    torch.testing.assert_close(generator(x, everywhere), generator(x, style), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_two_regions_have_each_their_style():
    """Batch norm's moments do not depend on the picture, so far from the seam each half is that of its style alone."""
    generator = generator_of("batch", widths=(8, 8), blocks=(0, 0))
    x, a, b = picture(32, 128), style_of(generator, seed=1), style_of(generator, seed=2)
    masks = torch.zeros(2, 32, 128)
    masks[0, :, :64], masks[1, :, 64:] = 1, 1
    y = generator(x, regions([a, b], masks, generator.region_sizes(32, 128)))
    left, right = generator(x, a), generator(x, b)
    torch.testing.assert_close(y[..., :40], left[..., :40], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(y[..., 88:], right[..., 88:], atol=1e-5, rtol=1e-5)
    assert (left - right).abs().mean() > 0.05


@torch.no_grad()
def test_two_regions_of_an_instance_norm_are_nearer_to_their_own_style():
    generator = generator_of()
    x, a, b = picture(48, 96), style_of(generator, seed=1), style_of(generator, seed=2)
    masks = torch.zeros(2, 48, 96)
    masks[0, :, :48], masks[1, :, 48:] = 1, 1
    y = generator(x, regions([a, b], masks, generator.region_sizes(48, 96)))
    left, right = generator(x, a), generator(x, b)

    def distance(p, q, columns):
        return (p - q)[..., columns].abs().mean()

    assert distance(y, left, slice(0, 32)) < 0.8 * distance(y, right, slice(0, 32))
    assert distance(y, right, slice(64, 96)) < 0.8 * distance(y, left, slice(64, 96))


@torch.no_grad()
def test_masks_lie_on_the_picture_and_not_on_its_margin():
    """A picture of 33 px is padded to 48: a mask's edge at its 16th pixel must stay at the 16th pixel."""
    generator = generator_of("batch", widths=(4, 4, 4, 4), blocks=(0, 0, 0, 0), num_groups=4)
    assert generator.config.stride == 16
    style = style_of(generator)
    masks = torch.zeros(2, 33, 33)
    masks[0, :16], masks[1, 16:] = 1, 1
    split = regions([style, style.map(lambda t: t + 10)], masks, generator.region_sizes(33, 33))
    finest = (split.gammas[0] - style.gammas[0][:, :, None, None])[0, 0, :, 0]  # 24 rows of 2 px each
    assert finest.shape == (24,)
    torch.testing.assert_close(finest[:8], torch.zeros(8))
    torch.testing.assert_close(finest[8:17], torch.full((9,), 10.0))


# ---- wrong use ---------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [lambda p: p[:-1], lambda p: p + p[:1], lambda p: []])
def test_a_style_with_another_number_of_pairs_is_refused(change):
    generator = generator_of()
    with pytest.raises(ValueError, match="normalizations"):
        generator(picture(16, 16), change(list(style_of(generator))))


def test_content_that_is_no_batch_of_pictures_is_refused_by_its_own_shape():
    generator = generator_of()
    shapes = (3, 16, 16), (16, 3, 16), (1, 3, 16, 16, 16), (1, 4, 16, 16)
    for content in (*map(torch.rand, shapes), torch.zeros(1, 3, 16, 16, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=re.escape(str(tuple(content.shape)))):
            generator(content, style_of(generator))


@pytest.mark.parametrize("norm", KINDS)
def test_no_picture_gives_none(norm):
    generator = generator_of(norm)
    content = picture(20, 24, 0).requires_grad_()
    painting = generator(content, style_of(generator))
    assert painting.shape == (0, 3, 20, 24) and painting.dtype == content.dtype
    painting.sum().backward()
    for shape in ((1, 3, 0, 24), (1, 3, 20, 0)):
        with pytest.raises(ValueError, match=rf"not \(1, 3, {shape[2]}, {shape[3]}\)"):
            generator(torch.rand(shape), style_of(generator))


def test_a_pair_with_other_channels_is_refused():
    generator = generator_of()
    pairs = list(style_of(generator))
    pairs[0] = (pairs[0][0][:, :-1], pairs[0][1])
    with pytest.raises((ValueError, RuntimeError)):
        generator(picture(16, 16), pairs)


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"widths": (8,), "blocks": (1,)}, "at least two"),
        ({"widths": (8, 8), "blocks": (1,)}, "one number of blocks"),
        ({"widths": (8, 0), "blocks": (1, 1)}, "positive"),
        ({"widths": (8, 8), "blocks": (1, -1)}, "not negative"),
        ({"norm": "spectral"}, "batch, layer, instance, group"),
        ({"norm": "group", "num_groups": 7}, "7 groups"),
        ({"norm": "group", "num_groups": 0}, "0 groups"),
    ],
)
def test_settings_that_build_nothing_are_refused_in_one_sentence(settings, told):
    with pytest.raises(StylenormError, match=told) as caught:
        GeneratorConfig(**settings)
    assert "\n" not in str(caught.value)


def test_settings_survive_a_dict_and_unknown_ones_are_named():
    import json

    config = GeneratorConfig(widths=(8, 16), blocks=(1, 2), norm="layer")
    assert GeneratorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(StylenormError, match="colour"):
        GeneratorConfig.from_dict(config.to_dict() | {"colour": 1})


# ---- the start ---------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("size", [(2, 2), (5, 7), (8, 3)])
def test_unfolding_is_upsampling_and_then_a_convolution(size):
    torch.manual_seed(0)
    layer = UnfoldingConv(4, 3).double()
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    x = reflect(torch.randn(2, 4, *size, dtype=torch.float64))
    wanted = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), layer.weight, layer.bias)
    torch.testing.assert_close(F.pixel_shuffle(layer(x), 2), wanted)


@torch.no_grad()
def test_plain_ground_shows_no_checkerboard_whatever_was_learned():
    """The four pixels of each 2 x 2 cell come out equal where the picture is flat, for any weights."""
    generator = generator_of("batch", widths=(8, 8), blocks=(0, 0))
    nn.init.normal_(generator.out.weight, std=0.1)
    content = torch.full((1, 3, 64, 64), 0.7)
    content[..., 40:, 40:] = 0.1  # a corner of another colour, far from the ground that is looked at
    y = generator(content, style_of(generator))[..., :8, :8]
    assert (y - y[..., :1, :1]).abs().max() < 1e-5
    assert (generator(picture(64, 64), style_of(generator)) - y[..., :1, :1]).abs().max() > 0.1


@torch.no_grad()
def test_a_flat_picture_has_no_frame():
    """Reflected borders: a picture of one colour stays one colour, up to its edges."""
    generator = generator_of("batch")
    y = generator(torch.full((1, 3, 40, 56), 0.3), style_of(generator))
    assert (y - y[..., 20:21, 28:29]).abs().max() < 1e-5


def test_two_generators_of_one_seed_are_equal():
    torch.manual_seed(3)
    first = Generator(GeneratorConfig(**TINY)).state_dict()
    torch.manual_seed(3)
    second = Generator(GeneratorConfig(**TINY)).state_dict()
    assert all(torch.equal(v, second[k]) for k, v in first.items())


@torch.no_grad()
def test_memory_format_does_not_matter():
    generator, x = generator_of(), picture(24, 40, 2)
    style = style_of(generator)
    y = generator(x, style)
    z = generator.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), style)
    torch.testing.assert_close(z, y, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_bfloat16_autocast_is_near_float32():
    generator, x = generator_of(), picture(48, 48)
    y = generator(x, style_of(generator))
    with torch.autocast("cpu", torch.bfloat16):
        z = generator(x, style_of(generator))
    assert (z.float() - y).abs().mean() < 0.03


# ---- moments that a caller hands in ------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("norm", KINDS)
def test_moments_handed_in_are_used_instead_of_a_pictures_own(norm):
    generator = generator_of(norm)
    style = style_of(generator)
    kept = {}

    def keep(index, x):
        kept[index] = moments(x, "instance" if norm == "batch" else norm, generator.config.num_groups)
        return kept[index]

    first, second = picture(48, 64), picture(48, 64, seed=1)
    own = generator(first, style, keep)
    assert sorted(kept) == list(range(len(generator.config.channels)))
    if norm != "batch":  # whose own are the running ones
        torch.testing.assert_close(own, generator(first, style), atol=1e-5, rtol=0)
    of_first = generator(second, style, lambda index, x: kept[index])
    assert (of_first - generator(second, style)).abs().max() > 1e-3
    torch.testing.assert_close(generator(first, style, lambda index, x: kept[index]), own)
