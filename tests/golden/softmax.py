"""A row softmax over several row tiles."""

from nkigen.workloads import softmax as kernel

__all__ = ["kernel"]
SPECS = [((300, 512), "f32")]
