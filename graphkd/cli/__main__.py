"""``python -m graphkd.cli``."""

import sys

from graphkd.cli.main import entry

sys.exit(entry())
