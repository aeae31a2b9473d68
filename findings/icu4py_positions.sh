#!/usr/bin/env bash
# icu4py 1.2.0 (ICU 78.3): positions of words that do not fit the string they are of.
#
# Guess: WordBreaker(text).segments() gives (start, end) so that text[start:end] is the word that iterating gives.
# Seen:  so it is up to the first character beyond the BMP, such as the first of the name 𠮷野家. From there on each
#        position is one too large, for each such character before it, since ICU counts in UTF-16: all later slices
#        are cut in the wrong place, and nothing is said. The words that iterating gives are right.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check icu4py==1.2.0 2> "$place/pip.log" ||
    { cat "$place/pip.log"; exit 1; }
seen=$("$place/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

import icu4py
from icu4py.breakers import WordBreaker

print(f"icu4py {version('icu4py')}, ICU {icu4py.icu_version}")
for text in ("吉野家 opens", "𠮷野家 opens"):
    breaker = WordBreaker(text, "ja")
    print("words ", list(breaker), "slices", [text[start:end] for start, end in breaker.segments()])
PYTHON
)
echo "$seen"
expected="icu4py 1.2.0, ICU 78.3
words  ['吉野', '家', ' ', 'opens'] slices ['吉野', '家', ' ', 'opens']
words  ['𠮷', '野家', ' ', 'opens'] slices ['𠮷野', '家 ', 'o', 'pens']"
[[ $seen == "$expected" ]] || { echo CHANGED; exit 1; }
echo "as seen before"
