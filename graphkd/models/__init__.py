"""Networks seen from outside: what is read from them, how they are made, loaded and frozen."""
