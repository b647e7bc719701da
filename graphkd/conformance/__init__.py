"""Our losses against values computed by the original implementations: ``python -m graphkd.conformance``."""
