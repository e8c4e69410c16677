"""Makes the engine known to the tests of this folder."""

from engine import engine

__all__ = ['engine']
