"""A JAX function as an ONNX graph: a translator for the operations that our networks use in inference.

The function is traced, its jaxpr walked, and each operation written as one ONNX node. Whatever depends on weights alone
is computed here.

`jax2onnx` would be the library for this; in its present release it excludes our orbax-checkpoint, and it does not know
`custom_vmap`, which `jaxseg.models.ops` uses.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from onnx import TensorProto, helper

from jaxseg.errors import UserError
from jaxseg.inference.onnx_graph import TO_NCHW, Graph, Tensor

OPSET = 17
"""Version of ONNX's operators; ONNX Runtime has it since 1.12 (2022)."""

_IR_VERSION = 8
_BATCH = 251
"""Stands for any batch size while tracing: a prime that is no other size of a network."""

_Value = Tensor | np.ndarray
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
    graph = Graph()
    (result,) = _run(graph, closed.jaxpr, closed.consts, [Tensor("images", (_BATCH, *image_shape))])
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


def _run(graph: Graph, jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[_Value]) -> list[_Value]:
    """Writes a jaxpr's operations and returns its results."""
    values: dict[Any, _Value] = dict(zip(jaxpr.invars, arguments, strict=True))
    values |= {var: np.asarray(const) for var, const in zip(jaxpr.constvars, consts, strict=True)}

    def read(atom: Any) -> _Value:
        return np.asarray(atom.val) if isinstance(atom, Literal) else values[atom]

    for eqn in jaxpr.eqns:
        results = _operation(graph, eqn, [read(atom) for atom in eqn.invars])
        values |= dict(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _operation(graph: Graph, eqn: Any, inputs: list[_Value]) -> list[_Value]:
    kind, shapes = eqn.primitive.name, [var.aval.shape for var in eqn.outvars]
    inner = next((p for p in eqn.params.values() if isinstance(p, ClosedJaxpr)), None)
    if inner is not None and kind in _CALLS:
        return _run(graph, inner.jaxpr, inner.consts, inputs)
    if kind == "platform_index":  # of what `jax.lax.platform_dependent` chooses from: the plain form, given last
        return [np.asarray(len(eqn.params["platforms"]) - 1)]
    if kind == "cond" and not isinstance(inputs[0], Tensor):
        chosen = eqn.params["branches"][int(inputs[0])]
        return _run(graph, chosen.jaxpr, chosen.consts, inputs[1:])
    if not any(isinstance(value, Tensor) for value in inputs):
        return [_computed(eqn, inputs)]
    if kind not in _TRANSLATIONS:
        raise _not_written(f"the network's operation {kind!r}")
    return [_TRANSLATIONS[kind](graph, inputs, shapes[0], eqn.params)]


_CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "custom_vmap_call")
"""Operations that call another jaxpr."""

_ELEMENTWISE = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "max": np.maximum}


def _not_written(what: str) -> UserError:
    return UserError(f"{what} cannot be written as ONNX; use --format stablehlo")


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


def _elementwise(kind: str) -> Callable[..., Tensor]:
    def translate(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
        if kind == "Max" and any(isinstance(value, np.ndarray) and not value.any() for value in inputs):
            (tensor,) = (value for value in inputs if isinstance(value, Tensor))
            return _unary("Relu")(graph, [tensor], shape, params)
        first = any(value.channels_first for value in inputs if isinstance(value, Tensor))

        def named(value: _Value) -> str:
            if isinstance(value, Tensor):
                return graph.channels_first(value) if first else value.name
            return graph.weight(value.transpose(TO_NCHW) if first and value.ndim == 4 else value)

        names = [named(value) for value in inputs]
        if kind in ("Add", "Mul") and isinstance(inputs[0], np.ndarray):
            names.reverse()  # where folding looks for it
        return graph.add(kind, names, shape, channels_first=first)

    return translate


def _unary(kind: str, **attributes) -> Callable[..., Tensor]:
    def translate(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
        (tensor,) = inputs
        return graph.add(kind, [tensor.name], shape, channels_first=tensor.channels_first, **attributes)

    return translate


def _cast(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
    to = helper.np_dtype_to_tensor_dtype(np.dtype(params["new_dtype"]))
    return _unary("Cast", to=to)(graph, inputs, shape, params)


def _convolved(graph: Graph, x: Tensor, kernel: np.ndarray, shape: tuple[int, ...], **attributes) -> Tensor:
    """Adds a convolution with a kernel [features, C, h, w] and no bias yet."""
    names = [graph.channels_first(x), graph.weight(kernel), graph.weight(np.zeros(kernel.shape[0], np.float32))]
    return graph.add("Conv", names, shape, channels_first=True, **attributes)


def _convolution(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
    x, kernel = inputs
    numbers = params["dimension_numbers"]
    plain = numbers.lhs_spec == numbers.out_spec == TO_NCHW and set(params["lhs_dilation"]) == {1}
    if not (plain and isinstance(kernel, np.ndarray)):
        raise _not_written("a convolution of this kind")
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


def _product(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
    """Writes the product of every pixel's channels with a matrix as a 1x1 convolution."""
    x, matrix = inputs
    if not isinstance(matrix, np.ndarray) or params["dimension_numbers"] != (((3,), (0,)), ((), ())):
        raise _not_written("a product of this kind")
    return _convolved(graph, x, matrix.T[:, :, None, None], shape)


def _max_pool(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
    (_, height, width, _), (_, down, across, _) = params["window_dimensions"], params["window_strides"]
    _, (top, bottom), (left, right), _ = params["padding"]
    return graph.add(
        "MaxPool",
        [graph.channels_first(inputs[0])],
        shape,
        channels_first=True,
        kernel_shape=[height, width],
        strides=[down, across],
        pads=[top, left, bottom, right],
    )


def _pad(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
    x, value = inputs
    low, high, between = np.array(params["padding_config"]).T
    if between.any():
        raise _not_written("padding between pixels")
    order = list(TO_NCHW) if x.channels_first else list(range(len(shape)))
    pads = np.concatenate([low[order], high[order]]).astype(np.int64)
    names = [x.name, graph.weight(pads), graph.weight(np.float32(value))]
    return graph.add("Pad", names, shape, channels_first=x.channels_first)


def _concatenation(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
    first = len(shape) == 4 and any(tensor.channels_first for tensor in inputs)
    names = [graph.channels_first(tensor) if first else tensor.name for tensor in inputs]
    axis = TO_NCHW.index(params["dimension"]) if first else params["dimension"]
    return graph.add("Concat", names, shape, channels_first=first, axis=axis)


def _reshape(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
    (x,) = inputs
    sizes = np.array([-1 if size == _BATCH else size for size in shape], np.int64)
    return graph.add("Reshape", [graph.channels_last(x), graph.weight(sizes)], shape)


def _broadcast(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
    if np.prod(shape) != np.prod(inputs[0].shape):
        raise _not_written("a repeated map")
    return _reshape(graph, inputs[:1], shape, params)


def _transpose(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
    return graph.add("Transpose", [graph.channels_last(inputs[0])], shape, perm=params["permutation"])


def _reverse(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
    axes = list(params["dimensions"])
    return _sliced(graph, inputs[0], shape, {axis: (-1, np.iinfo(np.int64).min, -1) for axis in axes})


def _slice(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
    (x,) = inputs
    steps = params["strides"] or (1,) * len(shape)
    parts = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
    cut = {axis: part for axis, part in enumerate(parts) if part != (0, x.shape[axis], 1)}
    return _sliced(graph, x, shape, cut)


def _sliced(graph: Graph, x: Tensor, shape: tuple[int, ...], cut: dict[int, tuple[int, int, int]]) -> Tensor:
    """Adds a slice; `cut` holds start, end and step of each axis that is not taken whole."""
    axes = [TO_NCHW.index(axis) if x.channels_first else axis for axis in cut]
    starts, ends, steps = (list(numbers) for numbers in zip(*cut.values(), strict=True))
    numbers = [graph.weight(np.array(n, np.int64)) for n in (starts, ends, axes, steps)]
    return graph.add("Slice", [x.name, *numbers], shape, channels_first=x.channels_first)


def _gather(graph: Graph, inputs: list[_Value], shape: tuple[int, ...], params: dict[str, Any]) -> Tensor:
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
        raise _not_written("a selection of this kind")
    for axis, where in enumerate(np.unravel_index(selected, one)):
        line = where[tuple(slice(None) if k == axis else 0 for k in range(where.ndim))]
        if not (where == line.reshape([-1 if k == axis else 1 for k in range(where.ndim)])).all():
            raise _not_written("a selection of this kind")
        if len(line) != one[axis] or (line != np.arange(one[axis])).any():
            tensor = graph.add("Gather", [tensor.name, graph.weight(line.astype(np.int64))], shape, axis=axis)
    return dataclasses.replace(tensor, shape=shape)


_TRANSLATIONS: dict[str, Callable[[Graph, list[_Value], tuple[int, ...], dict[str, Any]], Tensor]] = {
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
