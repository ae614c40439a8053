"""Training: recipes, and a run that is planned, built and looped."""
