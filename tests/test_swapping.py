"""Networks that others wrote, with their norms swapped, against the same networks built with torch.nn's norms."""

import copy

import pytest
import torch
from torch import nn

from stylenorm import BatchNorm2d, ConditionalNorm, Generator, GeneratorConfig, GroupNorm, InstanceNorm2d, LayerNorm2d, recalibrate, swap_norms
from stylenorm.compat import torchvision

torch.set_num_threads(1)

OURS = {"batch": BatchNorm2d, "instance": InstanceNorm2d, "layer": LayerNorm2d, "group": GroupNorm}
THEIRS = {
    "batch": nn.BatchNorm2d,
    "instance": lambda c: nn.InstanceNorm2d(c, affine=True),
    "layer": lambda c: nn.GroupNorm(1, c),
    "group": lambda c: nn.GroupNorm(32, c),
}


def resnet(norm_layer=None):
    torchvision()
    from torchvision.models import resnet18

    torch.manual_seed(0)
    model = resnet18(norm_layer=norm_layer, num_classes=10)
    for m in model.modules():
        if getattr(m, "weight", None) is not None and m.weight.dim() == 1:
            nn.init.uniform_(m.weight, 0.5, 1.5), nn.init.normal_(m.bias)
    return model


def small(**options):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, **options), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, **options))


def norms(model):
    return [m for m in model.modules() if isinstance(m, tuple(OURS.values()))]


@pytest.mark.parametrize("kind", OURS)
def test_a_resnet_with_swapped_norms_is_the_one_built_with_torch_nns(kind):
    expected = resnet(THEIRS[kind])
    model = resnet()
    model.load_state_dict(expected.state_dict(), strict=False)
    assert swap_norms(model, kind) is model
    assert len(norms(model)) == 20 and all(type(m) is OURS[kind] for m in norms(model))
    assert set(model.state_dict()) == set(expected.state_dict())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    for mode in (True, False):
        torch.testing.assert_close(model.train(mode)(x), expected.train(mode)(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("first", OURS)
@pytest.mark.parametrize("then", OURS)
def test_our_own_layers_are_swapped_as_well(first, then):
    model = swap_norms(swap_norms(resnet(), first), then)
    assert len(norms(model)) == 20 and all(type(m) is OURS[then] for m in norms(model))


def test_weight_and_bias_are_the_same_parameters_and_an_optimizer_still_moves_them():
    model = small()
    before = list(model.parameters())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    swap_norms(model, "instance")
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))
    value = model[1].weight.detach().clone()
    model(torch.randn(2, 3, 9, 9)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model[1].weight, value)


def test_settings_and_modes_stay():
    model = nn.Sequential(nn.BatchNorm2d(4, eps=0.5, momentum=0.3, affine=False), nn.InstanceNorm2d(4), nn.GroupNorm(2, 4))
    model.double()[1].eval()
    swap_norms(model, "batch")
    assert (model[0].eps, model[0].momentum, model[0].weight) == (0.5, 0.3, None)
    assert [m.training for m in model] == [True, False, True]
    assert model[1].weight is None and model[2].weight.dtype == torch.float64 == model[1].running_mean.dtype
    for kind in ("layer", "instance", "group"):
        swap_norms(model, kind, 2 if kind == "group" else None)
        assert model[0].eps == 0.5 and not model[0].affine and model[2].affine


def test_norms_without_a_number_of_their_own_are_swapped():
    for others in ([], [nn.Embedding.from_pretrained(torch.ones(2, 2, dtype=torch.int64))]):
        model = swap_norms(nn.Sequential(nn.InstanceNorm2d(4), *others), "batch")
        assert model[0].running_mean.dtype == torch.float32


@pytest.mark.parametrize("kind", ["instance", "layer", "group"])
def test_momentum_stays_on_the_way_there_and_back(kind):
    model = swap_norms(nn.Sequential(nn.BatchNorm2d(32, momentum=0.01)), kind)
    assert model[0].momentum == 0.01
    assert swap_norms(model, "batch")[0].momentum == 0.01


def test_running_moments_go_from_batch_norm_to_batch_norm():
    model = small()
    for _ in range(3):
        model(torch.randn(4, 3, 9, 9) + 2)
    expected = copy.deepcopy(model).eval()
    swap_norms(model.eval(), "batch")
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(model(x), expected(x), rtol=1e-4, atol=1e-5)
    assert model[1].num_batches_tracked == 3


@pytest.mark.parametrize("training", [True, False])
def test_running_moments_that_are_no_longer_tracked_serve_as_in_torch(training):
    model = small().train(training)
    for norm in (model[1], model[5]):
        norm.running_mean.normal_(), norm.running_var.uniform_(1, 2)
        norm.track_running_stats = False
    model[3].p = 0.0
    x = torch.randn(2, 3, 9, 9)
    expected, model = model, swap_norms(copy.deepcopy(model), "batch")
    torch.testing.assert_close(model(x), expected(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model[1].running_mean, expected[1].running_mean)


def test_a_batch_norm_without_running_moments_gets_none():
    model = swap_norms(small(track_running_stats=False), "batch")
    assert model[1].running_mean is None and not model[1].track_running_stats


def test_groups_are_those_asked_for_or_those_a_layer_had():
    def model():
        return nn.Sequential(nn.BatchNorm2d(64), nn.GroupNorm(16, 64), GroupNorm(4, 64), LayerNorm2d(64))

    assert [m.num_groups for m in swap_norms(model(), "group")] == [32, 16, 4, 32]
    assert [m.num_groups for m in swap_norms(model(), "group", 8)] == [8, 8, 8, 8]


def test_a_layer_in_two_places_stays_one_layer():
    norm = nn.BatchNorm2d(3)
    model = swap_norms(nn.Sequential(norm, nn.ReLU(), norm), "group", 3)
    assert model[0] is model[2] and isinstance(model[0], GroupNorm)


def test_a_norm_by_itself_is_given_back_swapped():
    norm = nn.BatchNorm2d(6)
    new = swap_norms(norm, "instance")
    assert isinstance(new, InstanceNorm2d) and new.weight is norm.weight


def test_what_normalizes_no_feature_maps_stays():
    others = [nn.LayerNorm(8), nn.BatchNorm1d(8), nn.BatchNorm3d(8), nn.InstanceNorm1d(8)]
    model = swap_norms(nn.Sequential(nn.BatchNorm2d(8), *others), "instance")
    assert list(model)[1:] == others


def test_synchronized_batch_norm_is_swapped_but_for_another_batch_norm():
    def model():
        return nn.Sequential(nn.SyncBatchNorm(8), nn.BatchNorm2d(8))

    assert [type(m) for m in swap_norms(model(), "batch")] == [nn.SyncBatchNorm, BatchNorm2d]
    assert [type(m) for m in swap_norms(model(), "instance")] == [InstanceNorm2d] * 2


class Activated(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: swapped for a norm alone, the network would lose its activations without a word."""

    def forward(self, x):
        return super().forward(x).relu()


class PerPixel(nn.LayerNorm):
    """As the LayerNorm2d of torchvision's ConvNeXt, which has the name of a layer that is swapped."""


def positive():
    norm = nn.BatchNorm2d(8)
    nn.utils.parametrize.register_parametrization(norm, "weight", nn.Softplus())
    return norm


@pytest.mark.parametrize(
    ("model", "kind", "groups", "told"),
    [
        (lambda: small(), "weight", None, "no norm 'weight'; choose one of batch, layer, instance, group"),
        (lambda: nn.Sequential(nn.Sequential(nn.BatchNorm2d(32)), nn.BatchNorm2d(8)), "group", None, "1: the 32 groups that are taken where none are asked for do not divide 8 channels; give num_groups"),
        (lambda: small(), "group", 0, "1: num_groups=0 does not divide 8 channels"),
        (lambda: small(), "group", 3, "1: num_groups=3 does not divide 8 channels"),
        (lambda: nn.Sequential(nn.BatchNorm2d(8), nn.LazyBatchNorm2d()), "layer", None, "1: a lazy layer gets its channels from the first map"),
        (lambda: nn.Sequential(nn.BatchNorm2d(8), nn.LazyBatchNorm2d(affine=False)), "layer", None, "1: a lazy layer gets"),
        (lambda: nn.Sequential(nn.BatchNorm2d(8), Activated(8)), "layer", None, "1: Activated has a forward of its own, which would be lost"),
        (lambda: nn.Sequential(nn.BatchNorm2d(8), positive()), "layer", None, "1: its weight or bias is computed, and no parameter to keep"),
        (lambda: nn.Sequential(nn.Linear(3, 3)), "batch", None, "there is no normalization of feature maps to swap in Sequential"),
        (lambda: nn.Sequential(PerPixel(8)), "batch", None, "to swap in Sequential; its PerPixel is a torch.nn.LayerNorm, which stays"),
        (lambda: Generator(GeneratorConfig()), "batch", None, "to swap in Generator; its ConditionalNorm takes its kind when it is made, in a Generator from GeneratorConfig(norm=...)"),
        (lambda: nn.Sequential(ConditionalNorm(8)), "batch", None, "to swap in Sequential; its ConditionalNorm takes its kind"),
    ],
)
def test_a_refusal_says_which_layer_and_leaves_the_model_alone(model, kind, groups, told):
    model = model()
    before = list(model.modules())
    with pytest.raises(ValueError) as caught:
        swap_norms(model, kind, groups)
    assert told in str(caught.value)
    assert all(a is b for a, b in zip(before, model.modules(), strict=True))


def batches(count=3):
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(4, 3, 9, 9, generator=generator) * (i + 1) + i for i in range(count)]


@pytest.mark.parametrize("shape", [lambda x: x, lambda x: (x, torch.zeros(4)), lambda x: [x]])
def test_recalibrating_is_torchs_update_bn(shape):
    expected = small()
    expected[3].p = 0.0  # torch's puts dropout in training mode, too
    model = swap_norms(small(), "batch").eval()
    model.train()(batches()[2] * 5)  # which is forgotten
    model.eval()
    torch.optim.swa_utils.update_bn([shape(x) for x in batches()], expected)
    recalibrate(model, [shape(x) for x in batches()])
    for k in (1, 5):
        for name in ("running_mean", "running_var"):
            torch.testing.assert_close(getattr(model[k], name), getattr(expected[k], name), rtol=1e-4, atol=1e-5)
        assert model[k].num_batches_tracked == 3 and model[k].momentum == 0.1
    assert not any(m.training for m in model.modules())


def test_recalibrating_serves_torchs_own_batch_norm_and_keeps_modes():
    model = small()
    model[1].eval()
    expected = copy.deepcopy(model).train()
    expected[3].p = 0.0
    torch.optim.swa_utils.update_bn(batches(), expected)
    recalibrate(model, batches())
    torch.testing.assert_close(model[5].running_var, expected[5].running_var)
    assert model.training and not model[1].training and model[3].training


def test_recalibrating_serves_a_batch_norm_that_is_given_its_gamma():
    class Styled(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = ConditionalNorm(3, "batch")

        def forward(self, x):
            return self.norm(x, torch.ones(3), torch.zeros(3))

    model, expected = Styled().eval(), nn.Sequential(nn.BatchNorm2d(3))
    seen = [x[:, :3] for x in batches()]
    torch.optim.swa_utils.update_bn(seen, expected)
    recalibrate(model, seen)
    torch.testing.assert_close(model.norm.running_var, expected[0].running_var)
    torch.testing.assert_close(model.norm.running_mean, expected[0].running_mean)


@pytest.mark.parametrize("kind", [None, "batch"])
def test_recalibrating_serves_a_batch_norm_that_no_longer_tracks(kind):
    """It uses the moments nevertheless, torch's and ours alike."""
    model = small().eval() if kind is None else swap_norms(small(), kind).eval()
    expected = copy.deepcopy(model)
    recalibrate(expected, batches())
    model[1].track_running_stats = False
    recalibrate(model, batches())
    torch.testing.assert_close(model[1].running_mean, expected[1].running_mean)
    assert model[1].track_running_stats is False and model[5].track_running_stats is True


def test_recalibrating_forgets_the_moments_a_swapped_network_never_had():
    model = swap_norms(resnet(THEIRS["instance"]), "batch").eval()
    x = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    recalibrate(model, [x])
    y = model.conv1(x)
    torch.testing.assert_close(model.bn1.running_mean, y.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(model.bn1.running_var, y.var((0, 2, 3)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", [lambda: swap_norms(small(), "instance"), lambda: swap_norms(small(track_running_stats=False), "batch")])
def test_nothing_to_recalibrate_is_told(model):
    with pytest.raises(ValueError, match="has no batch norm with running moments"):
        recalibrate(model(), batches())


def test_no_batch_and_a_wrong_batch_leave_everything_as_it_was():
    model = swap_norms(small(), "batch").eval()
    model[1].running_mean.fill_(7)
    with pytest.raises(ValueError, match="no batch to measure"):
        recalibrate(model, [])
    assert model[1].running_mean.eq(7).all()
    with pytest.raises(RuntimeError):
        recalibrate(model, [torch.ones(2, 3, 9, 9), torch.zeros(2, 5, 9, 9)])
    assert model[1].running_mean.eq(7).all() and model[1].num_batches_tracked == 0
    assert model[1].momentum == 0.1 and not any(m.training for m in model.modules())
