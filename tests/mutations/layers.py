"""The layers."""

from mutations import Mutation

MUTATIONS = (
    Mutation(
        file="keras_resnext/layers/attention.py",
        old="    return inputs * ops.cast(ops.expand_dims(gates, axes), inputs.dtype)",
        new="    return inputs + ops.cast(ops.expand_dims(gates, axes), inputs.dtype)",
        tests="tests/layers/test_attention.py -k formula",
    ),
    Mutation(
        file="keras_resnext/layers/attention.py",
        old="ops.softmax(_widened(scores), axis=1)",
        new="ops.softmax(_widened(scores), axis=2)",
        tests="tests/layers/test_attention.py -k selective_kernel",
    ),
    Mutation(
        file="keras_resnext/layers/attention.py",
        old='"reduced": self.reduced, "use_bias": self.use_bias}',
        new='"reduced": self.reduced}',
        tests="tests/layers/test_configurations.py -k SqueezeExcite",
    ),
    Mutation(
        file="keras_resnext/layers/batch_norm.py",
        old="old * self.momentum + new * (1.0 - self.momentum)",
        new="new * self.momentum + old * (1.0 - self.momentum)",
        tests="tests/layers/test_batch_norm.py -k agrees_with_keras",
    ),
    Mutation(
        file="keras_resnext/layers/backends/tensorflow.py",
        old="variance * (tf.maximum(count - 1.0, 1.0) / count)",
        new="variance",
        tests="tests/layers/test_batch_norm.py -k agrees_with_keras",
    ),
    Mutation(
        file="keras_resnext/layers/backends/tensorflow.py",
        old="        not _in_xla()\n        and len(x.shape) == 4",
        new="        len(x.shape) == 4",
        tests="tests/layers/test_batch_norm.py -k large_numbers",
    ),
    Mutation(
        file="keras_resnext/layers/backends/tensorflow.py",
        old="tf.stack([tiles[:, :, i, :, :, i] for i in range(merge)], axis=4)",
        new="tf.stack([tiles[:, :, i, :, :, 0] for i in range(merge)], axis=4)",
        tests="tests/layers/test_grouped_conv.py -k value_and_gradients",
    ),
    Mutation(
        file="keras_resnext/layers/blur_pool.py",
        old="second = 0 if inputs.shape[axis] == 1 else 1",
        new="second = 0",
        tests="tests/layers/test_blur_pool.py -k nine_products",
    ),
    Mutation(
        file="keras_resnext/layers/drop_block.py",
        old='dropped = ops.cast(noise < chance, "float32") * fits',
        new='dropped = ops.cast(noise < chance, "float32")',
        tests="tests/layers/test_drops.py -k seeds_grown",
    ),
    Mutation(
        file="keras_resnext/layers/drop_path.py",
        old=" / (1.0 - rate)",
        new="",
        tests="tests/layers/test_drops.py -k whole_images",
    ),
    Mutation(
        file="keras_resnext/layers/scheduled_drop.py",
        old="        self.step.assign_add(1.0)\n",
        new="",
        tests="tests/layers/test_drops.py -k begins_with_nothing",
    ),
    Mutation(
        file="keras_resnext/layers/grouped_conv.py",
        old="[none] * 4 + [(row, joined - row - 1), none]",
        new="[none] * 4 + [(joined - row - 1, row), none]",
        tests="tests/layers/test_grouped_conv.py -k 'value_and_gradients and merged'",
    ),
    Mutation(
        file="keras_resnext/layers/grouped_conv.py",
        old="padding = [((size - 1) * rate // 2,) * 2 for size, rate in reach]",
        new="padding = [((size - 1) * rate // 2, 0) for size, rate in reach]",
        tests="tests/layers/test_grouped_conv.py -k 'value_and_gradients and torch'",
    ),
    Mutation(
        file="keras_resnext/layers/preprocessing.py",
        old="x = x - self._by_channel(m / s for m, s",
        new="x = x - self._by_channel(m for m, s",
        tests="tests/layers/test_preprocessing.py -k pillows",
    ),
    Mutation(
        file="keras_resnext/layers/image_input.py",
        old='"class_names": list(names) if isinstance(names, tuple) else names,',
        new='"class_names": None,',
        tests="tests/layers/test_configurations.py -k image_input",
    ),
    Mutation(
        file="keras_resnext/layers/upsample_add.py",
        old="small = small[:, :height, :width] if last",
        new="small = small[:, :width, :height] if last",
        tests="tests/layers/test_blur_pool.py -k upsample",
    ),
    Mutation(
        file="keras_resnext/layers/rematerialized.py",
        old="            variable.assign(value)\n",
        new="            pass\n",
        tests="tests/layers/test_rematerialized.py -k same",
    ),
    Mutation(
        file="keras_resnext/imagenet_utils.py",
        old="np.argsort(-preds, axis=1",
        new="np.argsort(preds, axis=1",
        tests="tests/test_imagenet_utils.py -k decoded",
    ),
)
