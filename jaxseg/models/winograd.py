"""3x3 convolutions with 16 products for four pixels instead of 36: Winograd's F(2x2, 3x3), for CPUs.

Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, 2015 (arXiv 1509.09308), 4.1. Tiles d of 4x4 pixels,
which overlap by two, and the kernel k give 2x2 pixels each:

    y = A^T [(G k G^T) * (B^T d B)] A        * multiplies elements, each of which is a matrix over channels

            1  0 -1  0             1    0    0
    B^T =   0  1  1  0      G =   1/2  1/2  1/2       A^T =  1  1  1  0
            0 -1  1  0            1/2 -1/2  1/2              0  1 -1 -1
            0  1  0 -1             0    0    1

So a convolution is 16 products of matrices, [tiles, C] by [C, F]. Its gradients take as many: that by the image is a
convolution with the kernel turned by half a turn, that by the kernel G^T [(B^T d B) * (A g A^T)] G, summed over tiles,
for the gradient g of y.

XLA's convolutions on a CPU run at the rate of a large matrix product, so that fewer products are the only way to faster
ones; its gradients by the kernel have a tenth to a half of that rate, the larger the maps the less. The factors 0, 1/2
and 1 cost no accuracy: results differ from direct ones by 1e-6 of their maximum.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.models.interleave import interleave

FEWEST_CHANNELS = 64
"""With fewer channels the sums for the tiles take as long as the products that they save."""

FEWEST_IN_LARGE_MAPS = 128
"""The same where the elements of one image's tiles take more than `CHUNK_BYTES`, so that caches do not hold them."""

FEWEST_FOR_KERNEL = 32
"""The same for the gradient by the kernel, whose direct form XLA compiles to a slow program in maps of any size."""

CHUNK_BYTES = 2**24
"""Images of which the elements of all tiles take no more are handled at once; more would only take memory."""

_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
"""G."""

_KERNELS = np.kron(_KERNEL, _KERNEL)
"""G k G^T as a matrix [16, 9] for the nine places of the kernel, both in row-major order."""

_TURNED = np.arange(16).reshape(4, 4)[np.ix_([3, 1, 2, 0], [3, 1, 2, 0])].ravel()
"""Where G k G^T has the elements of that of the kernel turned by half a turn."""


def suits(shape: Sequence[int], kernel: jax.ShapeDtypeStruct, stride: int) -> bool:
    """Returns whether a convolution, and its gradient by the input, gain by the functions here.

    Args:
      shape: that of the input, [B, H, W, C].
      kernel: shape [k, k, C, F] and type.
      stride: step in both directions, pixels.
    """
    is_large = _bytes_per_image(shape, kernel.shape[3]) > CHUNK_BYTES
    return _suits(kernel, stride, FEWEST_IN_LARGE_MAPS if is_large else FEWEST_CHANNELS)


def suits_gradient_by_kernel(kernel: jax.ShapeDtypeStruct, stride: int) -> bool:
    """Returns whether the gradient by the kernel gains by the function here.

    Args:
      kernel: shape [k, k, C, F] and type.
      stride: step in both directions, pixels.
    """
    return _suits(kernel, stride, FEWEST_FOR_KERNEL)


def _suits(kernel: jax.ShapeDtypeStruct, stride: int, fewest: int) -> bool:
    is_for_tiles = kernel.shape[:2] == (3, 3) and stride == 1 and kernel.dtype == jnp.float32
    return is_for_tiles and min(kernel.shape[2:]) >= fewest


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves after zero padding of one pixel on every side.

    Args:
      x: float32 [B, H, W, C].
      kernel: float32 [3, 3, C, F].

    Returns:
      float32 [B, H, W, F].
    """
    return _convolved(x, _of_kernel(kernel), kernel.shape[3], jnp.dot)


def gradient_by_input(kernel: jax.Array, grad: jax.Array) -> jax.Array:
    """Returns the gradient by `convolve`'s `x`.

    Args:
      kernel: float32 [3, 3, C, F].
      grad: gradient of the result, float32 [B, H, W, F].

    Returns:
      float32 [B, H, W, C].
    """
    turned = _of_kernel(kernel)[_TURNED]
    return _convolved(grad, turned, kernel.shape[2], lambda tile, part: jnp.dot(tile, part.T))


def gradient_by_kernel(x: jax.Array, grad: jax.Array) -> jax.Array:
    """Returns the gradient by `convolve`'s `kernel`.

    Args:
      x: float32 [B, H, W, C].
      grad: gradient of the result, float32 [B, H, W, F].

    Returns:
      float32 [3, 3, C, F].
    """
    channels, features = x.shape[3], grad.shape[3]
    narrow_first = channels <= features  # XLA transposes the first factor in memory, as `ops.matmul` tells

    def add(sums: list[jax.Array], part: tuple[jax.Array, jax.Array]) -> tuple[list[jax.Array], None]:
        pairs = zip(_of_tiles(part[0]), _of_grads(part[1]), strict=True)
        outer = [jnp.einsum("na,nb->ab", *(pair if narrow_first else pair[::-1])) for pair in pairs]
        return [total + one for total, one in zip(sums, outer, strict=True)], None

    shape = (channels, features) if narrow_first else (features, channels)
    zeros = [jnp.zeros(shape, x.dtype)] * 16
    chunks = _chunks(x.shape, features)
    sums, _ = jax.lax.scan(add, zeros, (_split(x, chunks), _split(grad, chunks)))
    result = jnp.dot(_KERNELS.T, jnp.stack(sums).reshape(16, -1)).reshape(3, 3, *shape)
    return result if narrow_first else result.swapaxes(2, 3)


def _convolved(
    x: jax.Array, kernels: jax.Array, features: int, product: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    """Returns y [B, H, W, `features`], given the elements [16, ...] of G k G^T and the products with those of tiles."""

    def some(_: None, part: jax.Array) -> tuple[None, jax.Array]:
        products = [product(tile, kernels[i]) for i, tile in enumerate(_of_tiles(part))]
        return None, _untiled(products, (*part.shape[:3], features))

    chunks = _chunks(x.shape, features)
    return jax.lax.scan(some, None, _split(x, chunks))[1].reshape(*x.shape[:3], features)


def _chunks(shape: Sequence[int], features: int) -> int:
    """Returns into how many equal parts to split images of the shape [B, H, W, C]."""
    batch, per_image = shape[0], _bytes_per_image(shape, features)
    if not isinstance(batch, int):  # an exported program's, which is known when it runs
        return batch
    return next((n for n in range(1, batch) if batch % n == 0 and batch // n * per_image <= CHUNK_BYTES), batch)


def _bytes_per_image(shape: Sequence[int], features: int) -> int:
    """Returns how many bytes the elements of all tiles of one of the images [B, H, W, C] take."""
    _, height, width, channels = shape
    return 4 * height * width * max(channels, features) * 4  # four elements of a tile for each pixel


def _split(x: jax.Array, chunks: int) -> jax.Array:
    return x.reshape(chunks, x.shape[0] // chunks, *x.shape[1:])


def _of_kernel(kernel: jax.Array) -> jax.Array:
    """Returns the elements of G k G^T, [16, C, F]."""
    return jnp.dot(_KERNELS, kernel.reshape(9, -1)).reshape(16, *kernel.shape[2:])


def _of_tiles(x: jax.Array) -> list[jax.Array]:
    """Returns the elements of B^T d B, each [tiles, C]."""
    return _elements(x, 1, lambda d: [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]])


def _of_grads(grad: jax.Array) -> list[jax.Array]:
    """Returns the elements of A g A^T, each [tiles, F]."""
    return _elements(grad, 0, lambda g: [g[0], g[0] + g[1], g[0] - g[1], -g[1]])


def _elements(x: jax.Array, border: int, combined: Callable[[Sequence[jax.Array]], list[jax.Array]]) -> list[jax.Array]:
    """Returns what `combined` makes of the rows, and then of the columns, of all squares, each element [squares, C].

    The squares have 2x2 pixels of `x` and `border` more on every side; the last of odd sides reach over the edge.
    """
    _, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (border, border + height % 2), (border, border + width % 2), (0, 0)))
    places = range(2 + 2 * border)
    rows = combined([x[:, i : i + height : 2] for i in places])
    columns = [combined([row[:, :, j : j + width : 2] for j in places]) for row in rows]
    return [_apart(element.reshape(-1, channels)) for row in columns for element in row]


def _untiled(products: Sequence[jax.Array], shape: Sequence[int]) -> jax.Array:
    """Returns A^T m A [B, H, W, F] of that shape, for the elements m, each [tiles, F]."""
    batch, height, width, features = shape
    rows, columns = -(-height // 2), -(-width // 2)

    def combined(m: Sequence[jax.Array]) -> list[jax.Array]:
        return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]

    m = [_apart(product).reshape(batch, rows, columns, features) for product in products]
    by_column = [combined(m[4 * i : 4 * i + 4]) for i in range(4)]
    pixels = [combined([by_column[i][j] for i in range(4)]) for j in range(2)]  # by column, then row of the four
    return interleave([[pixels[j][i] for j in range(2)] for i in range(2)])[:, :height, :width]


def _apart(x: jax.Array) -> jax.Array:
    """Keeps XLA from computing an element of a tile anew wherever it is used."""
    return jax.lax.optimization_barrier(x)
