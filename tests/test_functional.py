"""The pure functions against their formulas, and the smallest epsilon at its edge."""

import math

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from stylenorm import functional, fused
from stylenorm.functional import (
    EPSILON,
    KINDS,
    adain,
    inject,
    minimum_epsilon,
    modulate,
    moments,
    normalize,
    renormalize,
)
from stylenorm.layers import BatchNorm2d, ConditionalNorm

torch.set_num_threads(1)

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def by_hand(x, kind, groups):
    """Mean and biased variance of each element's companions, one output element at a time."""
    n, c, h, w = x.shape
    mean, var = torch.empty(n, c, dtype=x.dtype), torch.empty(n, c, dtype=x.dtype)
    for i in range(n):
        for j in range(c):
            first = j // (c // groups) * (c // groups)
            members = {
                "batch": x[:, j],
                "layer": x[i],
                "instance": x[i, j],
                "group": x[i, first : first + c // groups],
            }[kind]
            values = members.flatten().tolist()
            mean[i, j] = math.fsum(values) / len(values)
            var[i, j] = math.fsum((v - mean[i, j].item()) ** 2 for v in values) / len(values)
    return mean[:, :, None, None], var[:, :, None, None]


@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_the_formula(kind):
    torch.manual_seed(0)
    x = torch.randn(3, 6, 5, 2, dtype=torch.float64) + 3
    mean, var = moments(x, kind, 3)
    expected_mean, expected_var = by_hand(x, kind, 3)
    torch.testing.assert_close(mean.expand(3, 6, 1, 1), expected_mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(var.expand(3, 6, 1, 1), expected_var, rtol=1e-12, atol=1e-12)


def test_moments_over_any_axes():
    x = torch.randn(2, 3, 4, 5, 6)
    mean, var = moments(x, dims=(1, 4))
    assert mean.shape == var.shape == (2, 1, 4, 5, 1)
    torch.testing.assert_close(mean, x.mean((1, 4), keepdim=True))
    torch.testing.assert_close(var, x.var((1, 4), keepdim=True, correction=0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_moments_are_kept_wide(dtype):
    mean, var = moments(torch.randn(2, 4, 3, 3).to(dtype))
    assert mean.dtype == var.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_variance_survives_a_large_mean():
    x = torch.randn(1, 2, 64, 64, dtype=torch.float64).float() * 0.1 + 1000
    var = moments(x)[1]
    torch.testing.assert_close(var.double(), moments(x.double())[1], rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_pieces_make_the_whole(kind):
    torch.manual_seed(1)
    x, gamma, beta = (torch.randn(s, dtype=torch.float64) for s in ((2, 4, 5, 3), (2, 4), (2, 4)))
    mean, var = moments(x, kind, 2)
    expected = gamma[:, :, None, None] * (x - mean) / (var + 1e-3).sqrt() + beta[:, :, None, None]
    whole, seen_mean, seen_var = renormalize(x, gamma, beta, kind, 2, eps=1e-3)
    for y in (
        modulate(normalize(x, mean, var, 1e-3), gamma, beta),
        inject(x, mean, var, gamma, beta, 1e-3),
        whole,
    ):
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(seen_mean, mean) and torch.equal(seen_var, var)
    for y in (normalize(x, mean, var, 1e-3), renormalize(x, None, None, kind, 2, 1e-3)[0]):
        torch.testing.assert_close(y, (x - mean) / (var + 1e-3).sqrt(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("style", [(4,), (1, 4), (2, 4), (2, 4, 3, 2), (1, 4, 3, 2), None])
def test_gradients_of_the_whole(kind, style):
    torch.manual_seed(2)
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    inputs = [x]
    if style:
        inputs += [torch.randn(style, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def run(x, gamma=None, beta=None):
        return renormalize(x, gamma, beta, kind, 2)[0]

    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 6, 6, 7), (1, 16, 16, 16), (2, 4, 1, 9)])
@pytest.mark.parametrize("rows", [1, None, 0])
def test_fused_norms_are_the_same_as_the_written_out_ones(shape, rows, kind, dtype):
    torch.manual_seed(4)
    n, c = rows or shape[0], shape[1]
    x = (3 * torch.randn(shape) + 5).to(dtype)
    pair, dy = [] if rows == 0 else [torch.randn(n, c), torch.randn(n, c)], torch.randn(shape).to(dtype)
    found = []
    for leaf in (x.to(memory_format=torch.channels_last), x.contiguous(), x.double()):
        leaves = [t.clone().to(torch.float64 if leaf.dtype == torch.float64 else t.dtype) for t in pair]
        leaves = [t.requires_grad_() for t in (leaf.clone(memory_format=torch.preserve_format), *leaves)]
        y, mean, var = renormalize(*leaves, *([] if pair else [None, None]), kind, 2)
        assert y.dtype == leaf.dtype
        slopes = torch.autograd.grad(y, leaves, dy.to(y.dtype))
        found.append([t.double() for t in (y, mean, var, *slopes)])
    closeness = {torch.bfloat16: 2**-7, torch.float32: 2**-19}[dtype]  # bfloat16 has 8 bits, float32 has 24
    for quick, written, exact in zip(*found):
        assert quick.shape == written.shape == exact.shape
        for ours in (quick, written):
            assert (ours - exact).abs().max() <= closeness * exact.abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_maps_take_the_fused_kernels_and_stay_channels_last(kind, monkeypatch):
    called = []
    monkeypatch.setattr(functional, "fused", lambda *a: called.append("forward") or fused.fused(*a))
    monkeypatch.setattr(functional, "fused_gradient", lambda *a: called.append("backward") or fused.fused_gradient(*a))
    x = torch.randn(2, 4, 5, 6).to(memory_format=torch.channels_last).requires_grad_()
    y = renormalize(x, torch.ones(1, 4), torch.zeros(1, 4), kind, 2)[0]
    y.pow(3).sum().backward()
    assert called == ["forward", "backward"]
    assert all(t.is_contiguous(memory_format=torch.channels_last) for t in (y, x.grad))
    plain = x.detach().contiguous().requires_grad_()
    renormalize(plain, torch.ones(1, 4), torch.zeros(1, 4), kind, 2)[0].pow(3).sum().backward()
    assert called == ["forward", "backward"]
    torch.testing.assert_close(x.grad, plain.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_fused_variance_of_a_nearly_constant_map(kind):
    torch.manual_seed(6)
    x = (1 + 1e-4 * torch.randn(2, 4, 9, 9)).to(memory_format=torch.channels_last)
    for gamma in (torch.ones(1, 4), None):
        found = renormalize(x, gamma, gamma, kind, 2)
        for ours, exact in zip(found, renormalize(x.double(), gamma, gamma, kind, 2)):
            torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-4)  # 1 / sqrt(eps) is 300
        assert (found[2].double() - moments(x.double(), kind, 2)[1]).abs().max() < 1e-11
        flat = renormalize(torch.ones_like(x), gamma, gamma, kind, 2)
        assert (flat[2] == 0).all() and torch.isfinite(flat[0]).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_fused_variance_of_a_large_map(dtype):
    torch.manual_seed(9)
    x = torch.randn(1, 2, 1024, 1023).to(dtype).to(memory_format=torch.channels_last)
    exact = x.double().var((2, 3), correction=0, keepdim=True)
    assert (renormalize(x, None, None)[2].double() - exact).abs().max() < 1e-5  # 5e-4 if added up one by one


@pytest.mark.parametrize("kind", KINDS)
def test_second_derivatives_of_fused_norms(kind):
    torch.manual_seed(7)
    x = torch.randn(2, 4, 5, 6).to(memory_format=torch.channels_last).requires_grad_()
    wide = x.detach().double().requires_grad_()
    found = []
    for leaf in (x, wide):
        y = renormalize(leaf, torch.ones(1, 4), torch.ones(1, 4), kind, 2)[0]
        (slope,) = torch.autograd.grad(y.pow(3).sum(), leaf, create_graph=True)
        found.append(torch.autograd.grad(slope.pow(2).sum(), leaf)[0].double())
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_fused_norms_leave_what_is_beyond_float32_to_the_others(kind):
    torch.manual_seed(5)
    x = torch.randn(2, 3, 8, 8)
    gamma, beta = torch.rand(1, 3), torch.rand(1, 3)
    huge = (x * 1e30).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
    y, _, var = renormalize(huge, gamma, beta, kind, 3)
    assert torch.isinf(var).all()
    torch.testing.assert_close(y, renormalize((x * 1e30).bfloat16().contiguous(), gamma, beta, kind, 3)[0])
    y.sum().backward()
    assert torch.isfinite(huge.grad).all()


def test_gradients_where_only_one_of_gamma_and_beta_is_by_region():
    x, full = (torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    small = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    for pair in ((small, full), (full, small)):
        assert torch.autograd.gradcheck(lambda x, *pair: renormalize(x, *pair)[0], (x, *pair))
        assert torch.autograd.gradgradcheck(lambda x, *pair: renormalize(x, *pair)[0], (x, *pair))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("many", ["gamma", "beta"])
def test_gradients_where_only_one_of_gamma_and_beta_is_by_sample(many, kind):
    torch.manual_seed(0)
    x = torch.randn(3, 4, 5, 4).requires_grad_()
    gamma, beta = (torch.randn(3 if name == many else 1, 4, requires_grad=True) for name in ("gamma", "beta"))
    found = []
    for view in (x, x.contiguous(memory_format=torch.channels_last)):  # the second one is for the fused kernels
        y = renormalize(view, gamma, beta, kind, 2)[0]
        found.append(torch.autograd.grad((y * torch.linspace(-1, 2, y.numel()).view_as(y)).sum(), (x, gamma, beta)))
    for ours, theirs in zip(*found):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_gradients_of_the_pieces():
    torch.manual_seed(3)
    x, gamma, beta = (
        torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 4, 3, 2), (2, 4), (2, 4))
    )
    for kind in KINDS:
        assert torch.autograd.gradcheck(lambda x: moments(x, kind, 2), (x,))
        assert torch.autograd.gradgradcheck(lambda x: moments(x, kind, 2), (x,))
    mean, var = (t.detach().requires_grad_() for t in moments(x))
    assert torch.autograd.gradcheck(normalize, (x, mean, var))
    assert torch.autograd.gradcheck(modulate, (x, gamma, beta))
    assert torch.autograd.gradcheck(inject, (x, mean, var, gamma, beta))


def test_function_transforms():
    x = torch.randn(3, 2, 4, 5, 5)
    many = torch.func.vmap(lambda x: renormalize(x, None, None)[0])(x)
    torch.testing.assert_close(many, renormalize(x.flatten(0, 1), None, None)[0].view_as(x))
    slope = torch.func.grad(lambda x: renormalize(x, None, None)[0].pow(3).sum())(x[0])
    leaf = x[0].clone().requires_grad_()
    renormalize(leaf, None, None)[0].pow(3).sum().backward()
    torch.testing.assert_close(slope, leaf.grad)


@pytest.mark.parametrize("kind", KINDS)
def test_function_transforms_of_channels_last_maps(kind):
    torch.manual_seed(8)
    many = torch.randn(3, 2, 4, 5, 5)
    x, pairs = many[0].to(memory_format=torch.channels_last), torch.randn(3, 1, 4)

    def run(x, pair=pairs[0]):
        return renormalize(x, pair, pair, kind, 2)[0]

    images = torch.stack([x.to(memory_format=torch.channels_last) for x in many])
    torch.testing.assert_close(torch.func.vmap(run)(images), torch.stack([run(x) for x in many]))
    torch.testing.assert_close(torch.func.vmap(run, (None, 0))(x, pairs), torch.stack([run(x, p) for p in pairs]))
    jacobian = torch.func.jacrev(run)(x)
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(run, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", KINDS)
def test_many_gradients_at_once(kind, layout):
    torch.manual_seed(9)
    x, gamma, beta = torch.randn(2, 4, 3, 2).to(memory_format=layout).requires_grad_(), torch.randn(4), torch.randn(4)
    y, slopes = renormalize(x, gamma, beta, kind, 2)[0], torch.randn(3, 2, 4, 3, 2)
    (many,) = torch.autograd.grad(y, x, slopes, is_grads_batched=True, retain_graph=True)
    one_by_one = [torch.autograd.grad(y, x, slope, retain_graph=True)[0] for slope in slopes]
    torch.testing.assert_close(many, torch.stack(one_by_one), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("error:There is a performance drop")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_for_each_sample(kind, dtype):
    torch.manual_seed(12)
    x, pair = torch.randn(3, 1, 4, 3, 2).to(dtype), torch.randn(2, 4)
    if dtype == torch.bfloat16:
        x[1] *= 2.0**80  # whose squares are beyond all numbers

    def loss(pair, x):
        return renormalize(x, *pair, kind, 2)[0].float().sin().sum()

    gradients = torch.func.grad(loss, (0, 1))
    torch.testing.assert_close(torch.func.vmap(gradients, (None, 0))(pair, x), tuple(map(torch.stack, zip(*(gradients(pair, one) for one in x)))))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", KINDS)
def test_function_transforms_leave_a_map_alone_that_they_do_not_transform(kind, layout, dtype):
    """`torch.func.jacrev` by γ wrote the centred map over the map, and the others ended in an error for that."""
    torch.manual_seed(14)
    x, pair = torch.randn(2, 4, 3, 2).add(5).to(dtype, memory_format=layout), torch.randn(1, 4)
    before, weights = x.clone(), torch.randn(2, 4, 3, 2)

    def run(gamma):
        return (renormalize(x, gamma, pair, kind, 2)[0].float() * weights).sum((0, 2, 3))

    expected = torch.autograd.functional.jacobian(run, pair)
    for way in (torch.func.jacrev, torch.func.jacfwd):
        torch.testing.assert_close(way(run)(pair), expected, rtol=3e-2, atol=3e-2)
        assert torch.equal(x, before)
    torch.func.hessian(lambda gamma: run(gamma).square().sum())(pair)
    torch.func.grad(lambda y: (adain(y, x) + moments(x, kind, 2)[0]).sum())(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_mode_derivatives(kind, layout):
    torch.manual_seed(10)
    x, dx = (torch.randn(2, 4, 3, 2, dtype=torch.float64).to(memory_format=layout) for _ in range(2))
    pair, dpair = (torch.randn(2, 1, 4, dtype=torch.float64) for _ in range(2))

    def run(x, pair):
        return renormalize(x, *pair, kind, 2)[0]

    _, tangent = torch.func.jvp(run, (x, pair), (dx, dpair))
    ahead, behind = (run(x + s * dx, pair + s * dpair) for s in (1e-6, -1e-6))
    torch.testing.assert_close(tangent, (ahead - behind) / 2e-6, rtol=1e-6, atol=1e-6)

    def loss(x):
        return run(x, pair).pow(3).sum()

    torch.testing.assert_close(torch.func.hessian(loss)(x), torch.autograd.functional.hessian(loss, x))


class Tagged(torch.Tensor):
    """As the tensors of other packages, MONAI's among them."""


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tensor_of_another_class_stays_one(kind, layout):
    x, pair = torch.randn(2, 4, 3, 2).to(memory_format=layout), torch.randn(2, 1, 4)
    found = renormalize(x.as_subclass(Tagged), *pair, kind, 2)[0]
    assert type(found) is Tagged
    torch.testing.assert_close(found.as_subclass(torch.Tensor), renormalize(x, *pair, kind, 2)[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_channels_last_maps_of_no_numbers_and_watched_ones(kind, dtype):
    def run(x, pair):
        return renormalize(x, pair, pair, kind, 2)[0]

    def some():
        return torch.randn(2, 4, 5, 6, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_(), torch.randn(1, 4)

    with FakeTensorMode():
        x, pair = some()
        run(x, pair).sum().backward()
        assert x.grad.shape == x.shape
    x, pair = some()
    torch.testing.assert_close(make_fx(run)(x, pair)(x, pair), run(x, pair), rtol=1e-2, atol=1e-2)


def test_modulate_by_region_and_by_sample():
    x = torch.randn(2, 3, 4, 5)
    gamma, beta = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(modulate(x, gamma, beta), gamma * x + beta)
    y = modulate(x, gamma[:1, :, 0, 0], beta[:1, :, 0, 0])
    torch.testing.assert_close(y, gamma[:1, :, :1, :1] * x + beta[:1, :, :1, :1])
    assert modulate(x.bfloat16(), gamma, beta).dtype == torch.bfloat16


def test_errors():
    x = torch.randn(2, 4, 3, 3)
    for call in (
        lambda: moments(x, "spectral"),
        lambda: moments(x, "group", 3),
        lambda: moments(x, "group"),
        lambda: moments(x, "group", -2),
        lambda: moments(x[0]),
        lambda: moments(x[None]),
        lambda: renormalize(x[0], None, None),
        lambda: modulate(x, torch.ones(2, 3), torch.ones(2, 3)),
        lambda: modulate(x, torch.ones(3, 4), torch.ones(3, 4)),
        lambda: modulate(x, torch.ones(2, 4, 3, 1), torch.ones(2, 4, 3, 1)),
        lambda: renormalize(x, torch.ones(2, 4, 3), torch.ones(2, 4, 3)),
        lambda: modulate(x, torch.tensor(2.0), torch.tensor(1.0)),
        lambda: adain(x, torch.randn(3, 4, 3, 3)),
    ):
        with pytest.raises(ValueError):
            call()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_what_has_no_fractions_is_refused_where_the_result_would_be_of_its_dtype(dtype):
    x = (torch.arange(50).view(1, 2, 5, 5) * 5).to(dtype)
    ones = torch.ones(1, 2)
    for call in (
        lambda: normalize(x, torch.zeros(1), torch.ones(1)),
        lambda: modulate(x, ones, ones),
        lambda: inject(x, torch.zeros(1), torch.ones(1), ones, ones),
        lambda: renormalize(x, ones, ones),
        lambda: adain(x, torch.rand(1, 2, 4, 4)),
        lambda: BatchNorm2d(2)(x),
        lambda: BatchNorm2d(2).eval()(x),
        lambda: ConditionalNorm(2)(x, ones, ones),
    ):
        with pytest.raises(ValueError, match="floating point"):
            call()
    if dtype != torch.complex64:
        torch.testing.assert_close(moments(x), moments(x.float()))


@pytest.mark.parametrize("shape", [(4,), (1, 4), (5, 4, 1, 1), (2, 4, 1, 2), (2, 2, 4, 1, 1)])
def test_moments_that_do_not_fit_are_refused(shape):
    """Running moments (C,) lay along W where that was C, more samples made x larger, and others were told of from the inside."""
    x, t, layer = torch.randn(2, 4, 4, 4), torch.rand(shape), ConditionalNorm(4)
    for call in (lambda: normalize(x, t, t), lambda: normalize(x, torch.zeros(4, 1, 1), t), lambda: layer(x, torch.ones(1, 4), torch.ones(1, 4), (t, t))):
        with pytest.raises(ValueError, match=r"variance of shape .* does not fit a map of \(2, 4, 4, 4\); those of channels are \(C, 1, 1\)"):
            call()


def test_moments_that_broadcast_are_taken():
    for x in (torch.randn(2, 4, 4, 4), torch.randn(3, 4), torch.randn(3, 4, 5), torch.tensor(3.0)):
        for shape in ((), (1,) * x.dim(), x.shape[1:], x.shape):
            torch.testing.assert_close(normalize(x, torch.full(shape, 2.0), torch.full(shape, 3.0), 1.0), (x - 2) / 2)


# adain


def test_adain_is_the_papers_formula():
    torch.manual_seed(4)
    content, style = torch.randn(2, 3, 6, 5) * 2 + 1, torch.randn(2, 3, 9, 4) * 0.3 - 2
    y = adain(content, style)
    for i in range(2):
        for j in range(3):
            c, s = content[i, j], style[i, j]
            sigma_c, sigma_s = ((t.var(correction=0) + 1e-5).sqrt() for t in (c, s))
            torch.testing.assert_close(y[i, j], sigma_s * (c - c.mean()) / sigma_c + s.mean())


def test_adain_gives_the_content_the_moments_of_the_style():
    torch.manual_seed(5)
    content, style = torch.randn(2, 3, 16, 16) * 2 + 1, torch.randn(1, 3, 9, 4) * 3 - 2
    for actual, expected in zip(moments(adain(content, style)), moments(style)):
        torch.testing.assert_close(actual, expected.expand(2, 3, 1, 1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(adain(content, content), content, rtol=1e-5, atol=1e-5)


def test_adain_tells_of_the_style_that_does_not_fit():
    """It told of a gamma and a beta, which who calls it has not given."""
    for shape in ((3, 4, 3, 3), (1, 5, 3, 3), (4, 3, 3)):
        with pytest.raises(ValueError, match="a style of shape .* does not fit a content of"):
            adain(torch.rand(2, 4, 6, 6), torch.rand(shape))


def test_adain_gradients_and_largest_values():
    content, style = (
        torch.randn(1, 2, *s, dtype=torch.float64, requires_grad=True) for s in ((3, 2), (2, 4))
    )
    assert torch.autograd.gradcheck(adain, (content, style))
    assert torch.autograd.gradgradcheck(adain, (content, style))
    loud = (torch.randn(1, 2, 8, 8).sign() * torch.finfo(torch.bfloat16).max).bfloat16()
    y = adain(torch.randn(1, 2, 8, 8).sign().bfloat16(), loud / 4)
    assert y.isfinite().all() and y.abs().max() > 5e37


# minimum_epsilon


def slope_of_root(eps, dtype, gradient):
    """r and dL/d(var) for r = rsqrt(var + eps) at var = 0, all of it in ``dtype``."""
    var = torch.zeros((), dtype=dtype, requires_grad=True)
    r = torch.rsqrt(var + torch.tensor(eps, dtype=dtype))
    r.backward(torch.tensor(gradient, dtype=dtype))
    return r.detach(), var.grad


@pytest.mark.parametrize("gradient", [0.0, 1.0, 2.0, 100.0, 1e4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_minimum_epsilon_at_its_edge(dtype, gradient):
    eps = minimum_epsilon(dtype, gradient)
    assert eps >= torch.finfo(dtype).tiny
    assert all(t.isfinite() for t in slope_of_root(eps, dtype, gradient))
    assert not all(t.isfinite() for t in slope_of_root(eps / 2, dtype, gradient))


def test_minimum_epsilon_figures():
    assert minimum_epsilon(torch.float32) == pytest.approx(2.05e-26, rel=1e-2)
    assert minimum_epsilon(torch.float16) == pytest.approx(6.2e-4, rel=1e-2)
    assert minimum_epsilon(torch.float32, 1e6) > minimum_epsilon(torch.float32)


def test_a_constant_map_at_the_minimum_epsilon():
    for dtype in (torch.float32, torch.float64):
        x = torch.full((1, 2, 4, 4), 0.25, dtype=dtype, requires_grad=True)
        gamma = torch.ones(1, 2, dtype=dtype, requires_grad=True)
        for y in (
            renormalize(x, gamma, torch.zeros(1, 2), eps=minimum_epsilon(dtype))[0],
            inject(x, *moments(x), gamma, torch.zeros(1, 2), eps=minimum_epsilon(dtype)),
        ):
            grads = torch.autograd.grad(y.sum(), (x, gamma))
            assert all(t.isfinite().all() for t in (y, *grads))


def test_default_epsilon_is_torchs():
    assert EPSILON == 1e-5 == torch.nn.InstanceNorm2d(1).eps
