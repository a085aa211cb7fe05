"""An ONNX graph that is being written: nodes, weights, and what of them is folded together.

Maps of channels are kept as ONNX has them, [B, C, H, W]; our [B, H, W, C] appears only where an operation needs it.
What scales or shifts the channels of a convolution's output, as batch norm does, is folded into its kernel and bias.
"""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TO_NCHW = (0, 3, 1, 2)
"""Order of JAX's axes in ONNX."""

_TO_NHWC = (0, 2, 3, 1)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A value that depends on the input.

    Attributes:
      name: name in the graph.
      shape: shape in JAX, with a stand-in for the batch.
      channels_first: whether the graph holds it as [B, C, H, W] where JAX has [B, H, W, C].
    """

    name: str
    shape: tuple[int, ...]
    channels_first: bool = False


class Graph:
    """The nodes and weights of the graph that is being written."""

    def __init__(self):
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, np.ndarray] = {}
        self._count = 0

    def add(
        self,
        kind: str,
        inputs: Sequence[str],
        shape: tuple[int, ...],
        *,
        name: str = "",
        channels_first: bool = False,
        **attributes,
    ) -> Tensor:
        """Adds a node.

        Args:
          kind: ONNX operator.
          inputs: names of the operator's inputs.
          shape: shape of the result in JAX.
          name: name of the result; empty: one of its own.
          channels_first: whether the result is [B, C, H, W] where JAX has [B, H, W, C].
          **attributes: attributes of the operator.

        Returns:
          The result.
        """
        self._count += 1
        name = name or f"{kind.lower()}_{self._count}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=f"node_{name}", **attributes))
        return Tensor(name, shape, channels_first)

    def weight(self, value: np.ndarray) -> str:
        """Adds an array and returns its name."""
        self._count += 1
        name = f"weight_{self._count}"
        self._weights[name] = np.ascontiguousarray(value)
        return name

    def channels_first(self, tensor: Tensor) -> str:
        """Returns the name of a [B, H, W, C] tensor as [B, C, H, W]."""
        if tensor.channels_first:
            return tensor.name
        return self.add("Transpose", [tensor.name], tensor.shape, perm=TO_NCHW).name

    def channels_last(self, tensor: Tensor) -> str:
        """Returns the name of a tensor in the layout of JAX."""
        if not tensor.channels_first:
            return tensor.name
        return self.add("Transpose", [tensor.name], tensor.shape, perm=_TO_NHWC).name

    def fold_into_convolutions(self) -> None:
        """Folds what scales or shifts the channels of a convolution's output into its kernel and bias."""
        uses = Counter(name for node in self._nodes for name in node.input)
        made_by = {node.output[0]: node for node in self._nodes}
        kept = []
        for node in self._nodes:
            source = made_by.get(node.input[0])
            if (
                source is not None
                and source.op_type == "Conv"
                and uses[node.input[0]] == 1
                and self._fold(source, node)
            ):
                del made_by[source.output[0]]
                source.output[0] = node.output[0]
                made_by[node.output[0]] = source
            else:
                kept.append(node)
        self._nodes = kept
        used = {name for node in kept for name in node.input}
        self._weights = {name: value for name, value in self._weights.items() if name in used}

    def _fold(self, conv: onnx.NodeProto, node: onnx.NodeProto) -> bool:
        """Applies a node to the kernel and bias of the convolution before it; returns whether it could."""
        if node.op_type not in ("Add", "Sub", "Mul", "Div") or node.input[1] not in self._weights:
            return False
        kernel, bias = (self._weights[name] for name in conv.input[1:])
        change = self._weights[node.input[1]]
        if change.shape not in ((), (1, len(bias), 1, 1)):
            return False
        change = np.broadcast_to(change.reshape(-1), bias.shape)
        if node.op_type in ("Mul", "Div"):
            factor = change if node.op_type == "Mul" else 1 / change
            kernel, bias = kernel * factor[:, None, None, None], bias * factor
        else:
            bias = bias + (change if node.op_type == "Add" else -change)
        self._weights |= {conv.input[1]: kernel, conv.input[2]: bias}
        return True

    def initializers(self, float16: bool) -> list[onnx.TensorProto]:
        """Returns the weights; with `float16`, kernels in half the bytes."""
        return [
            numpy_helper.from_array(value.astype(np.float16) if float16 and _is_kernel(value) else value, name)
            for name, value in self._weights.items()
        ]

    def all_nodes(self, float16: bool) -> list[onnx.NodeProto]:
        """Returns the nodes; with `float16`, first those that widen the kernels."""
        if not float16:
            return self._nodes
        kernels = {name: f"{name}_float32" for name, value in self._weights.items() if _is_kernel(value)}
        casts = [
            helper.make_node("Cast", [name], [wide], name=f"node_{wide}", to=TensorProto.FLOAT)
            for name, wide in kernels.items()
        ]
        for node in self._nodes:
            node.input[:] = [kernels.get(name, name) for name in node.input]
        return casts + self._nodes


def _is_kernel(value: np.ndarray) -> bool:
    return value.dtype == np.float32 and value.ndim == 4 and value.shape[0] > 1
