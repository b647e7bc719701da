"""Imported once by the server that forks measuring processes: all that they need, so that a fork costs nothing."""

from benchmarks.case import cases
from graphkd.distillers.factory import distillers

cases()
distillers()
