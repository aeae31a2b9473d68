"""How the last run stands to the committed one: python -m fsgr_model standing (the end of `make repro`)"""

from pathlib import Path

from fsgr_model.scoring.standing import standing


def main() -> None:
    for line in standing(Path("metrics"), Path("params.yaml")):
        print(line)
