"""``python -m graphkd.conformance --golden DIR``."""

import sys

from graphkd.conformance.table import main

sys.exit(main())
