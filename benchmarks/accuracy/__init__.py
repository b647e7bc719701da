"""Accuracy studies: students trained by the product's own loop, one JSON a run, tables and plots from all of them."""
