"""Images on their way to the network: order, crop, augmentation, mixing, caches and sources."""

from mutations import Mutation

DATA = "keras_resnext/data/"
MUTATIONS = (
    Mutation(
        file=DATA + "grammar.py",
        old="values.update(_value(name, row, place, part) for place, part in enumerate(given))",
        new="pass",
        tests="tests/data/test_augmentation_grammar.py -k arguments_reach",
    ),
    Mutation(
        file=DATA + "augment.py",
        old="crops[0] if crops else None",
        new="None",
        tests="tests/data/test_augmentation_grammar.py -k arguments_reach",
    ),
    Mutation(
        file=DATA + "augment.py",
        old="step(images, fold(seed, place), size)",
        new="step(images, seed, size)",
        tests="tests/data/test_augment.py -k draws_for_itself",
    ),
    Mutation(
        file=DATA + "policies.py",
        old="(level / 10, 0.5)",
        new="(level / 10, 1.0)",
        tests="tests/data/test_policies.py -k rand_augment",
    ),
    Mutation(
        file=DATA + "mixing.py",
        old="_weighted(labels, 1 - share, tf.gather(labels, partner), share)",
        new="_weighted(labels, share, tf.gather(labels, partner), 1 - share)",
        tests="tests/data/test_mixing.py -k weights_labels_by_area",
    ),
    Mutation(
        file=DATA + "mixing.py",
        old="tf.cast(epoch, tf.int64) >= firsts",
        new="tf.cast(epoch, tf.int64) > firsts",
        tests="tests/data/test_mixing.py -k choices_and_stages",
    ),
    Mutation(
        file=DATA + "order.py",
        old="* EPOCH_STRIDE + seed",
        new="* EPOCH_STRIDE",
        tests="tests/data/test_pipeline.py -k another_order",
    ),
    Mutation(
        file=DATA + "order.py",
        old="tf.constant(start[1] * training.batch_size, tf.int64)",
        new="tf.constant(start[1], tf.int64)",
        tests='tests/data/test_epochs.py -k "begin_anywhere and npz"',
    ),
    Mutation(
        file=DATA + "pipeline.py",
        old="labels * (1 - share) + share / classes",
        new="labels * (1 - share) + share / (classes - 1)",
        tests="tests/data/test_pipeline.py -k label_smoothing",
    ),
    Mutation(
        file=DATA + "pipeline.py",
        old="tf.gather(teacher, places)",
        new="tf.gather(teacher, tf.range(tf.size(places)))",
        tests="tests/data/test_pipeline.py -k no_part_of_the_graph",
    ),
    Mutation(
        file=DATA + "pipeline.py",
        old="- np.tile(mean / std, width)",
        new="- np.tile(mean * std, width)",
        tests="tests/data/test_pipeline.py -k neither_shuffles",
    ),
    Mutation(
        file=DATA + "cache.py",
        old='if sizes["decoded"] <= sizes["budget"]:',
        new='if sizes["encoded"] <= sizes["budget"]:',
        tests="tests/data/test_cache.py -k first_that_fits",
    ),
    Mutation(
        file=DATA + "cache_file.py",
        old="(folder / name).stat().st_size == size",
        new="(folder / name).stat().st_size >= 0",
        tests="tests/data/test_cache.py -k damaged",
    ),
    Mutation(
        file=DATA + "cache_file.py",
        old="Form(edge=",
        new="Resize(edge=",
        tests="tests/data/test_cache.py -k named_as_ever",
    ),
    Mutation(
        file=DATA + "decode.py",
        old='("000", "000", "001", "011", "010",',
        new='("000", "000", "010", "011", "001",',
        tests='tests/data/test_dirty.py -k "upright and JPEG"',
    ),
    Mutation(
        file=DATA + "sources/folders.py",
        old="    fallback=True,\n",
        new="",
        tests="tests/data/test_epochs.py -k what_the_data_set_knows",
    ),
    Mutation(
        file=DATA + "sources/packs.py",
        old="np.cumsum([0, *counts[:-1]])",
        new="np.cumsum([0 for _ in counts])",
        tests="tests/data/test_epochs.py -k what_the_data_set_knows",
    ),
    Mutation(
        file=DATA + "parts.py",
        old="members[:count]",
        new="members[: count + 1]",
        tests="tests/data/test_datasets.py -k keeps_each_class",
    ),
    Mutation(
        file=DATA + "images.py",
        old="place += 2 + length",
        new="place += length",
        tests="tests/data/test_dirty.py -k film",
    ),
    Mutation(
        file=DATA + "waiting.py",
        old="waited.assign_add(tf.timestamp() - begin)",
        new="waited.assign_add(begin)",
        tests="tests/data/test_profile.py -k waiting_is_measured",
    ),
)
