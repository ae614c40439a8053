"""Fine-tuning ResNeXt-50's published weights: the network is theirs, its training is searched.

keras-resnext tune --space tuning/fine_tuning.py --data FOLDER --output runs/tune-fine
"""

model = "ResNeXt50"
weights = "imagenet"
recipe = "sgd"
vary = {
    # The last stage that stays as it is; 0 is the stem.
    "freeze": [None, 0, 1, 2, 3],
    # What each stage's learning rate is of that above it.
    "stage_decay": [0.5, 0.7, 0.85, 1.0],
    "learning_rate": {"low": 1e-3, "high": 1e-1, "scale": "log"},
    "weight_decay": {"low": 2e-6, "high": 2e-4, "scale": "log"},
    "label_smoothing": [0.0, 0.1],
    "drop_path": {"low": 0.0, "high": 0.2},
    "mixing": ["none", "mixup(0.2)", "cutmix(1.0)"],
}
fixed = {"epochs": 15, "batch_size": 32}
