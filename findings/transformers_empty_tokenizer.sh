#!/usr/bin/env bash
# transformers 5.17.0: the tokenizer of a model that was saved without one knows no word, and nothing is said.
#
# Guess: model.save_pretrained(folder) writes no tokenizer, so AutoTokenizer.from_pretrained(folder) raises.
# Seen:  it gives a tokenizer of the class that config.json implies, with special tokens and no others: each word of
#        BERT, XLM-R and T5 is unknown, and for GPT-2 and BART a text has no token at all. There is no warning. So a
#        model whose tokenizer was not saved with it, or of which the hub's cache has only config.json on a machine
#        without a connection, is trained and scored on texts that are all alike.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.17.0 2> "$place/pip.log" ||
    { cat "$place/pip.log"; exit 1; }
seen=$(HF_HUB_OFFLINE=1 "$place/venv/bin/python" - 2> "$place/warnings" <<'PYTHON'
import tempfile

import transformers
from transformers import AutoTokenizer

print("transformers", transformers.__version__)
for name in ("BertConfig", "XLMRobertaConfig", "T5Config", "GPT2Config", "BartConfig"):
    with tempfile.TemporaryDirectory() as folder:
        getattr(transformers, name)().save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    numbers = tokenizer("a dog", add_special_tokens=False).input_ids
    print(f"{name}: {len(tokenizer)} tokens; a dog: {tokenizer.convert_ids_to_tokens(numbers)}")
PYTHON
) || { cat "$place/warnings"; exit 1; }
echo "$seen"
expected="transformers 5.17.0
BertConfig: 5 tokens; a dog: ['[UNK]', '[UNK]']
XLMRobertaConfig: 5 tokens; a dog: ['<unk>', '<unk>']
T5Config: 104 tokens; a dog: ['▁', '<unk>', '▁', '<unk>']
GPT2Config: 1 tokens; a dog: []
BartConfig: 5 tokens; a dog: []"
[[ $seen == "$expected" ]] || { echo CHANGED; exit 1; }
echo "as seen before"
