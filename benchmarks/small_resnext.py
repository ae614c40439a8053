"""The space that `search.py` was measured with: ResNeXts of 13.4 million multiply-adds."""

model = "ResNeXt35"
budget = {"macs": 13_420_000, "tolerance": 0.05}
vary = {
    "cardinality": [1, 2, 4, 8],
    "blocks": [[1, 1, 1], [2, 1, 1], [1, 2, 1], [1, 1, 2], [2, 2, 2]],
    "attention": ["none", "se"],
    "weight_decay": {"low": 2e-6, "high": 2e-3, "scale": "log"},
    "learning_rate": {"low": 0.02, "high": 0.8, "scale": "log"},
    "label_smoothing": [0.0, 0.1],
}
fixed = {"epochs": 3, "batch_size": 64, "schedule": "cosine"}
