"""The command line: ``graphkd <command> --help``."""
