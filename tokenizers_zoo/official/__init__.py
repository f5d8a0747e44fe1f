"""Importers for the authors' published checkpoints, one file per system."""

from .load import load_official

__all__ = ["load_official"]
