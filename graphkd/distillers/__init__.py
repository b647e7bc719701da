"""Distillers, one method a file."""
