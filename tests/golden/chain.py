"""An element-wise chain with a ragged last tile."""

from nkigen.workloads import chain as kernel

__all__ = ["kernel"]
SPECS = [((200, 100), "f32"), ((200, 100), "f32")]
