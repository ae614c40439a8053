"""Training: ``settings``, ``fit`` (the run), ``callbacks``, ``precision``, ``run_folder``."""
