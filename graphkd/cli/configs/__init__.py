"""One typed configuration a command: its fields are the flags, its docstring is the help. None loads torch."""
