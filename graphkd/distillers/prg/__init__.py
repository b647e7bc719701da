"""Proxy relational graphs."""

from graphkd.distillers.prg.distiller import PRGDistiller as PRGDistiller
