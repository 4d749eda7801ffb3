"""Arithmetic on γ and β: blends, interpolation, regions, and refusing what makes no sense."""

import math

import pytest
import torch

from stylenorm.errors import StyleError
from stylenorm.style import Style, StyleEncoder, blend, interpolate, regions

CHANNELS = (3, 5, 2)


def style(seed: int, name: str = "", network: str | None = "n1", rows: int = 1, channels=CHANNELS) -> Style:
    flat = torch.randn(rows, 2, sum(channels), generator=torch.Generator().manual_seed(seed))
    return Style.from_flat(flat, channels, name=name or f"style-{seed}", network=network, provenance={"seed": seed})


def refused(call, *parts: str) -> None:
    """``call`` raises a StyleError of one line that names ``parts``."""
    with pytest.raises(StyleError) as caught:
        call()
    told = str(caught.value)
    assert told and "\n" not in told
    assert all(part in told for part in parts), told


# ---- the value ---------------------------------------------------------------------------------


def test_flat_and_back_is_exact_and_in_order():
    flat = torch.arange(2 * 2 * 10.0).view(2, 2, 10)
    made = Style.from_flat(flat, CHANNELS, name="a", network="n")
    assert [g.tolist() for g in made.gammas] == [[[0, 1, 2], [20, 21, 22]], [[3, 4, 5, 6, 7], [23, 24, 25, 26, 27]], [[8, 9], [28, 29]]]
    assert made.betas[0].tolist() == [[10, 11, 12], [30, 31, 32]]
    assert made.channels == CHANNELS and len(made) == 3
    assert torch.equal(made.flat(), flat)


def test_it_is_the_sequence_of_pairs_that_a_generator_takes():
    made = style(0)
    assert [(g.shape, b.shape) for g, b in made] == [((1, c), (1, c)) for c in CHANNELS]
    assert made[1][0] is made.gammas[1] and made[-1][1] is made.betas[2]
    assert [pair[0] is g and pair[1] is b for pair, (g, b) in zip(made[1:], list(made)[1:])] == [True, True]


@pytest.mark.parametrize("shape", [(1, 2, 9), (1, 2, 11), (1, 3, 10), (2, 10), (1, 2, 10, 1)])
def test_a_flat_style_of_another_network_is_refused(shape):
    refused(lambda: Style.from_flat(torch.zeros(shape), CHANNELS), "(N, 2, 10)", str(tuple(shape)))


def test_mapping_keeps_what_is_known():
    made = style(4).to(dtype=torch.float64)
    assert made.gammas[0].dtype == torch.float64
    other = made.with_row(2 * made.row())
    torch.testing.assert_close(other.flat(), 2 * style(4).flat())
    for kept in (made, other):
        assert (kept.name, kept.network, kept.provenance) == ("style-4", "n1", {"seed": 4})


def test_its_numbers_are_not_printed():
    told = repr(style(0, "kiss"))
    assert told.startswith("Style(name='kiss'") and "network='n1'" in told and "tensor" not in told


def test_a_style_can_be_a_key_and_compared():
    a, b = style(0), style(0)
    assert {a: 1, b: 2}[a] == 1 and a == a and a != b


def test_a_style_cannot_be_changed_in_place():
    with pytest.raises(AttributeError):
        style(0).name = "another"


# ---- blending ----------------------------------------------------------------------------------


def test_a_blend_is_the_weighted_mean():
    a, b, c = style(1), style(2), style(3)
    made = blend([(a, 1), (b, 2.5), (c, 0.5)])
    for i in range(3):
        for which in ("gammas", "betas"):
            x, y, z = (getattr(s, which)[i].double() for s in (a, b, c))
            torch.testing.assert_close(getattr(made, which)[i].double(), (x + 2.5 * y + 0.5 * z) / 4, atol=1e-6, rtol=1e-6)
    assert made.network == "n1" and made.channels == CHANNELS


@pytest.mark.parametrize("scale", [1e-30, 0.1, 7, 1e30])
def test_only_the_ratio_of_the_weights_counts(scale):
    a, b = style(1), style(2)
    torch.testing.assert_close(blend([(a, 0.25 * scale), (b, 0.75 * scale)]).flat(), blend([(a, 1), (b, 3)]).flat())


def test_a_blend_of_one_style_is_that_style():
    a, b = style(1), style(2)
    assert torch.equal(blend([(a, 0.3)]).flat(), a.flat())
    assert torch.equal(blend([(a, 5), (b, 0)]).flat(), a.flat())
    assert blend([(b, 0), (a, 5)]).name == "style-1"
    torch.testing.assert_close(blend([(a, 1), (a, 2)]).flat(), a.flat())


def test_a_blend_takes_any_iterable_and_the_order_does_not_matter():
    a, b = style(1), style(2)
    pairs = [(a, 1), (b, 2)]
    torch.testing.assert_close(blend(iter(pairs)).flat(), blend(pairs[::-1]).flat())


def test_a_blend_does_not_change_its_parts():
    a, b = style(1), style(2)
    before = a.flat().clone(), b.flat().clone()
    blend([(a, 1), (b, 1)])
    assert torch.equal(a.flat(), before[0]) and torch.equal(b.flat(), before[1])


@pytest.mark.parametrize(
    "weights", [(0, 0), (-1, 2), (1, -0.001), (math.nan, 1), (math.inf, 1), (1, -math.inf), (1e308, 1e308), (0.0, -0.0)]
)
def test_weights_that_have_no_mean_are_refused(weights):
    refused(lambda: blend([(style(1), weights[0]), (style(2), weights[1])]), "weights")


def test_a_blend_of_nothing_is_refused():
    refused(lambda: blend([]), "at least one")
    refused(lambda: blend(iter([])), "at least one")


def test_names_and_mappings_are_no_styles_here():
    for call in (
        lambda: blend([("kiss", 1), (style(1), 1)]),
        lambda: interpolate(style(1), "kiss", 0.5),
        lambda: regions([style(1), "kiss"], torch.ones(2, 4, 4), [(2, 2)] * 3),
    ):
        refused(call, "'kiss'", "Stylizer.style")
    for pairs in ({style(1): 1, style(2): 1}, [style(1), style(2)], [(style(1), "much")], None):
        refused(lambda: blend(pairs), "(Style, weight) pairs")
    refused(lambda: blend((blend([]), 1) for _ in range(2)), "at least one")


@pytest.mark.parametrize("make", [lambda a, b: blend([(a, 1), (b, 1)]), lambda a, b: interpolate(a, b, 0.5)])
def test_styles_of_two_networks_are_refused_by_name(make):
    refused(lambda: make(style(1, "kiss"), style(2, "wave", network="n2")), "'kiss'", "'wave'", "networks")
    refused(lambda: make(style(1, "kiss"), style(2, "wave", channels=(3, 5, 3))), "'kiss'", "'wave'")


def test_a_style_of_an_unknown_network_hides_no_others():
    """Two networks are two networks, whatever stands first; and what is known is kept."""
    unknown, a, b = style(0, network=None), style(1, "kiss", "n1"), style(2, "wave", "n2")
    refused(lambda: blend([(unknown, 1), (a, 1), (b, 1)]), "'kiss'", "'wave'")
    refused(lambda: regions([unknown, a, b], torch.ones(3, 4, 4), [(2, 2)] * 3), "'kiss'", "'wave'")
    assert blend([(unknown, 1), (a, 1)]).network == "n1"
    assert interpolate(a, unknown, 0.5).network == "n1"


# ---- interpolation -----------------------------------------------------------------------------


def test_interpolation_is_exact_at_both_ends_and_linear_between():
    a, b = style(1), style(2)
    assert torch.equal(interpolate(a, b, 0).flat(), a.flat())
    assert torch.equal(interpolate(a, b, 1).flat(), b.flat())
    for t in (0.25, 0.5, 0.9):
        torch.testing.assert_close(interpolate(a, b, t).flat(), (1 - t) * a.flat() + t * b.flat())
        torch.testing.assert_close(interpolate(a, b, t).flat(), blend([(a, 1 - t), (b, t)]).flat())


def test_interpolation_goes_on_beyond_both_ends():
    a, b = style(1), style(2)
    torch.testing.assert_close(interpolate(a, b, 1.5).flat(), a.flat() + 1.5 * (b.flat() - a.flat()))
    torch.testing.assert_close(interpolate(a, b, -1).flat(), 2 * a.flat() - b.flat())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_styles_of_two_types_interpolate_as_they_blend(dtype):
    a, b = style(1), style(2).to(dtype)
    for made, blended in ((interpolate(a, b, 0.25), blend([(a, 3), (b, 1)])), (interpolate(b, a, 0.25), blend([(b, 3), (a, 1)]))):
        assert made.flat().dtype == blended.flat().dtype
        torch.testing.assert_close(made.flat(), blended.flat(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("t", [math.nan, math.inf, -math.inf])
def test_interpolation_by_no_number_is_refused(t):
    refused(lambda: interpolate(style(1), style(2), t), "finite")


# ---- regions -----------------------------------------------------------------------------------

SIZES = ((8, 12), (4, 6), (8, 12))  # of a 16 x 24 picture in a generator of stride 8


def test_hard_masks_give_each_place_its_style():
    a, b = style(1), style(2)
    masks = torch.zeros(2, 16, 24)
    masks[0, :, :12], masks[1, :, 12:] = 1, 1
    made = regions([a, b], masks, SIZES)
    for i, (h, w) in enumerate(SIZES):
        gamma, beta = made[i]
        assert gamma.shape == beta.shape == (1, CHANNELS[i], h, w)
        for value, x, y in ((gamma, a.gammas[i], b.gammas[i]), (beta, a.betas[i], b.betas[i])):
            torch.testing.assert_close(value[..., : w // 2], x[:, :, None, None].expand(-1, -1, h, w // 2))
            torch.testing.assert_close(value[..., w // 2 :], y[:, :, None, None].expand(-1, -1, h, w // 2))
    assert made.has_regions and not a.has_regions
    assert made.network == "n1" and made.channels == CHANNELS


def test_soft_masks_are_blends_and_need_not_add_up_to_one():
    a, b = style(1), style(2)
    masks = torch.stack([torch.full((16, 24), 0.5), torch.full((16, 24), 1.5)])
    wanted = blend([(a, 1), (b, 3)])
    for (gamma, beta), (g, b_) in zip(regions([a, b], masks, SIZES), wanted):
        torch.testing.assert_close(gamma, g[:, :, None, None].expand_as(gamma))
        torch.testing.assert_close(beta, b_[:, :, None, None].expand_as(beta))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64])
def test_masks_of_any_type_will_do(dtype):
    a, b = style(1), style(2)
    masks = torch.zeros(2, 16, 24)
    masks[0, :5], masks[1, 5:] = 1, 1
    wanted, made = regions([a, b], masks, SIZES), regions([a, b], masks.to(dtype), SIZES)
    assert all(torch.allclose(g, h) and g.dtype == h.dtype for g, h in zip(made.gammas, wanted.gammas))


def test_uint8_masks_do_not_wrap_round():
    masks = torch.full((2, 16, 24), 200, dtype=torch.uint8)
    made = regions([style(1), style(2)], masks, SIZES)
    torch.testing.assert_close(made.gammas[0][0, :, 0, 0], blend([(style(1), 1), (style(2), 1)]).gammas[0][0])


def test_small_masks_are_stretched():
    made = regions([style(1), style(2)], torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]), SIZES)
    torch.testing.assert_close(made.gammas[0][0, :, :, :6], style(1).gammas[0][0, :, None, None].expand(-1, 8, 6))
    torch.testing.assert_close(made.gammas[0][0, :, :, 6:], style(2).gammas[0][0, :, None, None].expand(-1, 8, 6))


def test_masks_of_a_pictures_size_lie_on_it_and_its_margin_and_are_averaged():
    masks = (torch.rand(2, 13, 21, generator=torch.Generator().manual_seed(0)) > 0.5).float() + 0.1
    padded = torch.nn.functional.pad(masks[None], (0, 3, 0, 3), mode="reflect")[0]
    found, wanted = (regions(iter([style(1), style(2)]), m, SIZES) for m in (masks, padded))
    share = torch.nn.functional.avg_pool2d(padded / padded.sum(0), 2)
    for i in (0, 2):
        a, b = (style(k).gammas[i][0, :, None, None] for k in (1, 2))
        for made in (found, wanted):
            torch.testing.assert_close(made.gammas[i][0], a * share[0] + b * share[1])


def bad_masks():
    hole = torch.ones(2, 16, 24)
    hole[:, 3, 3] = 0
    yield hole
    yield torch.full((2, 16, 24), -1.0)
    yield torch.stack([torch.full((16, 24), -1.0), torch.full((16, 24), 2.0)])  # whose sum is above zero
    yield torch.full((2, 16, 24), math.nan)
    yield torch.full((2, 16, 24), math.inf)
    yield torch.ones(3, 16, 24)
    yield torch.ones(16, 24)
    yield torch.ones(2, 24)
    yield torch.ones(1, 2, 16, 24)


@pytest.mark.parametrize("masks", list(bad_masks()))
def test_masks_that_say_nothing_are_refused(masks):
    refused(lambda: regions([style(1), style(2)], masks, SIZES), "masks")


def test_regions_of_nothing_or_of_several_rows_are_refused():
    refused(lambda: regions([], torch.ones(0, 4, 4), SIZES))
    refused(lambda: regions([style(1), style(2, rows=2)], torch.ones(2, 16, 24), SIZES), "one row")
    there = regions([style(1), style(2)], torch.ones(2, 16, 24), SIZES)
    refused(lambda: regions([there, style(2)], torch.ones(2, 16, 24), SIZES), "regions")


@pytest.mark.parametrize("sizes", [None, 8, (8, 8), ["ab"], [(8.5, 12)] * 3, [], SIZES[:2], [*SIZES, (4, 4)]], ids=str)
def test_sizes_of_regions_are_those_of_the_styles_normalizations(sizes):
    refused(lambda: regions([style(1), style(2)], torch.ones(2, 16, 24), sizes), "sizes")


def test_regions_blend_and_interpolate_with_plain_styles():
    """What strength does to a style with regions: each place by itself."""
    a, b, own = style(1), style(2), style(3)
    masks = torch.zeros(2, 16, 24)
    masks[0, :8], masks[1, 8:] = 1, 1
    there = regions([a, b], masks, SIZES)
    for made in (interpolate(own, there, 0.25), blend([(own, 3), (there, 1)])):
        for i, (h, _) in enumerate(SIZES):
            for half, part in ((slice(0, h // 2), a), (slice(h // 2, h), b)):
                wanted = interpolate(own, part, 0.25)[i][0][:, :, None, None]
                torch.testing.assert_close(made[i][0][:, :, half], wanted.expand_as(made[i][0][:, :, half]))
    with pytest.raises(StyleError):
        there.flat()


def test_regions_of_two_picture_sizes_do_not_mix():
    first = regions([style(1), style(2)], torch.ones(2, 16, 24), SIZES)
    second = regions([style(1), style(2)], torch.ones(2, 16, 16), ((8, 8), (4, 4), (8, 8)))
    refused(lambda: interpolate(first, second, 0.5), "size")
    refused(lambda: blend([(first, 1), (second, 1)]), "size")


# ---- the encoder -------------------------------------------------------------------------------


def test_the_encoder_starts_near_the_plain_style_and_tells_paintings_apart():
    torch.manual_seed(0)
    encoder = StyleEncoder(CHANNELS, statistics=12, hidden=32)
    flat = encoder(torch.randn(5, 12))
    assert flat.shape == (5, 2, 10)
    assert (flat[:, 0] - 1).abs().mean() < 0.02 and flat[:, 1].abs().mean() < 0.02  # three times that with torch.nn's weights
    assert flat.std(0).min() > 1e-4


def test_the_encoder_standardizes_and_limits_what_it_reads():
    torch.manual_seed(0)
    encoder = StyleEncoder(CHANNELS, statistics=12, hidden=8)
    x = torch.randn(3, 12)
    plain = encoder(x)
    encoder.mean.fill_(2.0)
    encoder.std.fill_(3.0)
    torch.testing.assert_close(encoder(x * 3 + 2), plain)
    assert torch.isfinite(encoder(torch.full((1, 12), 1e30))).all()
    assert torch.equal(encoder(torch.full((1, 12), 1e30)), encoder(torch.full((1, 12), 1e20)))


def test_the_encoder_draws_back_what_is_far_from_all_paintings():
    torch.manual_seed(0)
    encoder = StyleEncoder(CHANNELS, statistics=400, hidden=8)
    direction = torch.randn(1, 400).clamp(-1.5, 1.5)
    direction /= direction.square().mean().sqrt()
    torch.testing.assert_close(encoder(2.4 * direction), encoder(2 * direction))  # below the limit of single numbers
    assert not torch.equal(encoder(1.9 * direction), encoder(2 * direction))  # near ones are read as they are
    both = encoder(torch.cat([direction, 2.4 * direction]))  # each row by itself
    torch.testing.assert_close(both[:1], encoder(direction))


def test_the_encoder_is_learned_whole():
    torch.manual_seed(0)
    encoder = StyleEncoder(CHANNELS, statistics=12, hidden=8)
    encoder(torch.randn(4, 12)).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in encoder.parameters())
