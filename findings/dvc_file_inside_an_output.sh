#!/usr/bin/env bash
# DVC 3.67.1: a dependency on one file inside another stage's output folder, and a dvc.lock from elsewhere.
#
# Guess: a file of a folder is looked up in the workspace or its stage's run cache, as whole folders are, so the three
#        ways to name the same bytes (the folder, the file inside it, the file as an output of its own) do the same.
# Seen:  with the committed dvc.lock of another machine, whose cache is not here, `dvc exp run` (--temp or not) works
#        for a folder and for an output of its own. For the file inside it fails: "failed to load directory ('data',
#        'labels')", though a run on this machine has just made that folder and its cache holds it. `dvc repro` works.
#        The first stage must depend on a file that git keeps: DVC then reads the lock's folders once, before they
#        are made anew.
#
# Four toy stages. What the first one writes depends on the machine, as weights trained on another CPU do.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export DVC_NO_ANALYTICS=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1 2> "$place/pip.log" ||
    { cat "$place/pip.log"; exit 1; }
export PATH="$place/venv/bin:$PATH"
echo "DVC $(dvc --version)"

# write_project DEPENDENCY OUTPUT: what the third stage names as its dependency, the second as its output.
write_project() {
    cat > dvc.yaml <<YAML
stages:
  clip:
    cmd: sh clip.sh
    deps: [clip.sh]
    outs: [data/clip]
  labels:
    cmd: mkdir -p data/labels && cp data/clip data/labels/train.h5
    deps: [data/clip]
    outs: [$2]
  train:
    cmd: cp data/labels/train.h5 data/model
    deps: [$1]
    outs: [data/model]
  captions:
    cmd: cp data/model data/captions
    deps: [data/model]
    params: [beam]
    outs: [data/captions]
YAML
    echo "beam: 1" > params.yaml
    echo 'mkdir -p data && echo "$MACHINE" > data/clip' > clip.sh
}

# two_machines NAME DEPENDENCY OUTPUT: exit code and last error line of the experiment on the second machine.
two_machines() {
    mkdir "$place/$1" && cd "$place/$1"
    git init --quiet . && dvc init --quiet
    write_project "$2" "$3"
    MACHINE=first dvc repro --quiet
    git add --all && git commit --quiet --message "the first machine's lock"
    git clone --quiet "$place/$1" "$place/$1-clone" && cd "$place/$1-clone"
    export MACHINE=second
    dvc repro --quiet
    git checkout --quiet dvc.lock
    local code=0
    dvc exp run --temp -S beam=2 > "$place/$1.log" 2>&1 || code=$?
    echo "$1 ($2): exit code $code; $(grep -i 'error' "$place/$1.log" | tail -n 1)"
    return "$code"
}

two_machines folder data/labels data/labels
two_machines own_output data/labels/train.h5 data/labels/train.h5
if (two_machines inside data/labels/train.h5 data/labels); then
    echo "CHANGED: the file inside the folder works as the others do"
    exit 1
fi
grep --quiet "failed to load directory" "$place/inside.log" || { cat "$place/inside.log"; exit 1; }
echo "as seen before"
