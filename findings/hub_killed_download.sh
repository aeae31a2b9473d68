#!/usr/bin/env bash
# huggingface_hub: what becomes of a download that was killed.
#
# Guess: a killed download continues where it stopped, in every version after the first that could.
# Seen:  1.17.0 continues: its second request asks for the rest. 1.18.0 begins anew with every start, and the
#        bytes of the killed download stay in the cache as a file that nothing uses or removes. It is meant:
#        every process writes a file of its own, since two that share one spoil it where locks do not hold
#        (pull request 4228). 2.4.0 still does so. Here fsgr_model/clip/hub_download.py downloads by itself.
#
# The hub is a server on this machine that has one file of 30 MB and stops half-way the first time.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cat > "$place/hub.py" <<'PYTHON'
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SIZE, FIRST_PART = 30_000_000, 22_000_000
# Pieces of 10 MiB are written: two of them reach the disk.
TWO_PIECES = 20 * 2**20
FETCH = "from huggingface_hub import hf_hub_download as get; print(get('some/model', 'weights.bin'))"
asked = []


class Answer(BaseHTTPRequestHandler):
    def head(self, start=0):
        self.send_response(206 if start else 200)
        self.send_header("ETag", '"weights"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(SIZE - start))
        self.send_header("Content-Range", f"bytes {start}-{SIZE - 1}/{SIZE}")
        self.end_headers()

    def do_HEAD(self):
        self.head()

    def do_GET(self):
        if self.path.startswith("/api/"):
            # 2.4.0 asks for a list of the files first, and does without one.
            self.send_error(404)
            return
        span = self.headers.get("Range")
        asked.append(span)
        start = int(re.match(r"bytes=(\d+)-", span)[1]) if span else 0
        self.head(start)
        if len(asked) > 1:
            self.wfile.write(bytes(SIZE - start))
            return
        self.wfile.write(bytes(FIRST_PART))
        time.sleep(60)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
cache = Path(tempfile.mkdtemp(dir=sys.argv[1]))
settings = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"}
command = [sys.executable, "-c", FETCH]
first = subprocess.Popen(command, env=os.environ | settings, stderr=subprocess.DEVNULL)
for _ in range(90):
    sizes = [path.stat().st_size for path in cache.rglob("*.incomplete")]
    if sizes and sizes[0] >= TWO_PIECES:
        break
    time.sleep(0.1)
assert len(asked) == 1, asked
first.kill()
first.wait()
done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True)
assert Path(done.stdout.strip()).stat().st_size == SIZE
left = sum(path.stat().st_size for path in cache.rglob("*.incomplete"))
print(f"first {sizes[0]} bytes, then asked for {asked[1] or 'all'}, left behind {left} bytes")
PYTHON

# expect VERSION TEXT
expect() {
    python3 -m venv "$place/$1"
    "$place/$1/bin/pip" install --quiet --disable-pip-version-check "huggingface_hub==$1" 2> "$place/pip.log" ||
        { cat "$place/pip.log"; exit 1; }
    local seen
    seen=$("$place/$1/bin/python" "$place/hub.py" "$place")
    echo "huggingface_hub $1: $seen"
    [[ $seen == "$2" ]] || { echo "CHANGED: expected $2"; exit 1; }
}

expect 1.17.0 "first 20971520 bytes, then asked for bytes=20971520-, left behind 0 bytes"
expect 1.18.0 "first 20971520 bytes, then asked for all, left behind 20971520 bytes"
expect 2.4.0 "first 20971520 bytes, then asked for all, left behind 20971520 bytes"
echo "as seen before"
