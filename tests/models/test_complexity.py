import keras
import pytest
from keras import layers

from keras_resnext.layers import GroupedConv2D
from keras_resnext.models.complexity import complexity


@pytest.mark.parametrize(
    "layer, shape, macs",
    [
        (layers.Conv2D(8, 3, padding="same"), (10, 12, 4), 10 * 12 * 9 * 4 * 8),
        (layers.Conv2D(8, (3, 5), strides=2), (11, 13, 4), 5 * 5 * 15 * 4 * 8),
        (GroupedConv2D(8, 3, groups=4, padding="torch"), (10, 12, 4), 10 * 12 * 9 * 1 * 8),
        (GroupedConv2D(8, 3, groups=2, formulation="dense"), (6, 6, 4), 4 * 4 * 9 * 2 * 8),
        (layers.Conv1D(6, 5), (20, 3), 16 * 5 * 3 * 6),
        (layers.Conv3D(2, 2), (4, 4, 4, 3), 27 * 8 * 3 * 2),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 4), 16 * 9 * 4 * 2),
        (layers.SeparableConv2D(8, 3), (6, 6, 4), 16 * (9 * 4 + 4 * 8)),
        (layers.Conv2DTranspose(8, 3, strides=2), (5, 5, 4), 25 * 9 * 4 * 8),
        (layers.Dense(7), (5, 3), 5 * 3 * 7),
        (layers.BatchNormalization(), (6, 6, 4), 0),
    ],
    ids=lambda v: getattr(v, "name", str(v)),
)
def test_each_layer_by_hand(layer, shape, macs):
    model = keras.Sequential([keras.Input(shape), layer])
    counted = complexity(model)
    assert counted.macs == macs
    assert counted.parameters == model.count_params()


class _Composite(keras.layers.Layer):
    """A layer that holds others, which no graph shows."""

    def __init__(self):
        super().__init__()
        self.inner = [layers.Conv2D(4, 1), keras.Sequential([layers.Dense(2)])]

    def call(self, x):
        return self.inner[1](self.inner[0](x))


def test_nested_shared_and_frozen_layers():
    inputs = keras.Input((6, 6, 4))
    shared = layers.Conv2D(4, 1)
    nested = keras.Sequential([keras.Input((6, 6, 4)), layers.Conv2D(4, 1, trainable=False)])
    model = keras.Model(inputs, _Composite()(nested(shared(shared(inputs)))))
    counted = complexity(model)
    assert counted.macs == 36 * (16 + 16 + 16 + 16 + 8)
    assert counted.parameters - counted.trainable == 20
    for layer in model._flatten_layers():
        assert not {"call", "compute_output_spec"} & set(vars(layer))


class _HeadForTraining(keras.Model):
    def __init__(self):
        super().__init__()
        self.trunk, self.head = layers.Conv2D(4, 1), layers.Dense(2)

    def call(self, x, training=True):
        y = self.trunk(x)
        return self.head(y) if training else y


def test_what_training_alone_calls_is_not_counted():
    model = _HeadForTraining()
    model(keras.ops.zeros((1, 6, 6, 4)))
    assert complexity(model, (6, 6, 4)).macs == 36 * 16


def test_a_fixed_batch_counts_one_image():
    inputs = keras.Input((6, 6, 4), batch_size=1)
    model = keras.Model(inputs, layers.Conv2D(4, 1)(inputs))
    assert complexity(model).macs == 36 * 16


class _OwnWeights(keras.layers.Layer):
    """A layer whose shape is found by running it, under the policy's dtypes."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2))

    def call(self, x):
        return keras.ops.matmul(x, self.kernel)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_layers_that_do_not_say_their_shape(policy):
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential([keras.Input((6, 6, 4)), _OwnWeights(), layers.Conv2D(4, 1)])
    assert complexity(model).macs == 36 * 2 * 4


def test_open_shape_needs_an_input_shape():
    model = keras.Sequential([keras.Input((None, None, 3)), layers.Conv2D(2, 1)])
    with pytest.raises(ValueError, match="give `input_shape`"):
        complexity(model)
    assert complexity(model, (5, 5, 3)).macs == 25 * 6
