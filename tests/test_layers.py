"""The layers against torch.nn's, at the edges of each dtype, under the compilers, and one sample at a time."""

import copy
import shutil

import pytest
import torch
from torch import nn

from stylenorm.functional import KINDS, moments
from stylenorm.layers import BatchNorm2d, ConditionalNorm, GroupNorm, InstanceNorm2d, LayerNorm2d

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

SHAPES = [(1, 4, 3, 5), (2, 6, 8, 8), (3, 4, 7, 5), (5, 6, 1, 1)]
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "strided": lambda x: torch.cat([x, -x], 3)[..., ::2],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
}


def pairs(c, **options):
    """name -> (ours, torch.nn's), each freshly made with the same options."""
    affine = options.setdefault("affine", True)
    own = {k: v for k, v in options.items() if k in ("eps", "dtype")}
    return {
        "batch": lambda: (BatchNorm2d(c, **options), nn.BatchNorm2d(c, **options)),
        "instance": lambda: (InstanceNorm2d(c, **options), nn.InstanceNorm2d(c, **options)),
        "layer": lambda: (LayerNorm2d(c, affine=affine, **own), nn.GroupNorm(1, c, affine=affine, **own)),
        "group": lambda: (GroupNorm(2, c, affine=affine, **own), nn.GroupNorm(2, c, affine=affine, **own)),
    }


def close(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def agree(ours, theirs, x, tolerance):
    """Same result, same gradients, same buffers afterwards."""
    results = []
    for layer in (ours, theirs):
        leaf = x.detach().requires_grad_()
        y = layer(leaf)
        seed = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).sin().view(y.shape)
        wanted = [leaf, *layer.parameters()]
        results.append((y.detach(), *torch.autograd.grad((y * seed).sum(), wanted), *layer.buffers()))
    assert len(results[0]) == len(results[1])
    for actual, expected in zip(*results):
        close(actual, expected, tolerance)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_equals_torch(kind, shape, layout, dtype):
    if kind == "instance" and shape[2:] == (1, 1):
        pytest.skip("torch refuses; see test_refuses_what_torch_refuses")
    for affine in (True, False):
        for tracked in (True, False):
            torch.manual_seed(0)
            ours, theirs = pairs(shape[1], affine=affine, track_running_stats=tracked, eps=1e-3, dtype=dtype)[kind]()
            if affine:
                nn.init.normal_(theirs.weight)
                nn.init.normal_(theirs.bias)
            ours.load_state_dict(theirs.state_dict())
            for _ in range(2):
                agree(ours, theirs, LAYOUTS[layout](torch.randn(shape, dtype=dtype) * 2 + 1), TOLERANCE[dtype])
            agree(ours.eval(), theirs.eval(), LAYOUTS[layout](torch.randn(shape, dtype=dtype)), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 7), (2, 4, 3, 2, 5), (2, 4, 1, 3, 1, 2), (0, 4, 7)])
def test_group_norm_takes_any_number_of_axes_as_torchs(shape, dtype):
    torch.manual_seed(0)
    ours, theirs = pairs(4, dtype=dtype)["group"]()
    nn.init.normal_(theirs.weight)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(shape, dtype=dtype) * 2 + 1
    agree(ours, theirs, x, TOLERANCE[dtype])
    if x.dim() > 2:
        agree(ours, theirs, x.transpose(0, -1).contiguous().transpose(0, -1), TOLERANCE[dtype])
    mean, var = torch.randn(4, 4, 1, 1, 1), torch.rand(4, 4, 1, 1, 1)
    volumes = torch.randn(4, 4, 2, 3, 2)
    expected = (volumes - mean) / (var + ours.eps).sqrt() * theirs.weight.view(4, 1, 1, 1)
    close(ours(volumes, (mean, var)), expected.float(), 1e-4)


@pytest.mark.parametrize("tracked", [True, False])
def test_instance_norm_takes_a_single_sample_as_torchs(tracked):
    torch.manual_seed(0)
    ours, theirs = pairs(4, track_running_stats=tracked)["instance"]()
    for _ in range(2):
        agree(ours, theirs, torch.randn(4, 5, 3) * 2 + 1, 1e-5)
    agree(ours.eval(), theirs.eval(), torch.randn(4, 5, 3), 1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("missing", ["weight", "bias"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_or_a_bias_alone_equals_torch(kind, missing, layout):
    if missing == "weight" and kind in ("layer", "group"):
        pytest.skip("torch has no gradient there")
    torch.manual_seed(16)
    made = pairs(4, track_running_stats=True)[kind]()
    nn.init.normal_(made[1].weight)
    nn.init.normal_(made[1].bias)
    made[0].load_state_dict(made[1].state_dict())
    for layer in made:
        setattr(layer, missing, None)
    for training in (True, False):
        agree(*(layer.train(training) for layer in made), torch.randn(2, 4, 5, 3).to(memory_format=layout), 1e-5)


@pytest.mark.parametrize("momentum", [0.1, 0.7, 1.0, 0.0, None])
@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_running_statistics_equal_torch(kind, momentum):
    for dtype, tolerance in TOLERANCE.items():
        torch.manual_seed(1)
        ours, theirs = pairs(3, momentum=momentum, track_running_stats=True, dtype=dtype)[kind]()
        for n in (1, 2, 4, 3):
            agree(ours, theirs, torch.randn(n, 3, 3, 2, dtype=dtype) * n + n, tolerance)
        assert torch.equal(ours.num_batches_tracked, theirs.num_batches_tracked)


def test_momentum_none_averages_all_batches_and_variance_is_unbiased():
    layer = BatchNorm2d(2, momentum=None, dtype=torch.float64)
    batches = [torch.randn(3, 2, 4, 5, dtype=torch.float64) * s for s in (1, 2, 3)]
    for x in batches:
        layer(x)
    close(layer.running_mean, torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0), 1e-12)
    close(layer.running_var, torch.stack([x.var((0, 2, 3)) for x in batches]).mean(0), 1e-12)


def test_momentum_none_averages_many_batches_in_half_precision_as_torch_does():
    torch.manual_seed(0)
    ours, theirs = BatchNorm2d(3, momentum=None).half(), nn.BatchNorm2d(3, momentum=None).half()
    centre = torch.tensor([1.0, 5.0, 20.0])[:, None, None]
    for _ in range(600):
        x = (torch.randn(2, 3, 4, 4) + centre).half()
        ours(x), theirs(x)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=5e-3, atol=5e-3)
    torch.testing.assert_close(ours.running_mean.float(), centre.flatten(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("shape", [(2, 4, 0, 3), (2, 4, 3, 0), (0, 4, 3, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_map_of_no_pixels_asks_nothing_of_the_weights(kind, shape):
    ours, theirs = pairs(4)[kind]()
    for layer in (ours, theirs) if kind == "batch" else (ours,):  # torch's group norm says nan
        if layer.weight is None:
            continue
        layer(torch.zeros(shape, requires_grad=True)).sum().backward()
        assert layer.weight.grad.tolist() == layer.bias.grad.tolist() == [0] * 4


def test_moments_that_are_no_longer_tracked_are_not_reset():
    for layer in (BatchNorm2d(3), nn.BatchNorm2d(3)):
        layer(torch.randn(4, 3, 5, 5) + 7)
        untracked(layer)
        layer.reset_parameters()
        assert (layer.running_mean > 0.5).all()


def untracked(layer):
    layer.track_running_stats = False


def without_moments(layer):
    layer.running_mean = layer.running_var = None


def without_count(layer):
    layer.num_batches_tracked = None


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("change", [untracked, without_moments, without_count])
@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_running_moments_are_given_up_later_as_in_torch(kind, change, momentum):
    torch.manual_seed(5)
    layers = pairs(4, track_running_stats=True, momentum=momentum)[kind]()
    x = torch.randn(3, 4, 5, 6) * 2 + 1
    for layer in layers:
        layer(x)
        change(layer)
        if kind == "instance" and change is without_moments:  # which torch asks for, by its flag
            untracked(layer)
    scripted = [torch.jit.script(copy.deepcopy(layer)) for layer in layers]
    for ours, theirs in (layers, scripted):
        for training in (True, False):
            if kind == "instance" and change is untracked:  # where torch moves them all the same, in eval mode too
                close(ours.train(training)(x), theirs.train(training)(x), 1e-5)
            else:
                agree(ours.train(training), theirs.train(training), x, 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_state_dicts_pass_both_ways(kind):
    for affine in (True, False):
        for tracked in (True, False):
            ours, theirs = pairs(4, affine=affine, track_running_stats=tracked)[kind]()
            assert list(ours.state_dict()) == list(theirs.state_dict())
            for source, target in (pairs(4, affine=affine, track_running_stats=tracked)[kind]() for _ in range(1)):
                source(torch.randn(2, 4, 3, 3))
                target.load_state_dict(source.state_dict())
                ours.load_state_dict(target.state_dict())
            for name, value in ours.state_dict().items():
                assert torch.equal(value, source.state_dict()[name]) and value.dtype == source.state_dict()[name].dtype


@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_a_state_dict_from_before_batches_were_counted_loads_as_it_does_in_torch(kind):
    made = [nn.Sequential(layer) for layer in pairs(4, track_running_stats=True)[kind]()]
    old = {name: torch.rand(4) for name in made[1].state_dict() if not name.endswith("num_batches_tracked")}
    for network in made:
        network.load_state_dict(old)
    assert all(torch.equal(a, b) for a, b in zip(*(network.state_dict().values() for network in made)))
    for network in made:
        network[0].num_batches_tracked.fill_(7)  # which stays
        network.load_state_dict(old)
        assert network[0].num_batches_tracked == 7
        network.to("meta").load_state_dict(old, assign=True)
        assert network[0].num_batches_tracked.device.type == "cpu" and network[0].num_batches_tracked == 0
    for missing in ("running_var", "num_batches_tracked"):
        new = made[1].state_dict()
        del new["0." + missing]
        for network in made:
            with pytest.raises(RuntimeError, match=missing):
                network.load_state_dict(new)


@pytest.mark.parametrize("n, c, size", [(1, 1, 1), (1, 4, 1), (2, 4, 1), (1, 2, 1), (2, 1, 1), (1, 4, 2), (1, 1, 2)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_refuses_what_torch_refuses(kind, n, c, size, training):
    if kind == "group" and c == 1:
        pytest.skip("two groups of one channel")
    for tracked in (True, False):
        ours, theirs = pairs(c, track_running_stats=tracked)[kind]()
        x = torch.randn(n, c, size, size)
        try:
            expected = theirs.train(training)(x)
        except ValueError:
            with pytest.raises(ValueError, match="more than 1 value per channel"):
                ours.train(training)(x)
        else:
            close(ours.train(training)(x), expected, 1e-4)  # of one value torch leaves its rounding, times 1 / sqrt(eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_batch_gives_an_empty_result_and_moves_no_running_moments(kind, layout, dtype):
    for tracked in (True, False):
        for training in (True, False):
            ours, theirs = pairs(4, track_running_stats=tracked, dtype=dtype)[kind]()
            x = torch.randn(0, 4, 3, 3, dtype=dtype).to(memory_format=layout)
            if kind != "instance":  # torch finds no first sample there
                agree(ours.train(training), theirs.train(training), x, 0)
            ours.train(training)(x).sum().backward()
            assert ours.weight.grad.abs().max() == 0 and all(b.isfinite().all() for b in ours.buffers())


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_reset_and_have_no_bias_as_in_torch(kind):
    tracked = {"track_running_stats": True} if kind in ("batch", "instance") else {}
    with torch.device("meta"):
        empty = pairs(4, **tracked)[kind]()
    results = []
    for layer in empty:
        layer.to_empty(device="cpu")
        for tensor in layer.state_dict().values():
            tensor.fill_(7)
        layer.reset_parameters()
        results.append(layer.state_dict())
        if tracked:
            layer(torch.randn(2, 4, 3, 3))
            layer.reset_running_stats()
            results.append(layer.state_dict())
    for state in results[1:]:
        torch.testing.assert_close(state, results[0], rtol=0, atol=0)

    options = {"num_groups": 2, "num_channels": 4} if kind == "group" else {"num_features": 4}
    ours, theirs = type(empty[0])(**options, affine=True, bias=False), pairs(4)[kind]()[1]
    theirs.register_parameter("bias", None)
    agree(ours, theirs, torch.randn(2, 4, 3, 5), 1e-5)
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_layers_are_made_on_the_device_that_is_asked_for():
    made = [make(4, device="meta") for make in (BatchNorm2d, LayerNorm2d)] + [GroupNorm(2, 4, device="meta"), ConditionalNorm(4, "batch", device="meta")]
    made.append(InstanceNorm2d(4, affine=True, track_running_stats=True, device="meta"))
    assert all(t.is_meta for layer in made for t in layer.state_dict().values())
    assert [len(layer.state_dict()) for layer in made] == [5, 2, 2, 3, 5]


def test_what_a_layer_is_is_printed():
    assert repr(GroupNorm(2, 4, bias=False)) == "GroupNorm(4, kind=group, num_groups=2, eps=1e-05, affine=True, bias=False)"
    assert repr(BatchNorm2d(4)) == "BatchNorm2d(4, kind=batch, eps=1e-05, affine=True, track_running_stats=True, momentum=0.1)"
    assert repr(InstanceNorm2d(4)) == "InstanceNorm2d(4, kind=instance, eps=1e-05, affine=False, track_running_stats=False)"
    assert repr(ConditionalNorm(4, "layer")) == "ConditionalNorm(4, kind=layer, eps=1e-05)"


def test_eps_defaults_are_torchs():
    for kind in KINDS:
        ours, theirs = pairs(4)[kind]()
        assert ours.eps == theirs.eps == ConditionalNorm(4, kind, 2).eps == 1e-5


def test_errors_are_one_sentence():
    for make in (
        lambda: GroupNorm(3, 4),
        lambda: GroupNorm(-2, 4),
        lambda: ConditionalNorm(4, "group"),
        lambda: ConditionalNorm(4, "spectral"),
        lambda: InstanceNorm2d(4)(torch.randn(5, 3, 3)),
        lambda: BatchNorm2d(4)(torch.randn(4, 3, 3)),
        lambda: LayerNorm2d(4)(torch.randn(2, 4, 3)),
        lambda: GroupNorm(2, 4)(torch.randn(2, 6, 3)),
        lambda: GroupNorm(2, 4)(torch.randn(4)),
        lambda: GroupNorm(2, 2)(torch.randn(1, 2)),
        lambda: InstanceNorm2d(4)(torch.randn(2, 5, 3, 3)),
        lambda: ConditionalNorm(4)(torch.randn(2, 4, 3, 3), torch.ones(3, 4), torch.ones(3, 4)),
        lambda: ConditionalNorm(4)(torch.randn(2, 4, 3, 3), torch.ones(2, 5), torch.ones(2, 5)),
        lambda: ConditionalNorm(4)(torch.randn(2, 4, 3, 3), torch.ones(2, 4, 2, 3), torch.ones(2, 4, 2, 3)),
    ):
        with pytest.raises(ValueError) as error:
            make()
        assert "\n" not in str(error.value)


def test_a_sample_of_other_channels_is_told_with_its_own_shape():
    with pytest.raises(ValueError, match=r"not \(2, 5, 3\)$"):
        InstanceNorm2d(5)(torch.randn(2, 5, 3))  # (N, C, L), whose N was told as C of a batch of one


# ConditionalNorm


def conditional(kind, c=4, **options):
    return ConditionalNorm(c, kind, 2 if kind == "group" else None, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_conditional_equals_the_layer_with_that_weight(kind):
    torch.manual_seed(2)
    x = torch.randn(3, 4, 5, 7) * 2 + 1
    gamma, beta = torch.randn(1, 4), torch.randn(1, 4)
    affine, _ = pairs(4)[kind]()
    with torch.no_grad():
        affine.weight.copy_(gamma[0])
        affine.bias.copy_(beta[0])
    layer = conditional(kind)
    assert not list(layer.parameters())
    assert bool(list(layer.buffers())) == (kind == "batch")
    for training in (False, True):
        affine.train(training)
        layer.train(training)
        y = affine(x)
        assert torch.equal(layer(x, gamma, beta), y)
        assert torch.equal(layer(x, gamma.expand(3, 4), beta.expand(3, 4)), y)
        full = (gamma[:, :, None, None].expand(3, 4, 5, 7), beta[:, :, None, None].expand(3, 4, 5, 7))
        close(layer(x, *full), y, 1e-6)
    if kind == "batch":
        layer, affine = conditional(kind), BatchNorm2d(4)
        layer(x, gamma, beta)
        affine(x)
        for ours, theirs in zip(layer.buffers(), affine.buffers()):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_style_per_pixel(kind):
    torch.manual_seed(3)
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    styles = torch.randn(2, 2, 2, 4, dtype=torch.float64)  # S, gamma or beta, N, C
    left = torch.zeros(1, 1, 6, 6, dtype=torch.float64)
    left[..., :3] = 1
    layer = conditional(kind, dtype=torch.float64)
    gamma, beta = (left * styles[0, i, :, :, None, None] + (1 - left) * styles[1, i, :, :, None, None] for i in (0, 1))
    y = layer(x, gamma, beta)
    for style, columns in ((styles[0], slice(0, 3)), (styles[1], slice(3, 6))):
        close(y[..., columns], layer(x, style[0], style[1])[..., columns], 1e-12)


@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_conditional_gradients(kind, training, region):
    torch.manual_seed(4)
    x = torch.randn(2, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    style = torch.randn(2, 2, 4, *((3, 2) if region else ()), dtype=torch.float64, requires_grad=True)
    layer = conditional(kind, dtype=torch.float64).train(training)

    def restyle(x, style):
        return layer(x, style[0], style[1])

    assert torch.autograd.gradcheck(restyle, (x, style))
    assert torch.autograd.gradgradcheck(restyle, (x, style))


@pytest.mark.parametrize("kind", KINDS)
def test_affine_gradients(kind):
    torch.manual_seed(5)
    layer, _ = pairs(4, dtype=torch.float64)[kind]()
    x = torch.randn(2, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]
    assert names == ["weight", "bias"]

    def run(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters)), (x,))

    assert torch.autograd.gradcheck(run, (x, *layer.parameters()))
    assert torch.autograd.gradgradcheck(run, (x, *layer.parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_moments_can_be_handed_in(kind):
    torch.manual_seed(6)
    x, other = torch.randn(2, 4, 5, 5), torch.randn(2, 4, 9, 3) * 3 + 2
    gamma, beta = torch.randn(2, 4), torch.randn(2, 4)
    groups = 2 if kind == "group" else None
    layer, plain = conditional(kind), pairs(4)[kind]()[0]
    before = [b.clone() for b in (*layer.buffers(), *plain.buffers())]
    for training in (True, False):
        layer.train(training)
        plain.train(training)
        close(
            layer(x, gamma, beta, moments=moments(x, kind, groups)), conditional(kind).train()(x, gamma, beta), 1e-5
        )
        mean, var = moments(other, kind, groups)
        expected = (x - mean) / (var + 1e-5).sqrt()
        close(plain(x, moments=(mean, var)), expected, 1e-5)
        close(
            layer(x, gamma, beta, moments=(mean, var)),
            expected * gamma[:, :, None, None] + beta[:, :, None, None],
            1e-5,
        )
    for was, now in zip(before, (*layer.buffers(), *plain.buffers())):
        assert torch.equal(was, now), "a request with moments of its own leaves no trace"


def test_moments_of_channels_can_be_handed_in_for_any_number_of_axes():
    """(C, 1) went along N of (N, C, L), where N was C, and was told of in shapes that nobody gave."""
    for shape in ((4, 4, 3), (4, 4, 2, 3), (4, 4, 2, 3, 2)):
        x, t = torch.randn(shape), torch.rand(4, *(1 for _ in shape[2:]))
        torch.testing.assert_close(GroupNorm(2, 4)(x, (t, t)), (x - t) / (t + 1e-5).sqrt())


def test_tiles_with_the_moments_of_the_whole_equal_the_whole():
    torch.manual_seed(7)
    x, gamma, beta = torch.randn(1, 4, 16, 16), torch.randn(1, 4), torch.randn(1, 4)
    layer = ConditionalNorm(4)
    whole = moments(x)
    tiles = [layer(t, gamma, beta, moments=whole) for t in x.split(5, dim=2)]
    close(torch.cat(tiles, 2), layer(x, gamma, beta), 1e-5)


def test_eval_batch_norm_is_a_function_of_one_input():
    torch.manual_seed(8)
    gamma, beta = torch.randn(1, 4), torch.randn(1, 4)
    x, calm, loud = torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6), torch.randn(1, 4, 6, 6) * 9 + 5
    for layer, style in ((conditional("batch"), (gamma, beta)), (BatchNorm2d(4), ())):
        for _ in range(3):
            layer(torch.randn(4, 4, 6, 6) * 2 + 1, *style)
        layer.eval()
        alone = layer(x, *style)
        assert torch.equal(layer(torch.cat([x, calm]), *style)[:1], alone)
        assert torch.equal(layer(torch.cat([loud, x]), *style)[1:], alone)
        layer.train()  # batch statistics: the neighbour shows
        assert (layer(torch.cat([x, calm]), *style)[:1] - layer(torch.cat([x, loud]), *style)[:1]).abs().max() > 0.1


# the edges of the dtypes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("spread", ["largest", "alternating", "half", "one"])
def test_largest_values_do_not_overflow(dtype, kind, spread):
    torch.manual_seed(9)
    largest = torch.finfo(dtype).max
    pattern = {
        "largest": torch.rand(2, 4, 16, 16),
        "alternating": torch.randn(2, 4, 16, 16).sign(),
        "half": torch.cat([torch.ones(2, 4, 8, 16), -torch.ones(2, 4, 8, 16)], 2),
        "one": torch.nn.functional.pad(torch.ones(2, 4, 1, 1), (0, 15, 0, 15)),
    }[spread]
    x = (pattern.double() * largest).to(dtype).requires_grad_()
    style = torch.randn(2, 2, 4, requires_grad=True)
    y = conditional(kind)(x, style[0], style[1])
    assert y.dtype == dtype
    mean, var = moments(x.double(), kind, 2)
    gamma, beta = style.detach().double()[..., None, None]
    expected = gamma * (x.detach().double() - mean.detach()) / var.detach().sqrt() + beta
    torch.testing.assert_close(y.detach().double(), expected, rtol=2e-2, atol=2e-2)
    y.float().square().sum().backward()
    assert x.grad.isfinite().all() and style.grad.isfinite().all() and style.grad.abs().min() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_variance_of_1e_minus_12_does_not_underflow(dtype, kind):
    torch.manual_seed(10)
    x = (torch.randn(2, 4, 16, 16) * 1e-6).to(dtype).requires_grad_()
    layer = conditional(kind, eps=1e-14)
    y = layer(x, torch.ones(2, 4), torch.zeros(2, 4))
    assert abs(y.float().std() - 1) < 0.05
    mean, var = moments(x.detach(), kind, 2)
    assert mean.dtype == var.dtype == torch.float32
    assert (var / 1e-12 - 1).abs().max() < 0.25
    (y.float().pow(3).sum() * 1e-3).backward()  # the gradient is a million times larger, and float16 ends at 65504
    assert x.grad.isfinite().all() and x.grad.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_of_ordinary_size_is_float32_arithmetic_rounded_once(kind):
    torch.manual_seed(11)
    x, style = (torch.randn(2, 4, 9, 9) * 3 + 1).bfloat16(), torch.randn(2, 2, 4)
    y = conditional(kind)(x, *style)
    assert torch.equal(y, conditional(kind)(x.float(), *style).bfloat16())


@pytest.mark.parametrize("exponent", [0, 35, 60, 100])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_gradients_are_float64s_rounded(dtype, kind, exponent):
    if dtype == torch.float16:
        exponent = exponent // 20  # up to 2^5
    torch.manual_seed(15)
    x = ((torch.randn(2, 4, 9, 9) * 3 + 1) * 2.0**exponent).to(dtype)
    style, dy = torch.randn(2, 2, 4), torch.randn(2, 4, 9, 9).to(dtype)
    results = []
    for wide in (torch.float64, dtype):
        leaf, own = x.to(wide).requires_grad_(), style.double().requires_grad_()
        conditional(kind, eps=0.1)(leaf, own[0], own[1]).backward(dy.to(wide))
        results.append((leaf.grad.double() * 2.0**exponent, own.grad))
    for actual, expected in zip(results[1], results[0]):
        torch.testing.assert_close(actual, expected, rtol=1e-2, atol=1e-3)


def test_one_huge_map_leaves_its_neighbours_alone():
    torch.manual_seed(12)
    x = torch.randn(2, 4, 8, 8).bfloat16()
    layer, style = ConditionalNorm(4), torch.randn(2, 2, 4)
    expected = layer(x, *style)
    x[1, 3] *= torch.finfo(torch.bfloat16).max / 8
    assert torch.equal(layer(x, *style)[0], expected[0]) and torch.equal(layer(x, *style)[1, :3], expected[1, :3])


@pytest.mark.parametrize("value", [0.0, 1.0, -5e30, torch.finfo(torch.bfloat16).max])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_constant_map_becomes_beta(dtype, value):
    if dtype == torch.float32 and abs(value) > 1e19:
        pytest.skip("float32 gets what torch.nn gives")
    x = torch.full((1, 2, 8, 8), value, dtype=dtype, requires_grad=True)
    y = ConditionalNorm(2)(x, torch.ones(1, 2), torch.tensor([[3.0, -2.0]]))
    assert torch.equal(y[0, :, 0, 0].float(), torch.tensor([3.0, -2.0])) and y.float().std((2, 3)).max() == 0
    y.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_leaves_statistics_alone(kind):
    torch.manual_seed(13)
    x, style = torch.randn(2, 4, 8, 8) * 1e-3 + 100, torch.randn(2, 2, 4)
    plain, mixed = conditional(kind), conditional(kind)
    expected = plain(x, *style)
    with torch.autocast("cpu", torch.bfloat16):
        y = mixed(x, *style)
        mean, var = moments(x.bfloat16(), kind, 2)
    assert torch.equal(y, expected) and mean.dtype == var.dtype == torch.float32
    for was, now in zip(plain.buffers(), mixed.buffers()):
        assert torch.equal(was, now)
    layer = nn.Sequential(nn.Conv2d(3, 4, 3), pairs(4)[kind]()[0])
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.randn(2, 3, 9, 9))
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert layer[1].weight.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_keeps_the_memory_format(kind, dtype):
    for layout in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 4, 6, 5, dtype=dtype).to(memory_format=layout).requires_grad_()
        y = conditional(kind)(x, torch.randn(2, 4), torch.randn(2, 4))
        assert y.is_contiguous(memory_format=layout)
        y.backward(torch.randn(2, 4, 6, 5, dtype=dtype).to(memory_format=layout))
        assert x.grad.is_contiguous(memory_format=layout) and x.grad.dtype == dtype


def test_input_is_not_written_to():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        x = torch.randn(2, 4, 6, 5, dtype=dtype).requires_grad_()
        dy, style = torch.randn(2, 4, 6, 5, dtype=dtype), torch.randn(2, 2, 4)
        was = x.detach().clone(), dy.clone(), style.clone()
        ConditionalNorm(4, dtype=dtype)(x, *style).backward(dy)
        assert all(torch.equal(a, b) for a, b in zip(was, (x, dy, style)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_comes_out_may_be_written_to_as_torchs_may(kind, layout):
    x = torch.randn(2, 4, 6, 5).to(memory_format=layout)
    ours, theirs = pairs(4)[kind]()
    agree(nn.Sequential(ours, nn.ReLU(inplace=True)), nn.Sequential(theirs, nn.ReLU(inplace=True)), x, 1e-5)


# compilers


class Net(nn.Module):
    """Every kind of layer behind a convolution, with the style as an input."""

    def __init__(self, kind):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.own, _ = pairs(4, eps=0.1)[kind]()
        self.given = conditional(kind, eps=0.1)

    def forward(self, x, gamma, beta):
        return self.given(self.own(self.conv(x)), gamma, beta)


def twins(kind, training):
    torch.manual_seed(14)
    first, second = Net(kind).train(training), Net(kind).train(training)
    second.load_state_dict(first.state_dict())
    return first, second, (torch.randn(2, 3, 8, 9), torch.randn(2, 4), torch.randn(2, 4))


def compiled_equals_eager(kind, training, backend, dtype=torch.float32, dynamic=None):
    torch._dynamo.reset()
    eager, other, inputs = twins(kind, training)
    inputs = [t.to(dtype) for t in inputs]
    eager.conv.to(dtype), other.conv.to(dtype)
    compiled = torch.compile(other, fullgraph=True, backend=backend, dynamic=dynamic)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    ours, theirs = eager(*inputs), compiled(*inputs)
    close(theirs, ours, tolerance)
    ours.float().pow(3).sum().backward()
    theirs.float().pow(3).sum().backward()
    for a, b in zip(eager.parameters(), other.parameters()):
        torch.testing.assert_close(b.grad, a.grad, rtol=10 * tolerance, atol=1e3 * tolerance)
    for a, b in zip(eager.buffers(), other.buffers()):
        close(b, a, tolerance)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_compile_takes_each_layer(kind, training):
    compiled_equals_eager(kind, training, "aot_eager")


def test_compile_takes_bfloat16_and_any_size():
    compiled_equals_eager("instance", True, "aot_eager", torch.bfloat16)
    compiled_equals_eager("instance", True, "aot_eager", dynamic=True)


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_inductor_takes_each_layer(kind, dtype):
    compiled_equals_eager(kind, True, "inductor", dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_export_takes_each_layer_at_any_size(kind, training):
    eager, other, inputs = twins(kind, training)
    size = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    program = torch.export.export(other, inputs, dynamic_shapes=(size, None, None))
    for h, w in ((8, 9), (5, 13)):
        x = torch.randn(2, 3, h, w)
        exported = program.module()
        expected = twins(kind, training)[0](x, *inputs[1:])
        close(exported(x, *inputs[1:]), expected, 1e-5)


def test_moments_handed_in_compile():
    layer, x = ConditionalNorm(4), torch.randn(1, 4, 6, 6)
    style, whole = (torch.randn(1, 4), torch.randn(1, 4)), moments(torch.randn(1, 4, 9, 9))
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    close(compiled(x, *style, moments=whole), layer(x, *style, moments=whole), 1e-6)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_openvino_makes_one_mvn():
    openvino = pytest.importorskip("openvino")
    layer, inputs = ConditionalNorm(4), (torch.randn(1, 4, 16, 16), torch.randn(1, 4), torch.randn(1, 4))
    model = openvino.compile_model(openvino.convert_model(layer.eval(), example_input=inputs), "CPU")
    types = [op.get_rt_info()["layerType"] for op in model.get_runtime_model().get_ops()]
    names = [t if isinstance(t, str) else t.astype(str) for t in types]
    assert names.count("MVN") == 1 and "Reduce" not in names
    result = torch.from_numpy(next(iter(model([t.numpy() for t in inputs]).values())))
    close(result, layer(*inputs), 2e-2)  # the plugin may compute in bfloat16


# ---- TorchScript and torch.fx ------------------------------------------------------------------


def trained(layer):
    """The layer with a weight, a bias and running moments of its own."""
    torch.manual_seed(2)
    with torch.no_grad():
        for t in (*layer.parameters(), *(b for b in layer.buffers() if b.is_floating_point())):
            t.copy_(torch.rand(t.shape) + 0.5)
    return layer


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"bias": False}], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_scripted_layer_is_the_layer(kind, options, training, tmp_path):
    """Results, gradients and running moments, also of what was written and read again."""
    tracked = {"track_running_stats": True} if kind == "instance" else {}
    layers = {"batch": BatchNorm2d, "instance": InstanceNorm2d, "layer": LayerNorm2d}
    made = [trained((GroupNorm(2, 4, **options) if kind == "group" else layers[kind](4, **options, **tracked)).train(training)) for _ in range(2)]
    torch.jit.save(torch.jit.script(made[1]), tmp_path / "layer.pt")
    agree(made[0], torch.jit.load(tmp_path / "layer.pt"), torch.randn(3, 4, 7, 5) * 3 + 1, 1e-5)


@pytest.mark.parametrize("make", [lambda: BatchNorm2d(4, momentum=None), lambda: BatchNorm2d(4, track_running_stats=False), lambda: InstanceNorm2d(4)])
def test_scripted_layers_of_other_options(make):
    layer, scripted = make(), torch.jit.script(make())
    for seed in range(3):
        agree(layer, scripted, torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(seed)), 1e-5)


def test_scripted_layers_take_other_axes_narrow_numbers_and_moments_and_refuse_as_before():
    group, instance, conditional = GroupNorm(2, 4), InstanceNorm2d(4), ConditionalNorm(4)
    for layer, x in (
        (group, torch.randn(5, 4)), (group, torch.randn(2, 4, 3)), (group, torch.randn(2, 4, 2, 3, 2)), (instance, torch.randn(4, 3, 5)),
        (instance, torch.randn(2, 4, 3, 5).bfloat16()), (instance, torch.randn(2, 4, 3, 5).double()), (group, torch.randn(0, 4, 3, 3)),
    ):  # fmt: skip
        y = torch.jit.script(layer)(x)
        assert y.dtype == x.dtype
        torch.testing.assert_close(y, layer(x))
    x, moments = torch.randn(2, 4, 3, 5), (torch.rand(2, 4, 1, 1), torch.rand(2, 4, 1, 1))
    for pair in ((torch.rand(2, 4), torch.rand(1, 4)), (torch.rand(1, 4, 3, 5), torch.rand(2, 4, 3, 5))):
        scripted = torch.jit.script(conditional)
        torch.testing.assert_close(scripted(x, *pair), conditional(x, *pair))
        torch.testing.assert_close(scripted(x, *pair, moments), conditional(x, *pair, moments))
    volumes, of_volumes = torch.randn(2, 4, 2, 3, 2), tuple(t[..., None] for t in moments)
    torch.testing.assert_close(torch.jit.script(group)(volumes, of_volumes), group(volumes, of_volumes))
    instance = torch.jit.script(instance)
    for wrong in (torch.rand(2, 3, 4, 4), torch.rand(2, 4, 1, 1), torch.rand(2, 4), torch.ones(2, 4, 3, 3, dtype=torch.int)):
        with pytest.raises(torch.jit.Error):
            instance(wrong)


@pytest.mark.parametrize("make", [lambda: BatchNorm2d(2), lambda: InstanceNorm2d(2), lambda: LayerNorm2d(2), lambda: LayerNorm2d(1), lambda: GroupNorm(2, 2)])
def test_a_scripted_layer_refuses_the_same_shapes(make):
    layer, scripted = make(), torch.jit.script(make())
    for shape in ((1, 1, 1, 1), (1, 2, 1, 1), (2, 2, 1, 1), (2, 1, 1, 1), (1, 1, 1, 2), (1, 2, 2, 1), (2, 2, 3), (2, 2), (2,)):
        x = torch.randn(shape)
        try:
            expected = layer(x)
        except ValueError:
            with pytest.raises(torch.jit.Error):
                scripted(x)
        else:
            close(scripted(x), expected, 1e-3)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", KINDS)
def test_jit_traces_bfloat16_maps(kind, layout):
    ours, x = pairs(4)[kind]()[0], torch.randn(2, 4, 6, 5, dtype=torch.bfloat16).to(memory_format=layout)
    traced = torch.jit.trace(ours, (-x,), check_trace=False)
    assert torch.equal(traced(x), ours(x))


@pytest.mark.parametrize("kind", KINDS)
def test_a_traced_network_has_the_layer_as_torchs(kind):
    """As one node, so that train() and eval() go on to mean what they do."""
    ours, theirs = pairs(4)[kind]()
    network = nn.Sequential(nn.Conv2d(3, 4, 1), trained(ours), nn.ReLU())
    traced, x = torch.fx.symbolic_trace(network), torch.randn(2, 3, 6, 6)
    assert [n.op for n in traced.graph.nodes] == [n.op for n in torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 1), theirs, nn.ReLU())).graph.nodes]
    for training in (True, False):
        torch.testing.assert_close(traced.train(training)(x), network.train(training)(x))


def test_a_layer_by_itself_is_traced_where_torchs_is():
    for layer, x in ((GroupNorm(2, 4), torch.randn(2, 4, 3)), (LayerNorm2d(4), torch.randn(2, 4, 3, 3)), (GroupNorm(2, 4, affine=False), torch.randn(2, 4, 3, 3))):
        torch.testing.assert_close(torch.fx.symbolic_trace(trained(layer))(x), layer(x))
    for layer in (nn.BatchNorm2d(4), BatchNorm2d(4)):
        with pytest.raises(torch.fx.proxy.TraceError):
            torch.fx.symbolic_trace(layer)


def test_a_conditional_norm_is_traced_in_a_network():
    class Styled(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = ConditionalNorm(4)

        def forward(self, x, gamma, beta):
            return self.norm(x, gamma, beta=beta) * 2

    network, given = Styled(), (torch.randn(2, 4, 5, 5), torch.rand(2, 4), torch.rand(2, 4))
    torch.testing.assert_close(torch.fx.symbolic_trace(network)(*given), network(*given))
