#!/usr/bin/env bash
# PyTorch and cuDNN: what attention costs on a Hopper GPU when the number of words changes.
#
# Guess: scaled_dot_product_attention in bfloat16 takes about as long for a number of words that was not seen
#        before as for one that was, as it does in float32.
# Seen:  torch 2.11.0 (CUDA 13.0, cuDNN 9) on an NVIDIA H100: every new number of words takes 50 ms without
#        gradients and over 100 ms with them, in bfloat16 and in float16; seen before, 0.1 to 0.4 ms. PyTorch
#        chooses cuDNN's kernels there, and cuDNN makes a plan for every shape. With
#        torch.backends.cuda.enable_cudnn_sdp(False) a new number costs nothing, as in float32.
#
# Needs a GPU of compute capability 9. FINDING_PYTHON: a Python that has torch 2.11.0 already.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python=${FINDING_PYTHON:-}
if [ -z "$python" ]; then
    python3 -m venv "$place/venv"
    python="$place/venv/bin/python"
    "$python" -m pip install --quiet torch==2.11.0 numpy
fi
cat > "$place/look.py" <<'PYTHON'
import statistics
import time

import torch
from torch.nn.functional import scaled_dot_product_attention

assert torch.__version__.startswith("2.11.0"), torch.__version__
assert torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9, "needs a Hopper GPU"
print(torch.__version__, torch.cuda.get_device_name(), "cuDNN", torch.backends.cudnn.version())


def attend(words, dtype, gradients):
    """Milliseconds of one call: 20 images, 8 heads of 64, causal."""
    query = torch.randn(20, 8, words, 64, device="cuda", dtype=dtype, requires_grad=gradients)
    mask = torch.ones(words, words, dtype=torch.bool, device="cuda").tril()
    torch.cuda.synchronize()
    start = time.perf_counter()
    mixed = scaled_dot_product_attention(query, query, query, attn_mask=mask)
    if gradients:
        mixed.sum().backward()
    torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def medians(dtype, gradients, first):
    """The median of new numbers of words, and of the same ones again."""
    for words in (first, first, first + 1):
        attend(words, dtype, gradients)
    numbers = range(first + 2, first + 16)
    new, again = ([attend(words, dtype, gradients) for words in numbers] for _ in range(2))
    return statistics.median(new), statistics.median(again)


ratios, first = {}, 40
for cudnn in (True, False):
    torch.backends.cuda.enable_cudnn_sdp(cudnn)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for gradients in (False, True):
            new, again = medians(dtype, gradients, first)
            first += 16
            ratios[cudnn, dtype, gradients] = new / again
            print(f"cuDNN {cudnn}, {dtype}, gradients {gradients}: new {new:.2f} ms, again {again:.2f} ms")
for (cudnn, dtype, gradients), ratio in ratios.items():
    slow = cudnn and dtype != torch.float32
    assert (ratio > 50) if slow else (ratio < 5), (cudnn, dtype, gradients, ratio)
print("as seen: with cuDNN's kernels every new number of words costs a plan")
PYTHON
"$python" "$place/look.py"
