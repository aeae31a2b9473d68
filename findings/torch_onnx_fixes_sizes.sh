#!/usr/bin/env bash
# torch 2.13.0: torch.onnx.export makes a graph of a size that was named as free, and fixes it without a word.
#
# Guess: dynamic_shapes={"x": {0: Dim("batch")}} says that the batch may differ. Where the model's code makes a
#        constant of it (`len(x)` does), torch.onnx.export fails as torch.export.export does: "Constraints violated
#        (batch)! ... your code specialized it to be a constant (2)".
# Seen:  torch.export.export fails so. torch.onnx.export reads the "suggested fix" out of that message (batch = 2),
#        applies it, and succeeds. Its graph takes batches of 2 only; no warning is given, with verbose=True neither.
#        Equal outputs on the example, which `verify=True` compares, do not show it.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 \
    onnxruntime==1.32.0 2> "$place/pip.log" || { cat "$place/pip.log"; exit 1; }
seen=$("$place/venv/bin/python" - 2> "$place/warnings" <<'PYTHON'
import torch
from torch.export import Dim


class Model(torch.nn.Module):
    def forward(self, x):
        return x + torch.ones(1, 3).expand(len(x), -1)


example, free = (torch.zeros(2, 3),), {"x": {0: Dim("batch")}}
try:
    torch.export.export(Model(), example, dynamic_shapes=free)
    print("torch.export.export: a graph")
except torch._dynamo.exc.UserError as error:
    print("torch.export.export:", "specialized" in str(error) and "refused, the size was specialized")
program = torch.onnx.export(Model().eval(), example, dynamic_shapes=free, dynamo=True, verify=True)
print("torch.onnx.export: a graph for batches of", program.model.graph.inputs[0].shape[0])
try:
    program(torch.zeros(3, 3))
    print("a batch of 3: works")
except Exception as error:
    print("a batch of 3:", type(error).__name__)
PYTHON
) || { cat "$place/warnings"; exit 1; }
echo "$seen"
grep -ci "batch\|speciali\|constraint" "$place/warnings" && { cat "$place/warnings"; echo CHANGED; exit 1; }
[[ $(grep -v "^\[torch.onnx\]" <<< "$seen") == "torch.export.export: refused, the size was specialized
torch.onnx.export: a graph for batches of 2
a batch of 3: InvalidArgument" ]] || { echo CHANGED; exit 1; }
echo "as seen before"
