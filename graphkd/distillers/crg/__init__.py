"""Channel relational graphs."""

from graphkd.distillers.crg.distiller import CRGDistiller as CRGDistiller
