#!/usr/bin/env bash
# timm 1.0.31: an argument of None does not reach the model.
#
# Guess: create_model("convnext_atto", ls_init_value=None) has blocks without a layer scale, as ConvNeXt's own
#        `ls_init_value: Optional[float]` has it; or it is refused.
# Seen:  create_model takes every argument that is None out before it looks at the model, so the blocks have the scale
#        of 1e-6 that ConvNeXt starts with by default, and nothing is said. The class itself takes None as no scale. A
#        config of open_clip reaches timm by create_model, so a null in it asks for timm's default too.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check timm==1.0.31 torch==2.12.0 torchvision==0.27.0 \
    2> "$place/pip.log" || { cat "$place/pip.log"; exit 1; }
seen=$("$place/venv/bin/python" - <<'PYTHON'
import timm
from timm.models.convnext import ConvNeXt


def scale(model):
    gamma = model.stages[0].blocks[0].gamma
    return "none" if gamma is None else f"{gamma[0].item():.0e}"


by_class = ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), ls_init_value=None)
given = timm.create_model("convnext_atto", ls_init_value=None)
one = timm.create_model("convnext_atto", ls_init_value=1.0)
print(f"timm {timm.__version__}: None to the class: {scale(by_class)}; None to create_model: {scale(given)}; "
      f"1.0 to create_model: {scale(one)}")
PYTHON
)
echo "$seen"
[[ $seen == "timm 1.0.31: None to the class: none; None to create_model: 1e-06; 1.0 to create_model: 1e+00" ]] ||
    { echo CHANGED; exit 1; }
echo "as seen before"
