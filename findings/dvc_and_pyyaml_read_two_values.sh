#!/usr/bin/env bash
# DVC 3.67.1 beside PyYAML 6.0.3: one params.yaml, two values.
#
# Guess: what DVC tracks, shows and compares of params.yaml is what the stage reads of it with yaml.safe_load; only a
#        rate such as 1e-4, which PyYAML is known to take for text, may differ.
# Seen:  four of five differ. DVC reads YAML 1.2, PyYAML YAML 1.1: 010 is 10 for DVC and 8 for the stage, 12:30 is text
#        and 750, yes is text and True, 1e-4 a number and text. A change of 010 to 8 changes nothing in the stage, and
#        DVC runs it anew; 010 to 10 changes the seed from 8 to 10, and DVC says that nothing changed.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export DVC_NO_ANALYTICS=1
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1 pyyaml==6.0.3 2> "$place/pip.log" ||
    { cat "$place/pip.log"; exit 1; }
export PATH="$place/venv/bin:$PATH"
mkdir "$place/project" && cd "$place/project"
git init --quiet . && dvc init --quiet
cat > params.yaml <<'YAML'
rate: 1e-4
seed: 010
start: 12:30
flip: yes
size: 1_000
YAML
cat > dvc.yaml <<'YAML'
stages:
  train:
    cmd: python -c "import yaml; print(yaml.safe_load(open('params.yaml'))['seed'])" > seed.txt
    params: [seed]
    outs: [seed.txt]
YAML
dvc repro --quiet
before=$(cat seed.txt)
sed -i 's/seed: 010/seed: 10/' params.yaml
status=$(dvc status)
would=$(python -c "import yaml; print(yaml.safe_load(open('params.yaml'))['seed'])")
sed -i 's/seed: 10/seed: 010/' params.yaml
seen=$(python - <<'PYTHON'
import yaml
from dvc.api import params_show

stage = yaml.safe_load(open("params.yaml"))
print("; ".join(f"{name}: DVC {value!r}, stage {stage[name]!r}" for name, value in params_show("params.yaml").items()))
PYTHON
)
echo "DVC $(dvc --version): $seen"
echo "seed: 010 made $before; after seed: 10 it would be $would, and dvc status says: $status"
expected="rate: DVC 0.0001, stage '1e-4'; seed: DVC 10, stage 8; start: DVC '12:30', stage 750"
[[ $seen == "$expected; flip: DVC 'yes', stage True; size: DVC 1000, stage 1000" ]] || { echo CHANGED; exit 1; }
[[ $before == 8 && $would == 10 && $status == *"up to date"* ]] || { echo CHANGED; exit 1; }
echo "as seen before"
