"""graphkd in the training loops of Lightning and transformers; each module imports its framework."""
