"""Networks: how they are described, built and counted, and how their weights are named."""

from mutations import Mutation

MUTATIONS = (
    Mutation(  # the strided convolution of a bottleneck
        file="keras_resnext/models/blocks.py",
        old='if net.config.stride_on == "1x1":',
        new='if net.config.stride_on == "3x3":',
        tests="tests/models/test_counting.py -k published_numbers",
    ),
    Mutation(  # blocks begin as their shortcut
        file="keras_resnext/models/blocks.py",
        old="zeros=net.config.zero_gamma",
        new="zeros=False",
        tests="tests/models/test_fields.py -k zero_gamma",
    ),
    Mutation(  # attention is left out
        file="keras_resnext/models/blocks.py",
        old="    if attention:\n",
        new="    if not attention:\n",
        tests="tests/models/test_parts.py -k attention",
    ),
    Mutation(  # stochastic depth at its full rate in every block
        file="keras_resnext/models/resnet.py",
        old="config.drop_path * (done + block + 1) / total",
        new="config.drop_path",
        tests="tests/models/test_fields.py -k drop_path",
    ),
    Mutation(  # DropBlock in the wrong stages
        file="keras_resnext/models/resnet.py",
        old="DROP_BLOCK_SCALES = (0.25, 1.0)",
        new="DROP_BLOCK_SCALES = (1.0, 0.25)",
        tests="tests/models/test_fields.py -k drop_block",
    ),
    Mutation(  # the mean of a D shortcut counts the border
        file="keras_resnext/models/shortcuts.py",
        old='active = net.zero_pad(active, 1, f"{name}_pad")',
        new="pass",
        tests="tests/models/test_fields.py -k averages",
    ),
    Mutation(  # a shortcut's tensors by other names in timm
        file="keras_resnext/models/shortcuts.py",
        old='{"shortcut": "downsample.1", "shortcut_norm": "downsample.2"}',
        new='{"shortcut": "downsample.0", "shortcut_norm": "downsample.1"}',
        tests="tests/weights/test_parity.py -k ecaresnet50t",
    ),
    Mutation(  # the reduction of squeeze-excite
        file="keras_resnext/models/attention.py",
        old="net.config.attention_ratio or 1 / 16, 8)",
        new="1 / 16, 8)",
        tests="tests/models/test_fields.py -k reduction",
    ),
    Mutation(  # a formula that leaves a dense layer out
        file="keras_resnext/models/attention.py",
        old='net.dense(hidden, len(paths) * net.channels(total), "select", use_bias=False)',
        new="pass",
        tests="tests/models/test_parts.py -k attention-sk",
    ),
    Mutation(  # groups are forgotten in what a convolution costs
        file="keras_resnext/models/counting.py",
        old="(x[2] // groups)",
        new="x[2]",
        tests="tests/models/test_counting.py -k published_numbers",
    ),
    Mutation(  # blocks alike are added once
        file="keras_resnext/models/counting.py",
        old="        self.macs += macs\n",
        new="",
        tests="tests/models/test_counting.py -k published_numbers",
    ),
    Mutation(  # the axis of the channels
        file="keras_resnext/models/keras_layers.py",
        old='return -1 if keras.config.image_data_format() == "channels_last" else 1',
        new="return -1",
        tests="tests/test_applications.py -k channels_first",
    ),
    Mutation(  # the L2 penalty of kernels
        file="keras_resnext/models/keras_layers.py",
        old="keras.regularizers.L2(self.config.l2) if self.config.l2 else None",
        new="None",
        tests="tests/models/test_fields.py -k penal",
    ),
    Mutation(  # a convolution's bias in front of a norm
        file="keras_resnext/models/config.py",
        old="return self.use_bias and not self.preactivation",
        new="return self.use_bias",
        tests="tests/models/test_variants.py -k biases",
    ),
    Mutation(  # an impossible network is let through
        file="keras_resnext/models/config.py",
        old="if self.preactivation and self.zero_gamma:",
        new="if False:",
        tests="tests/models/test_config.py",
    ),
    Mutation(  # the last residual module of Inception-ResNet-v2 is linear
        file="keras_resnext/models/inception.py",
        old="if config.linear_last and",
        new="if False and",
        tests="tests/models/test_inception.py -k residual_branches",
    ),
    Mutation(  # auxiliary losses at their full weight
        file="keras_resnext/models/auxiliary.py",
        old="loss += self.auxiliary_weight * self._compile_loss",
        new="loss += self._compile_loss",
        tests="tests/models/test_auxiliary.py -k by_hand",
    ),
    Mutation(  # branches of form (a) into the grouped convolution of (c)
        file="keras_resnext/models/forms.py",
        old='axis = 2 if part == "conv3" else -1',
        new="axis = -1",
        tests="tests/models/test_forms.py -k there_and_back",
    ),
)
