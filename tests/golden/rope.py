"""Slices and a concatenation that cost no instructions of their own."""

from nkigen.workloads import rope as kernel

__all__ = ["kernel"]
SPECS = [((1, 256, 2, 64), "f32"), ((256, 32), "f32"), ((256, 32), "f32")]
