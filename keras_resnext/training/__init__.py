"""Training: `recipe` and `recipes` (the table); `train`: a run, as `plan`, `build` and `loop`."""
