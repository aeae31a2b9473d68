#!/usr/bin/env bash
# torch 2.14.1, gloo: all_reduce of tensors of one shape and different strides adds numbers of different places.
#
# Guess: sums go by index, as everywhere in PyTorch, or a tensor that is not contiguous is refused.
# Seen:  a transposed tensor in one process and a plain one in another, both 2 x 3, are added memory to memory: no
#        error, and each process gets another sum, both wrong. So a gradient that one process happens to have
#        transposed (a product with a batch of one is enough) silently spoils the sum of all.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.3.5 2> "$place/pip.log" ||
    { cat "$place/pip.log"; exit 1; }
cat > "$place/look.py" <<'PYTHON'
import sys

import torch
import torch.distributed as dist

rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
numbers = torch.arange(6.0).reshape(2, 3)
# The same numbers at the same indices; in process 1 they lie column by column.
own = numbers.clone() if rank == 0 else numbers.T.contiguous().T
assert torch.equal(own, numbers)
dist.all_reduce(own)
print("process", rank, "strides", own.stride(), "sum", own.tolist(), "right", torch.equal(own, 2 * numbers))
PYTHON
for rank in 0 1; do
    "$place/venv/bin/python" -W ignore "$place/look.py" "$rank" "$place/store" > "$place/$rank" 2>> "$place/errors" &
done
wait
seen="torch $("$place/venv/bin/python" -c 'import torch; print(torch.__version__.partition("+")[0])')
$(cat "$place/0" "$place/1")"
echo "$seen"
expected="torch 2.14.1
process 0 strides (3, 1) sum [[0.0, 4.0, 3.0], [7.0, 6.0, 10.0]] right False
process 1 strides (1, 2) sum [[0.0, 3.0, 6.0], [4.0, 7.0, 10.0]] right False"
[[ $seen == "$expected" ]] || { cat "$place/errors"; echo CHANGED; exit 1; }
echo "as seen before"
