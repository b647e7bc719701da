"""graphkd inside other people's loops: Lightning and Hugging Face's Trainer; each module imports its framework."""
