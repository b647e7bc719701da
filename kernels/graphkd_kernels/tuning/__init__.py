"""What ``graphkd tune`` does: verifies every backend against float64, times it, and makes the plan of a machine."""
