"""Weights from others, and the commands `list` and `info`."""

from mutations import Mutation

MUTATIONS = (
    Mutation(
        file="keras_resnext/weights/download.py",
        old='headers |= {"Range": f"bytes={have}-", "If-Range": state["etag"]}',
        new='headers |= {"Range": f"bytes={have}-"}',
        tests="tests/weights/test_download.py -k 'resumes or changed or kept'",
    ),
    Mutation(
        file="keras_resnext/weights/download.py",
        old="    if not digest.startswith(sha256.lower()):",
        new="    if not digest:",
        tests="tests/weights/test_download.py -k wrong_hash",
    ),
    Mutation(
        file="keras_resnext/weights/fold.py",
        old="(bias - _numbers(norm.moving_mean)) * scale + shift",
        new="bias * scale - _numbers(norm.moving_mean) + shift",
        tests="tests/weights/test_fold.py -k 'every_kind and ResNet18'",
    ),
    Mutation(
        file="keras_resnext/weights/fold.py",
        old="    layers.DepthwiseConv2D: 2,",
        new="    layers.DepthwiseConv2D: 1,",
        tests="tests/weights/test_fold.py -k nested_models",
    ),
    Mutation(
        file="keras_resnext/weights/fold.py",
        old="            clone.auxiliary_weight = model.auxiliary_weight\n",
        new="            pass\n",
        tests="tests/weights/test_fold.py -k auxiliary",
    ),
    Mutation(
        file="keras_resnext/weights/grammar.py",
        old='"t": {"stem": "tiered", "shortcut": "D"},',
        new='"t": {"stem": "tiered"},',
        tests="tests/weights/test_grammar.py",
    ),
    Mutation(
        file="keras_resnext/weights/load.py",
        old="    if problems and (strict or not fits):",
        new="    if problems and strict:",
        tests="tests/weights/test_files.py -k strict_is_advised",
    ),
    Mutation(
        file="keras_resnext/weights/load.py",
        old="1 + max(int(b) for s, b in places if s == stage)",
        new="max(int(b) for s, b in places if s == stage)",
        tests="tests/weights/test_files.py -k nobody_published",
    ),
    Mutation(
        file="keras_resnext/weights/readers.py",
        old='map_location="cpu", weights_only=True',
        new='map_location="cpu", weights_only=False',
        tests="tests/weights/test_readers.py -k code_in_a_file",
    ),
    Mutation(
        file="keras_resnext/weights/readers.py",
        old='_WRAPPERS = ("state_dict", ',
        new='_WRAPPERS = ("model_ema", "state_dict", ',
        tests="tests/weights/test_readers.py -k averages",
    ),
    Mutation(
        file="keras_resnext/weights/sources.py",
        old='"tv2": (ImageSpec(176), ImageSpec(224, 0.965)),',
        new='"tv2": (ImageSpec(224), ImageSpec(224, 0.965)),',
        tests="tests/weights/test_sources.py",
    ),
    Mutation(
        file="keras_resnext/weights/files.py",
        old="        return keras_names.keras_config(config)",
        new="        return config",
        tests="tests/weights/test_files.py -k keras_applications_files",
    ),
    Mutation(
        file="keras_resnext/cli/models.py",
        old="print_json([asdict(row) for row in rows])",
        new="print_json([asdict(row) for row in rows[1:]])",
        tests="tests/test_cli.py -k test_list",
    ),
)
