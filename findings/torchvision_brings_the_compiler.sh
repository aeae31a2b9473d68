#!/usr/bin/env bash
# torchvision 0.29.1 with torch 2.14.1: `import torchvision.transforms` imports PyTorch's compiler.
#
# Guess: transforms of pictures need no compiler, and torchvision/ops/roi_align.py, which could use it, says itself
#        that its wrapper keeps torch._dynamo from being imported before the first call.
# Seen:  that same file takes one function out of torch._dynamo.utils at its head, so whoever imports any part of
#        torchvision, timm or open_clip imports torch._dynamo and sympy: some 800 modules, 1.2 s of CPU time beside the
#        1.3 s of `import torch` (the seconds are printed, not compared).
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.3.5 \
    2> "$place/pip.log" || { cat "$place/pip.log"; exit 1; }
cat > "$place/look.py" <<'PYTHON'
import sys
import time

start = time.process_time()
import torch

after_torch, modules = time.process_time(), len(sys.modules)
before = [name in sys.modules for name in ("torch._dynamo", "sympy")]
import torchvision.transforms

after = [name in sys.modules for name in ("torch._dynamo", "sympy")]
print("torch", torch.__version__.partition("+")[0], "torchvision", torchvision.__version__.partition("+")[0])
print("torch._dynamo, sympy after torch:", before)
print("torch._dynamo, sympy after torchvision.transforms:", after)
print("more than 500 modules more:", len(sys.modules) - modules > 500)
seconds = f"{after_torch - start:.1f} s of CPU time for torch, {time.process_time() - after_torch:.1f} s more"
print(seconds, file=sys.stderr)
PYTHON
"$place/venv/bin/python" "$place/look.py" > "$place/warm" 2>&1  # the first start compiles the modules
seen=$("$place/venv/bin/python" "$place/look.py")
echo "$seen"
expected="torch 2.14.1 torchvision 0.29.1
torch._dynamo, sympy after torch: [False, False]
torch._dynamo, sympy after torchvision.transforms: [True, True]
more than 500 modules more: True"
[[ $seen == "$expected" ]] || { echo CHANGED; exit 1; }
echo "as seen before"
