"""Training: ``recipes`` (the table), ``compile``, ``session``, ``fit`` (a run), and their parts."""
