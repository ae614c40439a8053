"""Networks of ResNeXt-50's cost on ImageNet: days on many GPUs.

keras-resnext tune --space tuning/imagenet.py --data tfds:imagenet2012 --oracle hyperband \
    --epochs 90 --workers 8 --output runs/tune-imagenet
"""

model = "ResNeXt50"
budget = {"macs": "ResNeXt50", "tolerance": 0.05}
recipe = "sgd"
vary = {
    "cardinality": [1, 2, 4, 8, 16, 32, 64],
    "blocks": [[3, 4, 6, 3], [3, 3, 9, 3], [2, 3, 9, 2], [4, 6, 4, 2], [2, 2, 2, 2]],
    "stem": ["7x7", "deep"],
    "attention": ["none", "se", "eca"],
    "weight_decay": {"low": 2e-5, "high": 2e-4, "scale": "log"},
    "learning_rate": {"low": 0.03, "high": 0.3, "scale": "log"},
    "label_smoothing": [0.0, 0.1],
    "drop_path": {"low": 0.0, "high": 0.2},
    "drop_block": [0.0, 0.05, 0.1],
    "mixing": ["none", "mixup(0.2)", "mixup(0.8)"],
}
fixed = {"batch_size": 256, "zero_gamma": True}
