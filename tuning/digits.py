"""ResNeXt on scikit-learn's handwritten digits: minutes on a laptop.

keras-resnext tune --space tuning/digits.py --data digits --output runs/tune-digits
"""

model = "ResNeXt35"
budget = {"macs": "ResNeXt35", "tolerance": 0.05}
recipe = "sgd"
vary = {
    "cardinality": [1, 2, 4, 8, 16],
    "weight_decay": {"low": 2e-6, "high": 2e-3, "scale": "log"},
    "learning_rate": {"low": 0.02, "high": 0.5, "scale": "log"},
}
fixed = {"epochs": 4}
