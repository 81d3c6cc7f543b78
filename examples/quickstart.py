"""Compile a NumPy function for a NeuronCore, check it, run it simulated and price it."""

import tempfile
from pathlib import Path

import numpy as np

import nkigen
from nkigen import trace


@trace
def softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


x = np.random.default_rng(0).standard_normal((1000, 2880), dtype=np.float32)
kernel = nkigen.compile(softmax, x, target="trn2")

print(kernel.tensor_ir)  # what the function computes
print(kernel.tile_ir)  # the NeuronCore program
print("rule violations:", kernel.verify())

expected = softmax(x.astype(np.float64))  # still a NumPy function
error = np.abs(kernel(x) - expected).max() / np.abs(expected).max()
print(f"simulated, relative error against float64 NumPy: {error:.1e}")
assert error <= 2e-6

cost = kernel.cost
print(f"{cost.instruction_count} instructions, {cost.time_us:.1f} us modelled,")
print(f"{cost.hbm_read_bytes + cost.hbm_write_bytes} of {cost.hbm_min_bytes} HBM bytes")

source = Path(tempfile.mkdtemp()) / "softmax_nki.py"
source.write_text(kernel.nki())
print("NKI source:", source)
