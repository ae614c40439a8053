"""What a trained network is worth: its answers, what it looked at, and how fast it is."""
