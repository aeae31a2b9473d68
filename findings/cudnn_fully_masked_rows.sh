#!/usr/bin/env bash
# PyTorch and cuDNN: what attention gives a query that may see no key.
#
# Guess: scaled_dot_product_attention gives zeros, in every precision, and a boolean mask does what a mask of 0
#        and minus infinity does.
# Seen:  torch 2.11.0 (CUDA 13.0, cuDNN 9.19) on an NVIDIA H100: zeros in float32, and with a mask of numbers in
#        every precision. With a boolean mask in bfloat16 or float16, where PyTorch chooses cuDNN's kernels, the
#        query attends to all keys, as if there were no mask at all. With enable_cudnn_sdp(False): zeros.
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
import torch
from torch.nn.functional import scaled_dot_product_attention

assert torch.__version__.startswith("2.11.0"), torch.__version__
assert torch.cuda.is_available() and torch.cuda.get_device_capability()[0] == 9, "needs a Hopper GPU"
print(torch.__version__, torch.cuda.get_device_name(), "cuDNN", torch.backends.cudnn.version())
torch.manual_seed(0)
# The fourth of sixteen words may see nothing.
visible = torch.ones(16, 16, dtype=torch.bool, device="cuda").tril()
visible[3] = False


def fourth(dtype, boolean):
    """What the fourth word gets: "zeros", "all keys" or something else."""
    query, key, value = (torch.randn(2, 4, 16, 64, device="cuda", dtype=dtype) for _ in range(3))
    numbers = torch.zeros(16, 16, device="cuda", dtype=dtype).masked_fill(~visible, -torch.inf)
    mask = visible if boolean else numbers
    found = scaled_dot_product_attention(query, key, value, attn_mask=mask)[:, :, 3].float()
    weights = (query.float() @ key.float().mT / 8).softmax(-1)
    unmasked = (weights @ value.float())[:, :, 3]
    if not found.any():
        return "zeros"
    return "all keys" if torch.allclose(found, unmasked, atol=2e-2) else "something else"


seen = {}
for cudnn in (True, False):
    torch.backends.cuda.enable_cudnn_sdp(cudnn)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for boolean in (True, False):
            seen[cudnn, dtype, boolean] = fourth(dtype, boolean)
            print(f"cuDNN {cudnn}, {dtype}, boolean {boolean}: {seen[cudnn, dtype, boolean]}")
for (cudnn, dtype, boolean), what in seen.items():
    expected = "all keys" if cudnn and boolean and dtype != torch.float32 else "zeros"
    assert what == expected, (cudnn, dtype, boolean, what)
print("as seen: with a boolean mask in half precision, a query without keys attends to all of them")
PYTHON
"$python" "$place/look.py"
