"""What is done with a trained classifier: predictions, images sorted by class, and 8-bit integers."""
