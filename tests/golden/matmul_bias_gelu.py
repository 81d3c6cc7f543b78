"""A linear layer: the epilogue belongs on the PSUM eviction."""

from nkigen.workloads import matmul_bias_gelu as kernel

__all__ = ["kernel"]
SPECS = [((128, 256), "bf16"), ((256, 512), "bf16"), ((512,), "bf16")]
