"""The encoders and their layers against Flax' layers and against stored results of Keras.

The references come from `experiments/parity/reference/make_keras_reference.py`. The module
`tests/experiments/test_keras_parity.py` compares with Keras itself.
"""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.parity.reference import recipe
from jaxseg import weights
from jaxseg.models import layers, ops, resnet
from tests.helpers.paths import REFERENCE as KERAS

REFERENCE = KERAS / "keras_reference.npz"
ENCODERS = ("resnet50v2", "resnet50")


@pytest.fixture(scope="module")
def reference():
    with np.load(REFERENCE) as file:
        return dict(file)


@functools.cache
def seeded(encoder):
    """Returns an encoder's tensors and its variables by the recipe; `init` itself takes ten times as long."""
    tensors = weights.expected_tensors(encoder)
    variables = {"params": {}, "batch_stats": {}}
    for t in tensors:
        variables[t.collection].setdefault(t.layer, {})[t.name] = recipe.weight(t.layer, t.variable, t.shape)
    return tensors, variables


@pytest.mark.parametrize("encoder", ENCODERS)
def test_features_match_keras(encoder, reference):
    """If broken, a padding, stride, epsilon, shortcut or name differs from Keras, which spoils pretrained weights."""
    module = resnet.ENCODERS[encoder]()
    features = jax.jit(module.apply)(seeded(encoder)[1], recipe.images(encoder))
    assert tuple(features) == module.taps
    for name, values in features.items():
        mean, std, largest = reference[f"{encoder}/moments/{name}"]
        error = recipe.sample(values, recipe.SAMPLES) - reference[f"{encoder}/maps/{name}"]
        # 53 layers of float32 sums in another order: measured 3e-6 of the largest value.
        assert np.abs(error).max() < 1e-4 * largest, name
        chex.assert_trees_all_close(np.mean(values), mean, atol=1e-4 * std)
        chex.assert_trees_all_close(np.std(values), std, rtol=1e-4)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_batch_statistics_match_keras(encoder, reference):
    """If broken, the momentum, or the bias of the variance, differs from Keras, which shifts evaluation."""
    tensors, variables = seeded(encoder)
    step = jax.jit(functools.partial(resnet.ENCODERS[encoder]().apply, train=True, mutable=["batch_stats"]))
    updated = step(variables, recipe.images(encoder))[1]
    keys, expected = reference[f"{encoder}/stats_keys"], reference[f"{encoder}/stats"]
    by_key = {t.keras_key: t.of(updated) for t in tensors if t.collection == "batch_stats"}
    assert set(by_key) == set(keys)
    for key, values in zip(keys, expected, strict=True):
        # Measured: 1e-6 of the values. One step moves them by about 1/100 of the batch's statistics.
        error = np.abs(recipe.sample(by_key[key], 8) - values).max()
        assert error < 1e-4 * np.abs(values).max(), key


def test_gradients_match_keras(reference):
    """If broken, a layer is detached or used twice, which leaves activations right and makes gradients wrong."""
    encoder = "resnet50v2"
    tensors, variables = seeded(encoder)

    # In float64, because in float32 rounding switches single ReLUs, which moves gradients by 1 in 1000.
    with jax.enable_x64(True):
        apply = resnet.ENCODERS[encoder](dtype=jnp.float64).apply

        def loss(params, stats, images):
            return recipe.loss(apply({"params": params, "batch_stats": stats}, images))

        images = recipe.images(encoder).astype(np.float64)
        grads = jax.jit(jax.grad(loss))(variables["params"], variables["batch_stats"], images)
    # Norms are summed in float64, too: of two million squares, float32 loses 2e-5 on some processors.
    by_key = {t.keras_key: np.float64(grads[t.layer][t.name]) for t in tensors if t.collection == "params"}
    names = ("grads_keys", "grads", "grad_norms")
    assert set(by_key) == set(reference[f"{encoder}/grads_keys"])
    for key, values, norm in zip(*(reference[f"{encoder}/{name}"] for name in names), strict=True):
        # Parameters and the stored reference are float32.
        assert abs(np.linalg.norm(by_key[key]) - norm) < 1e-5 * norm, key
        assert np.abs(recipe.sample(by_key[key], 8) - values).max() < 1e-5 * norm, key


@pytest.mark.parametrize(("encoder", "count"), [("resnet50v2", 23_564_800), ("resnet50", 23_587_712)])
def test_parameter_counts_are_keras(encoder, count):
    """If broken, there is a bias too many or too few, which is invisible as long as it is zero."""
    assert sum(np.prod(t.shape) for t in weights.expected_tensors(encoder)) == count


@pytest.mark.parametrize("create", [resnet._ResNet50V2Tiny, resnet._ResNet50Tiny])
def test_taps_have_the_documented_strides_and_channels(create):
    """If broken, the decoder joins skips of wrong sizes; odd sizes round up at each halving."""
    module = create()
    images = jax.ShapeDtypeStruct((1, 97, 131, 3), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), images)
    features = jax.eval_shape(module.apply, variables, images)
    sizes = [(-(-97 // stride), -(-131 // stride)) for stride in (2, 4, 8, 16, 32)]
    channels = (8, 8, 16, 32, 256) if create is resnet._ResNet50V2Tiny else (8, 32, 64, 128, 256)
    assert tuple(features) == module.taps
    assert [f.shape for f in features.values()] == [(1, *s, c) for s, c in zip(sizes, channels, strict=True)]


def test_bfloat16_keeps_parameters_and_statistics_in_float32():
    """If broken, running averages stop moving: 1 % of a value is below the resolution of bfloat16."""
    images = recipe.images("resnet50v2", (2, 64, 64, 3))
    module = resnet._ResNet50V2Tiny(dtype=jnp.bfloat16)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    variables = jax.tree.map_with_path(lambda path, x: recipe.draw(str(path), x.shape, 0.1, 0.5), shapes)

    def step(module):
        return jax.jit(functools.partial(module.apply, train=True, mutable=["batch_stats"]))(variables, images)

    features, updated = step(module)
    assert {f.dtype for f in features.values()} == {jnp.dtype(jnp.bfloat16)}
    assert {x.dtype for x in jax.tree.leaves((shapes, updated))} == {jnp.dtype(jnp.float32)}
    exact = step(resnet._ResNet50V2Tiny())[0]
    for name, values in features.items():
        # bfloat16 has 8 bits; sixteen layers of them.
        assert np.abs(values.astype(jnp.float32) - exact[name]).mean() < 0.03 * np.abs(exact[name]).max(), name


def test_preprocess_is_keras():
    """If broken, wrong normalisation makes pretrained weights nearly useless without an error."""
    rgb = jnp.array([[[[0, 127.5, 255]]]])
    chex.assert_trees_all_close(resnet.ResNet50V2.preprocess(rgb)[0, 0, 0], jnp.array([-1.0, 0.0, 1.0]))
    expected = jnp.array([255 - 103.939, 127.5 - 116.779, -123.68])
    chex.assert_trees_all_close(resnet.ResNet50.preprocess(rgb)[0, 0, 0], expected)
    assert resnet.ResNet50.preprocess(rgb.astype(jnp.uint8)).dtype == jnp.float32


@pytest.mark.parametrize("stride", [1, 2])
def test_convolutions_equal_flax(stride):
    """If broken, the matrix product or the explicit padding differs from the convolution it replaces."""
    x = recipe.draw("x", (2, 7, 10, 5))
    bias = recipe.draw("bias", (6,))
    for ours, size in ((layers.PointwiseConv(6, stride=stride), 1), (layers.Conv(6, stride=stride), 3)):
        params = {"params": {"kernel": recipe.draw("kernel", (size, size, 5, 6)), "bias": bias}}
        pad = size // 2
        flax = nn.Conv(6, (size, size), strides=stride, padding=((pad, pad), (pad, pad)))
        chex.assert_trees_all_close(ours.apply(params, x), flax.apply(params, x), atol=1e-5)


def test_up_conv_equals_flax_with_the_kernel_turned():
    """If broken, rows and columns are swapped or the kernel is rotated, while the shape is still right."""
    x, kernel, bias = recipe.draw("x", (2, 3, 5, 4)), recipe.draw("k", (2, 2, 4, 6)), recipe.draw("b", (6,))
    ours = layers.UpConv(6).apply({"params": {"kernel": kernel, "bias": bias}}, x)
    flax = nn.ConvTranspose(6, (2, 2), strides=(2, 2), padding="VALID")
    turned = flax.apply({"params": {"kernel": kernel[::-1, ::-1], "bias": bias}}, x)
    chex.assert_shape(ours, (2, 6, 10, 6))
    chex.assert_trees_all_close(ours, turned, atol=1e-5)
    chex.assert_trees_all_close(ours[1, 5, 8], x[1, 2, 4] @ kernel[1, 0] + bias, atol=1e-5)


def test_the_border_of_the_pooling_is_zero():
    """If broken, the border is minus infinity, as in Flax, and negative values survive there; Keras pads with 0."""
    pooled = ops.max_pool(jnp.full((1, 6, 6, 1), -1.0))
    chex.assert_trees_all_equal(pooled[0, :, :, 0], jnp.array([[0, 0, 0], [0, -1, -1], [0, -1, -1]], jnp.float32))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("train", [True, False])
def test_batch_norm_is_that_of_flax(train, dtype):
    """If broken, our batch norm, written for a faster start and fewer passes, computes something else than Flax'."""
    x = jnp.array(recipe.draw("x", (4, 5, 3, 2)), dtype) + jnp.array([0.5, -3.0], dtype)
    variables = {
        "params": {"scale": jnp.array([1.0, 2.0]), "bias": jnp.array([0.0, 1.0])},
        "batch_stats": {"mean": jnp.array([0.5, -0.5]), "var": jnp.array([1.0, 3.0])},
    }
    ours = functools.partial(layers.BatchNorm(0.9, 1e-3, dtype).apply, train=train, mutable=["batch_stats"])
    theirs = nn.BatchNorm(not train, momentum=0.9, epsilon=1e-3, dtype=dtype, param_dtype=jnp.float32)
    theirs = functools.partial(theirs.apply, mutable=["batch_stats"])

    def loss(apply, params, x):
        y, stats = apply(variables | {"params": params}, x)
        return jnp.sum(jnp.sin(y.astype(jnp.float32))), (y, stats)

    ours, theirs = (
        jax.jit(jax.value_and_grad(functools.partial(loss, apply), argnums=(0, 1), has_aux=True))
        for apply in (ours, theirs)
    )
    ours, theirs = ours(variables["params"], x), theirs(variables["params"], x)
    chex.assert_trees_all_equal_dtypes(ours, theirs)
    chex.assert_trees_all_close(ours[0], theirs[0], rtol=1e-6, atol=1e-6)
    (ours_params, ours_x), (theirs_params, theirs_x) = ours[1], theirs[1]
    chex.assert_trees_all_close(ours_params, theirs_params, rtol=1e-6, atol=1e-6)
    # Both compute in float32; where the gradient ends as bfloat16, its last digit may fall to either side.
    digits = 1e-6 if dtype == jnp.float32 else 1e-2
    chex.assert_trees_all_close(ours_x, theirs_x, rtol=digits, atol=digits)


def test_batch_norm_over_devices_is_that_of_the_whole_batch():
    """If broken, every device normalises by its own few images."""
    x = jnp.array(recipe.draw("x", (8, 3, 3, 2)))
    whole = layers.BatchNorm(momentum=0.9)
    spread = layers.BatchNorm(momentum=0.9, axis_name="batch")
    variables = {
        "params": {"scale": jnp.array([1.0, 2.0]), "bias": jnp.array([0.0, 1.0])},
        "batch_stats": {"mean": jnp.array([0.5, -0.5]), "var": jnp.array([1.0, 3.0])},
    }
    assert jax.tree.structure(whole.init(jax.random.key(0), x, train=False)) == jax.tree.structure(variables)
    y, stats = whole.apply(variables, x, train=True, mutable=["batch_stats"])

    def one_device(part):
        return spread.apply(variables, part, train=True, mutable=["batch_stats"])

    parts, each = jax.vmap(one_device, axis_name="batch")(x.reshape(4, 2, 3, 3, 2))
    chex.assert_trees_all_close(parts.reshape(y.shape), y, atol=1e-5)
    chex.assert_trees_all_close(jax.tree.map(lambda a: a[3], each), stats, atol=1e-6)
    mean = stats["batch_stats"]["mean"]
    chex.assert_trees_all_close(mean, 0.9 * jnp.array([0.5, -0.5]) + 0.1 * x.mean((0, 1, 2)), atol=1e-6)


def test_dropout_does_not_depend_on_the_number_of_devices():
    """If broken, one device and four drop different values, and resuming on other devices changes a run."""
    x = jnp.ones((8, 5, 5, 3))
    key = {"dropout": jax.random.key(7)}
    whole = layers.Dropout(0.3).apply({}, x, train=True, rngs=key)
    spread = layers.Dropout(0.3, axis_name="batch")
    one_device = functools.partial(spread.apply, {}, train=True, rngs=key)
    for devices in (2, 4):
        y = jax.jit(jax.vmap(one_device, axis_name="batch"))(x.reshape(devices, -1, *x.shape[1:]))
        chex.assert_trees_all_equal(y.reshape(x.shape), whole)
    assert not np.array_equal(whole[0], whole[1])


def test_dropout_keeps_the_mean_and_is_off_in_evaluation():
    """If broken, kept values are not scaled up, which shifts every layer between training and evaluation."""
    x = jnp.ones((4, 32, 32, 8))
    module = layers.Dropout(0.3)
    y = module.apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert set(np.unique(y)) == {np.float32(0), np.float32(256 / (256 - 77))}  # 77 is 0.3 of 256, rounded
    # 32768 draws: the mean's standard deviation is 0.004.
    chex.assert_trees_all_close(y.mean(), jnp.float32(1), atol=0.02)
    chex.assert_trees_all_equal(module.apply({}, x, train=False), x)
