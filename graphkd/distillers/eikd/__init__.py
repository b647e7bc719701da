"""Explicit and implicit knowledge distillation from unlabelled data."""

from graphkd.distillers.eikd.distiller import EIKDDistiller as EIKDDistiller
