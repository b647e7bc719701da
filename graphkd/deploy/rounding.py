"""Weights rounded to 8 bits so that each channel keeps its mean.

Rounding every weight to the nearest integer moves the mean of a channel: on a smooth image by the sum of its kernel's
errors, which seldom cancel among the nine weights of a depthwise kernel. Layers add such shifts up.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphkd.deploy.sessions import session
from graphkd.typing import Float, Tensor

_BATCH = 16


def round_weights(model: Path, images: Float[Tensor, "b 3 h w"], kept: Collection[str] = ()) -> None:
    r"""Put the weights of an ONNX file onto the grid of their 8-bit integers, and correct the biases.

    Each kernel keeps its sum, and the bias makes up for the mean that is still lost,
    :math:`b' = b - \sum_i E[x_i] \sum_k (w' - w)_{ik}` (Nagel et al. 2019, arXiv:1906.04721, section 4.2).

    Args:
        model: file whose convolutions and linear layers have names; it is changed.
        images: to take the means :math:`E[x_i]` over.
        kept: layers that stay as they are.

    Example: ``round_weights(Path("prepared.onnx"), images)``
    """
    import onnx
    from onnx import numpy_helper

    made = onnx.load(model)
    constants = {each.name: each for each in made.graph.initializer}
    layers = [node for node in made.graph.node if node.name not in kept and _rounded(node, constants)]
    means = _means(made, layers, images)
    for node in layers:
        weight, bias = (constants[name] for name in node.input[1:3])
        exact = torch.tensor(numpy_helper.to_array(weight)).double()
        kernels = exact.reshape(*exact.shape[:2], -1)
        near = on_grid(kernels)
        lost = (near - kernels).sum(2)
        inputs = means[node.input[0]].reshape(-1, lost.shape[1])  # a row a group
        shift = (lost * inputs.repeat_interleave(len(lost) // len(inputs), 0)).sum(1)
        corrected = torch.tensor(numpy_helper.to_array(bias)).double() - shift
        for tensor, value in ((weight, near.reshape(exact.shape)), (bias, corrected)):
            tensor.CopyFrom(numpy_helper.from_array(value.float().numpy(), tensor.name))
    onnx.save(made, model)


def on_grid(weight: Float[Tensor, "out in k"]) -> Float[Tensor, "out in k"]:
    """Multiples of each output channel's largest weight over 127; each kernel keeps its sum as nearly as they can.

    Example: ``on_grid(torch.tensor([[[127.0, 0.4, 0.4, 0.3]]]))`` is 127, 1, 0, 0
    """
    step = weight.abs().amax((1, 2), keepdim=True).clamp_min(1e-30) / 127
    exact = weight / step
    near = exact.round()
    missing = (exact - near).sum(2, keepdim=True).round()
    gain = (exact - near) * missing.sign()
    gain[near.abs() >= 127] = -1  # the largest weight sets the scale, and stays
    rank = gain.argsort(2, descending=True).argsort(2)
    return (near + missing.sign() * (rank < missing.abs())) * step


def _rounded(node: Any, constants: dict[str, Any]) -> bool:
    """Whether a node is a layer with constant weights, an output channel a row, and a bias."""
    if node.op_type not in ("Conv", "Gemm") or len(node.input) < 3:
        return False
    turned = node.op_type == "Conv" or any(each.name == "transB" and each.i for each in node.attribute)
    return turned and node.input[1] in constants and node.input[2] in constants


def _means(model: Any, layers: list[Any], images: Tensor) -> dict[str, Tensor]:
    """Mean of each channel of what the layers are given, over images and places."""
    from onnx import ModelProto, TensorProto, helper

    watched = ModelProto.FromString(model.SerializeToString())
    outputs = dict[str, str]()
    for node in layers:
        name = node.input[0]
        outputs[name] = name if node.op_type == "Gemm" else f"{name}.mean"
    for name, output in outputs.items():
        if output != name:
            watched.graph.node.append(helper.make_node("GlobalAveragePool", [name], [output]))
        watched.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    opened = session(watched.SerializeToString())
    found = [opened.run(list(outputs.values()), {"images": each.numpy()}) for each in torch.split(images, _BATCH)]
    columns = (np.concatenate(each) for each in zip(*found, strict=True))
    return {name: torch.tensor(each.mean(0).flatten()).double() for name, each in zip(outputs, columns, strict=True)}
