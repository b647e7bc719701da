"""Our losses against values computed by the original implementations: ``graphkd conformance``."""
