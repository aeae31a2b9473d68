#!/usr/bin/env bash
# torch 2.14.1: F.pad puts another integer into an int64 tensor than it is given.
#
# Guess: F.pad(x, (0, 1), value=v) of an int64 tensor appends v, as torch.full and new_full do, for each v of int64.
# Seen:  the value goes through a float64: 2**53 + 1 becomes 2**53 and 2**62 + 1 becomes 2**62, and nothing is said;
#        2**63 - 1, a usual mark for "nothing", is refused here, and was -2**63 in torch 2.13.0.
#        torch.constant_pad_nd, which F.pad calls in the end, appends each of them rightly.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.3.5 2> "$place/pip.log" ||
    { cat "$place/pip.log"; exit 1; }
seen=$("$place/venv/bin/python" - <<'PYTHON'
import torch
import torch.nn.functional as F

x = torch.zeros(1, dtype=torch.int64)
print("torch", torch.__version__.partition("+")[0])
for value in (2**53 + 1, 2**62 + 1, 2**63 - 1):
    try:
        padded = f"off by {int(F.pad(x, (0, 1), value=value)[1]) - value}"
    except RuntimeError:
        padded = "RuntimeError"
    exact = int(torch.constant_pad_nd(x, (0, 1), value)[1]) - value
    print(f"{value}: F.pad {padded}, constant_pad_nd off by {exact}")
PYTHON
)
echo "$seen"
expected="torch 2.14.1
9007199254740993: F.pad off by -1, constant_pad_nd off by 0
4611686018427387905: F.pad off by -1, constant_pad_nd off by 0
9223372036854775807: F.pad RuntimeError, constant_pad_nd off by 0"
[[ $seen == "$expected" ]] || { echo CHANGED; exit 1; }
echo "as seen before"
