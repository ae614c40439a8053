"""Small ResNeXts on 32x32 images, all of ResNet-20's cost, for CIFAR-10 and similar data.

keras-resnext tune --space tuning/cifar10.py --data tfds:cifar10 --output runs/tune-cifar10
"""

model = "ResNeXt35"
budget = {"macs": "ResNeXt35", "tolerance": 0.05}
recipe = "sgd"
vary = {
    "cardinality": [1, 2, 4, 8, 16, 32],
    # Deep and narrow, or shallow and wide; where in the network the depth is.
    "blocks": [[3, 4, 4], [2, 2, 2], [3, 3, 3], [5, 5, 5], [2, 4, 6], [6, 4, 2]],
    "attention": ["none", "se", "eca"],
    "weight_decay": {"low": 2e-6, "high": 2e-3, "scale": "log"},
    "learning_rate": {"low": 0.02, "high": 0.8, "scale": "log"},
    "label_smoothing": [0.0, 0.05, 0.1],
    "drop_path": {"low": 0.0, "high": 0.2},
    # MixUp and its strength.
    "mixing": ["none", "mixup(0.2)", "mixup(0.8)"],
}
fixed = {"epochs": 12, "batch_size": 64}
