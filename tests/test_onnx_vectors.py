"""The ONNX backend vectors for the four normalizations: the inputs and outputs that `onnx` publishes, run here."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch

from stylenorm.functional import moments, normalize
from stylenorm.layers import BatchNorm2d, ConditionalNorm, GroupNorm, InstanceNorm2d

onnx = pytest.importorskip("onnx")
from onnx import numpy_helper  # noqa: E402

NAMES = re.compile(r"test_(batchnorm|instancenorm|group_normalization|layer_normalization)_(?!.*expanded)")
FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"


def read_files():
    """name -> (node, inputs, outputs) from the .pb files, which onnx ships up to 1.22."""
    cases = {}
    for folder in sorted(f for f in FOLDER.glob("test_*") if NAMES.match(f.name)):
        node = onnx.load(folder / "model.onnx").graph.node[0]
        data = folder / "test_data_set_0"
        inputs, outputs = (
            [numpy_helper.to_array(onnx.load_tensor(data / f"{end}_{i}.pb")) for i in range(len(names))]
            for end, names in (("input", node.input), ("output", node.output))
        )
        cases[folder.name] = node, inputs, outputs
    return cases


def make_cases():
    """The same from the scripts that onnx wrote those files with, which is what it ships from 1.23."""
    package = importlib.import_module("onnx.backend.test.case.node")
    for module in pkgutil.iter_modules(package.__path__):
        if re.match("(batch|instance|group|layer)_?norm", module.name):
            importlib.import_module(f"{package.__name__}.{module.name}")
    return {
        case.name: (case.model.graph.node[0], *case.data_sets[0])
        for case in package._NodeTestCases
        if NAMES.match(case.name)
    }


CASES = read_files() or make_cases()


def batch_normalization(inputs, eps=1e-5, momentum=0.9, training_mode=0):
    x, weight, bias, mean, var = inputs
    layer = BatchNorm2d(x.shape[1], eps=eps, momentum=1 - momentum).train(bool(training_mode))
    layer.load_state_dict(
        dict(weight=weight, bias=bias, running_mean=mean, running_var=var, num_batches_tracked=torch.tensor(0))
    )
    y = layer(x)
    injected = ConditionalNorm(x.shape[1], "batch", eps=eps, momentum=1 - momentum).train(bool(training_mode))
    injected.running_mean.copy_(mean)
    injected.running_var.copy_(var)
    assert torch.equal(injected(x, weight[None], bias[None]), y)
    if not training_mode:
        return [y]
    # ONNX keeps the biased variance and torch the unbiased: take torch's correction out of what was added.
    n = x.numel() // x.shape[1]
    running_var = momentum * var + (layer.running_var - momentum * var) * (n - 1) / n
    torch.testing.assert_close(running_var, momentum * var + (1 - momentum) * moments(x, "batch")[1].flatten())
    return [y, layer.running_mean, running_var]


def instance_normalization(inputs, eps=1e-5):
    x, weight, bias = inputs
    layer = InstanceNorm2d(x.shape[1], eps=eps, affine=True)
    layer.load_state_dict(dict(weight=weight, bias=bias))
    injected = ConditionalNorm(x.shape[1], "instance", eps=eps)
    assert torch.equal(injected(x, weight[None], bias[None]), layer(x))
    return [layer(x)]


def group_normalization(inputs, eps=1e-5, num_groups=None):
    x, weight, bias = inputs
    layer = GroupNorm(num_groups, x.shape[1], eps=eps)
    layer.load_state_dict(dict(weight=weight, bias=bias))
    injected = ConditionalNorm(x.shape[1], "group", num_groups, eps=eps)
    assert torch.equal(injected(x, weight[None], bias[None]), layer(x))
    return [layer(x)]


def layer_normalization(inputs, eps=1e-5, axis=-1):
    x, weight, bias = inputs
    mean, var = moments(x, dims=tuple(range(axis % x.dim(), x.dim())))
    return [normalize(x, mean, var, eps) * weight + bias, mean, torch.rsqrt(var + eps)]


OPERATORS = {
    "BatchNormalization": batch_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "LayerNormalization": layer_normalization,
}


@pytest.mark.parametrize("name", CASES)
def test_vector(name):
    node, inputs, outputs = CASES[name]
    options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    options = {{"epsilon": "eps"}.get(k, k): v for k, v in options.items()}
    with torch.no_grad():
        results = OPERATORS[node.op_type]([torch.tensor(i) for i in inputs], **options)
    assert len(results) == len(outputs) == len(node.output)
    for result, expected in zip(results, outputs):
        assert result.shape == expected.shape
        torch.testing.assert_close(result, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_every_vector_is_there():
    counts = dict.fromkeys(OPERATORS, 0)
    for node, *_ in CASES.values():
        counts[node.op_type] += 1
    assert counts["BatchNormalization"] >= 4 and counts["LayerNormalization"] >= 19
    assert counts["InstanceNormalization"] >= 2 and counts["GroupNormalization"] >= 2
