#!/usr/bin/env bash
# jieba 0.42.1: words of other scripts, and of Latin letters with accents, come out as single letters.
#
# Guess: lcut leaves a word that is not Chinese whole, whatever its letters: it does so with metro, 3d and c++.
# Seen:  that holds for ASCII only. Any other letter is a token of its own, so that café gives caf and é, метро and
#        كلب fall into their letters, and marks that belong on a letter (e and U+0301, Thai vowels) stand alone. The
#        letters lose nothing, so nothing shows until words are counted: a caption's BLEU and CIDEr then compare
#        letters there and words elsewhere, and captions of a whole other language get scores that look like scores.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check setuptools==80.9.0 jieba==0.42.1 2> "$place/pip.log" ||
    { cat "$place/pip.log"; exit 1; }
seen=$("$place/venv/bin/python" -W ignore - 2> "$place/jieba.log" <<'PYTHON'
from importlib.metadata import version

import jieba

print(f"jieba {version('jieba')}")
for text in ("metro 3d c++", "caf\u00e9", "cafe\u0301", "\u043c\u0435\u0442\u0440\u043e", "\u0643\u0644\u0628", "\u0e17\u0e35\u0e48"):
    print(ascii(text), ascii(jieba.lcut(text)))
PYTHON
)
echo "$seen"
expected="jieba 0.42.1
'metro 3d c++' ['metro', ' ', '3d', ' ', 'c++']
'caf\\xe9' ['caf', '\\xe9']
'cafe\\u0301' ['cafe', '\\u0301']
'\\u043c\\u0435\\u0442\\u0440\\u043e' ['\\u043c', '\\u0435', '\\u0442', '\\u0440', '\\u043e']
'\\u0643\\u0644\\u0628' ['\\u0643', '\\u0644', '\\u0628']
'\\u0e17\\u0e35\\u0e48' ['\\u0e17', '\\u0e35', '\\u0e48']"
[[ $seen == "$expected" ]] || { echo CHANGED; exit 1; }
echo "as seen before"
