"""A JAX function as an ONNX graph: a translator for the operations that our networks use in inference.

The function is traced, its jaxpr walked, and each operation written as one ONNX node. Whatever depends on weights alone
is computed here. Maps of channels are kept as ONNX has them, [B, C, H, W]; our [B, H, W, C] appears only where an
operation needs it. What scales or shifts the channels of a convolution's output, as batch norm does, is folded into its
kernel and bias.

`jax2onnx` would be the library for this; in its present release it excludes our orbax-checkpoint, and it does not know
`custom_vmap`, which `jaxseg.models.ops` uses.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from onnx import TensorProto, helper, numpy_helper

from jaxseg.errors import UserError

OPSET = 17
"""Version of ONNX's operators; ONNX Runtime has it since 1.12 (2022)."""

_IR_VERSION = 8
_BATCH = 251
"""Stands for any batch size while tracing: a prime that is no other size of a network."""

_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A value that depends on the input.

    Attributes:
      name: name in the graph.
      shape: shape in JAX, with `_BATCH` for the batch.
      channels_first: whether the graph holds it as [B, C, H, W] where JAX has [B, H, W, C].
    """

    name: str
    shape: tuple[int, ...]
    channels_first: bool = False


_Value = _Tensor | np.ndarray
"""What a variable of the jaxpr stands for; an array may have sizes of 1 where JAX has broadcast it."""


def to_onnx(
    function: Callable[[jax.Array], jax.Array],
    image_shape: tuple[int, int, int],
    *,
    name: str,
    float16: bool = False,
    metadata: dict[str, str] | None = None,
) -> onnx.ModelProto:
    """Translates a function of images into an ONNX model with any batch size.

    Args:
      function: maps uint8 [B, H, W, 3] to one float32 array [B, ...]; its weights are closed over.
      image_shape: H, W and 3.
      name: name of the graph.
      float16: store weights in half the bytes; they are widened when the model is loaded.
      metadata: names and texts for the model's `metadata_props`.

    Returns:
      A checked model; its input is "images", its output "probability".

    Raises:
      UserError: the function has an operation that is not translated.
    """
    closed = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((_BATCH, *image_shape), jnp.uint8))
    graph = _Graph()
    (result,) = graph.run(closed.jaxpr, closed.consts, [_Tensor("images", (_BATCH, *image_shape))])
    graph.add("Identity", [graph.channels_last(result)], result.shape, name="probability")
    graph.fold_into_convolutions()
    output_shape = ["batch", *result.shape[1:]]
    model = helper.make_model(
        helper.make_graph(
            graph.all_nodes(float16),
            name,
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", *image_shape])],
            [helper.make_tensor_value_info("probability", TensorProto.FLOAT, output_shape)],
            graph.initializers(float16),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="jaxseg",
        ir_version=_IR_VERSION,
    )
    helper.set_model_props(model, metadata or {})
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """The nodes and weights of the graph that is being written."""

    def __init__(self):
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, np.ndarray] = {}
        self._count = 0

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[_Value]) -> list[_Value]:
        """Writes a jaxpr's operations and returns its results."""
        values: dict[Any, _Value] = dict(zip(jaxpr.invars, arguments, strict=True))
        values |= {var: np.asarray(const) for var, const in zip(jaxpr.constvars, consts, strict=True)}

        def read(atom: Any) -> _Value:
            return np.asarray(atom.val) if isinstance(atom, Literal) else values[atom]

        for eqn in jaxpr.eqns:
            results = self._operation(eqn, [read(atom) for atom in eqn.invars])
            values |= dict(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def add(self, kind: str, inputs: Sequence[str], shape: tuple[int, ...], *, name: str = "", **attributes) -> _Tensor:
        """Adds a node and returns its result, in the layout of JAX."""
        self._count += 1
        name = name or f"{kind.lower()}_{self._count}"
        self._nodes.append(helper.make_node(kind, inputs, [name], name=f"node_{name}", **attributes))
        return _Tensor(name, shape)

    def weight(self, value: np.ndarray) -> str:
        """Adds an array and returns its name."""
        self._count += 1
        name = f"weight_{self._count}"
        self._weights[name] = np.ascontiguousarray(value)
        return name

    def channels_first(self, tensor: _Tensor) -> str:
        """Returns the name of a [B, H, W, C] tensor as [B, C, H, W]."""
        if tensor.channels_first:
            return tensor.name
        return self.add("Transpose", [tensor.name], tensor.shape, perm=_TO_NCHW).name

    def channels_last(self, tensor: _Tensor) -> str:
        """Returns the name of a tensor in the layout of JAX."""
        if not tensor.channels_first:
            return tensor.name
        return self.add("Transpose", [tensor.name], tensor.shape, perm=_TO_NHWC).name

    def _operation(self, eqn: Any, inputs: list[_Value]) -> list[_Value]:
        kind, shapes = eqn.primitive.name, [var.aval.shape for var in eqn.outvars]
        inner = next((p for p in eqn.params.values() if isinstance(p, ClosedJaxpr)), None)
        if inner is not None and kind in _CALLS:
            return self.run(inner.jaxpr, inner.consts, inputs)
        if not any(isinstance(value, _Tensor) for value in inputs):
            return [_computed(eqn, inputs)]
        if kind not in _TRANSLATIONS:
            raise UserError(f"the network's operation {kind!r} cannot be written as ONNX; use --format stablehlo")
        return [_TRANSLATIONS[kind](self, inputs, shapes[0], eqn.params)]

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


_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "custom_vmap_call")
"""Operations that call another jaxpr."""

_ELEMENTWISE = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum}


def _is_kernel(value: np.ndarray) -> bool:
    return value.dtype == np.float32 and value.ndim == 4 and value.shape[0] > 1


def _computed(eqn: Any, inputs: list[np.ndarray]) -> np.ndarray:
    """Computes an operation whose inputs are known."""
    kind, shape = eqn.primitive.name, eqn.outvars[0].aval.shape
    if kind == "broadcast_in_dim":
        small = [1] * len(shape)
        for axis, size in zip(eqn.params["broadcast_dimensions"], np.shape(inputs[0]), strict=True):
            small[axis] = size
        return np.reshape(inputs[0], small)  # ONNX broadcasts by itself
    if kind in _ELEMENTWISE:
        return np.asarray(_ELEMENTWISE[kind](*inputs), eqn.outvars[0].aval.dtype)
    whole = [np.broadcast_to(value, var.aval.shape) for value, var in zip(inputs, eqn.invars, strict=True)]
    return np.asarray(eqn.primitive.bind(*map(jnp.asarray, whole), **eqn.params))


def _elementwise(kind: str) -> Callable[..., _Tensor]:
    def translate(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
        if kind == "Max" and any(isinstance(value, np.ndarray) and not value.any() for value in inputs):
            (tensor,) = (value for value in inputs if isinstance(value, _Tensor))
            return _unary("Relu")(graph, [tensor], shape, params)
        first = any(value.channels_first for value in inputs if isinstance(value, _Tensor))

        def named(value: _Value) -> str:
            if isinstance(value, _Tensor):
                return graph.channels_first(value) if first else value.name
            return graph.weight(value.transpose(_TO_NCHW) if first and value.ndim == 4 else value)

        names = [named(value) for value in inputs]
        if kind in ("Add", "Mul") and isinstance(inputs[0], np.ndarray):
            names.reverse()  # where folding looks for it
        return dataclasses.replace(graph.add(kind, names, shape), channels_first=first)

    return translate


def _unary(kind: str, **attributes) -> Callable[..., _Tensor]:
    def translate(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
        (tensor,) = inputs
        return dataclasses.replace(
            graph.add(kind, [tensor.name], shape, **attributes), channels_first=tensor.channels_first
        )

    return translate


def _cast(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
    to = helper.np_dtype_to_tensor_dtype(np.dtype(params["new_dtype"]))
    return _unary("Cast", to=to)(graph, inputs, shape, params)


def _convolved(graph: _Graph, x: _Tensor, kernel: np.ndarray, shape: tuple[int, ...], **attributes) -> _Tensor:
    """Adds a convolution with a kernel [features, C, h, w] and no bias yet."""
    names = [graph.channels_first(x), graph.weight(kernel), graph.weight(np.zeros(kernel.shape[0], np.float32))]
    return dataclasses.replace(graph.add("Conv", names, shape, **attributes), channels_first=True)


def _convolution(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
    x, kernel = inputs
    numbers = params["dimension_numbers"]
    plain = numbers.lhs_spec == numbers.out_spec == _TO_NCHW and set(params["lhs_dilation"]) == {1}
    if not (plain and isinstance(kernel, np.ndarray)):
        raise UserError("a convolution of this kind cannot be written as ONNX; use --format stablehlo")
    (top, bottom), (left, right) = params["padding"]
    return _convolved(
        graph,
        x,
        kernel.transpose(numbers.rhs_spec),
        shape,
        strides=params["window_strides"],
        pads=[top, left, bottom, right],
        dilations=params["rhs_dilation"],
        group=params["feature_group_count"],
    )


def _product(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
    """Writes the product of every pixel's channels with a matrix as a 1x1 convolution."""
    x, matrix = inputs
    if not isinstance(matrix, np.ndarray) or params["dimension_numbers"] != (((3,), (0,)), ((), ())):
        raise UserError("a product of this kind cannot be written as ONNX; use --format stablehlo")
    return _convolved(graph, x, matrix.T[:, :, None, None], shape)


def _max_pool(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
    (_, height, width, _), (_, down, across, _) = params["window_dimensions"], params["window_strides"]
    _, (top, bottom), (left, right), _ = params["padding"]
    pooled = graph.add(
        "MaxPool",
        [graph.channels_first(inputs[0])],
        shape,
        kernel_shape=[height, width],
        strides=[down, across],
        pads=[top, left, bottom, right],
    )
    return dataclasses.replace(pooled, channels_first=True)


def _pad(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
    x, value = inputs
    low, high, between = np.array(params["padding_config"]).T
    if between.any():
        raise UserError("padding between pixels cannot be written as ONNX; use --format stablehlo")
    order = list(_TO_NCHW) if x.channels_first else list(range(len(shape)))
    pads = np.concatenate([low[order], high[order]]).astype(np.int64)
    padded = graph.add("Pad", [x.name, graph.weight(pads), graph.weight(np.float32(value))], shape)
    return dataclasses.replace(padded, channels_first=x.channels_first)


def _concatenation(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
    first = len(shape) == 4 and any(tensor.channels_first for tensor in inputs)
    names = [graph.channels_first(tensor) if first else tensor.name for tensor in inputs]
    axis = _TO_NCHW.index(params["dimension"]) if first else params["dimension"]
    return dataclasses.replace(graph.add("Concat", names, shape, axis=axis), channels_first=first)


def _reshape(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
    (x,) = inputs
    sizes = np.array([-1 if size == _BATCH else size for size in shape], np.int64)
    return graph.add("Reshape", [graph.channels_last(x), graph.weight(sizes)], shape)


def _broadcast(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
    if np.prod(shape) != np.prod(inputs[0].shape):
        raise UserError("a repeated map cannot be written as ONNX; use --format stablehlo")
    return _reshape(graph, inputs[:1], shape, params)


def _transpose(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
    return graph.add("Transpose", [graph.channels_last(inputs[0])], shape, perm=params["permutation"])


def _reverse(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
    axes = list(params["dimensions"])
    return _sliced(graph, inputs[0], shape, {axis: (-1, np.iinfo(np.int64).min, -1) for axis in axes})


def _slice(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
    (x,) = inputs
    steps = params["strides"] or (1,) * len(shape)
    parts = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
    cut = {axis: part for axis, part in enumerate(parts) if part != (0, x.shape[axis], 1)}
    return _sliced(graph, x, shape, cut)


def _sliced(graph: _Graph, x: _Tensor, shape: tuple[int, ...], cut: dict[int, tuple[int, int, int]]) -> _Tensor:
    """Adds a slice; `cut` holds start, end and step of each axis that is not taken whole."""
    axes = [_TO_NCHW.index(axis) if x.channels_first else axis for axis in cut]
    starts, ends, steps = (list(numbers) for numbers in zip(*cut.values(), strict=True))
    numbers = [graph.weight(np.array(n, np.int64)) for n in (starts, ends, axes, steps)]
    sliced = graph.add("Slice", [x.name, *numbers], shape)
    return dataclasses.replace(sliced, channels_first=x.channels_first)


def _gather(graph: _Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> _Tensor:
    """Writes a selection of rows, columns or channels by constant indices: one node per axis.

    Which are selected is read off a gather of the places themselves.
    """
    x, indices = inputs
    one = tuple(1 if size == _BATCH else size for size in x.shape)
    params = params | {"slice_sizes": tuple(1 if size == _BATCH else size for size in params["slice_sizes"])}
    places = jnp.arange(np.prod(one), dtype=jnp.int32).reshape(one)
    selected = np.asarray(jax.lax.gather_p.bind(places, jnp.asarray(indices), **params))
    tensor = dataclasses.replace(x, name=graph.channels_last(x), channels_first=False)
    if selected.ndim != len(one):
        raise UserError("a selection of this kind cannot be written as ONNX; use --format stablehlo")
    per_axis = np.unravel_index(selected, one)
    for axis, where in enumerate(per_axis):
        line = where[tuple(slice(None) if k == axis else 0 for k in range(where.ndim))]
        if not (where == line.reshape([-1 if k == axis else 1 for k in range(where.ndim)])).all():
            raise UserError("a selection of this kind cannot be written as ONNX; use --format stablehlo")
        if len(line) != one[axis] or (line != np.arange(one[axis])).any():
            tensor = graph.add("Gather", [tensor.name, graph.weight(line.astype(np.int64))], shape, axis=axis)
    return dataclasses.replace(tensor, shape=shape)


_TRANSLATIONS: dict[str, Callable[[_Graph, list[_Value], tuple[int, ...], dict[str, Any]], _Tensor]] = {
    "add": _elementwise("Add"),
    "sub": _elementwise("Sub"),
    "mul": _elementwise("Mul"),
    "div": _elementwise("Div"),
    "max": _elementwise("Max"),
    "logistic": _unary("Sigmoid"),
    "convert_element_type": _cast,
    "conv_general_dilated": _convolution,
    "dot_general": _product,
    "reduce_window_max": _max_pool,
    "pad": _pad,
    "concatenate": _concatenation,
    "reshape": _reshape,
    "squeeze": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "rev": _reverse,
    "slice": _slice,
    "gather": _gather,
}
"""How each operation of JAX is written."""
