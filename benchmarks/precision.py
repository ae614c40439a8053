"""What each precision costs in training: time and memory.

    python benchmarks/precision.py
    KERAS_BACKEND=jax python benchmarks/precision.py --name h100 --batch 256

A step of ResNeXt-50 as recipe e0 trains it, at 224 px, with and without rematerialization; each
policy in a process of its own, taking turns. Memory is the most that the process has held.
"""

import functools

from common import Worker, arguments, print_table, save, take_turns

POLICIES = {
    "float32": {},
    "mixed_bfloat16": {"precision": "mixed_bfloat16"},
    "mixed_float16": {"precision": "mixed_float16"},
    "float32, remat": {"remat": True},
    "mixed_bfloat16, remat": {"precision": "mixed_bfloat16", "remat": True},
}


def step(model, batch, changes):
    """The training step of a network under a policy."""
    import keras
    import numpy as np

    from keras_resnext import compile_recipe, get_recipe, network_for, remat_model
    from keras_resnext.data.parts import Dataset, Part

    random = np.random.RandomState(0)
    nothing = Part(np.zeros((1, 224, 224, 3), np.uint8), np.zeros(1, np.int64))
    names = tuple(map(str, range(1000)))
    data = Dataset("random", "random", nothing, nothing, names, 224, "none")
    recipe = get_recipe("e0").replace(precision="float32", learning_rate=0.01).replace(**changes)
    network = network_for(model, data, recipe)
    trained = remat_model(network) if recipe.remat else network
    compile_recipe(trained, recipe, 1000, student=network)
    x = keras.ops.convert_to_tensor(random.normal(size=(batch, 224, 224, 3)).astype("float32"))
    y = keras.ops.convert_to_tensor(np.eye(1000, dtype="float32")[random.randint(0, 1000, batch)])
    for _ in range(2):
        trained.train_on_batch(x, y)
    return {"step": lambda: trained.train_on_batch(x, y)}


def main():
    options = arguments(__doc__, model="ResNeXt50", batch=16, policies=list(POLICIES))
    makers = {
        name: functools.partial(Worker, step, (options.model, options.batch, POLICIES[name]))
        for name in options.policies
    }
    workers = take_turns(makers, options.rounds)
    rows = [
        {
            "policy": name,
            "images_per_second": options.batch / worker.seconds(),
            "peak_gigabytes": worker.peak / 1e9,
        }
        for name, worker in workers.items()
    ]
    save(options, "precision", rows)
    first = rows[0]["images_per_second"]
    print_table(
        f"{options.model}, batch {options.batch}, 224 px, training",
        ["policy", "images/s", "against float32", "peak GB"],
        [
            (
                row["policy"],
                row["images_per_second"],
                row["images_per_second"] / first,
                row["peak_gigabytes"],
            )
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
