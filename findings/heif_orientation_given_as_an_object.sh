#!/usr/bin/env bash
# pillow-heif 1.8.1 with Pillow 12.3.0: EXIF given to save() as an object.
#
# Guess: save(..., exif=image.getexif()) keeps a photograph upright in HEIC as it does in JPEG, PNG, WebP and AVIF,
#        whether the EXIF data are an object or bytes.
# Seen:  as bytes the picture is turned. As an object the tag is stored, but the picture is not turned, and reading sets
#        the tag to 1: it lies on its side, and nothing in the opened image says so but info["original_orientation"].
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check pillow-heif==1.8.1 pillow==12.3.0 \
    2> "$place/pip.log" || { cat "$place/pip.log"; exit 1; }
seen=$("$place/venv/bin/python" - <<'PYTHON'
import io

import pillow_heif
from PIL import Image, ImageOps

pillow_heif.register_heif_opener()
shown = []
for kind in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF"):
    for as_bytes in (False, True):
        exif = Image.Exif()  # anew each time: the writer of AVIF takes the orientation out of the object
        exif[0x0112] = 6  # turn a quarter to the right: 48 x 32 is to be seen as 32 x 48
        given = exif.tobytes() if as_bytes else exif
        file = io.BytesIO()
        Image.new("RGB", (48, 32), "red").save(file, kind, exif=given)
        size = ImageOps.exif_transpose(Image.open(file)).size
        shown.append(f"{kind} {type(given).__name__} {size[0]}x{size[1]}")
print("; ".join(shown))
PYTHON
)
echo "$seen"
expected=""
for kind in JPEG PNG WEBP AVIF; do expected+="$kind Exif 32x48; $kind bytes 32x48; "; done
[[ $seen == "${expected}HEIF Exif 48x32; HEIF bytes 32x48" ]] || { echo CHANGED; exit 1; }
echo "as seen before"
