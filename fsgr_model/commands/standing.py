"""Compare the last run with the committed one: fsgr standing (the end of `make repro`)"""

import argparse
from pathlib import Path

from fsgr_model.scoring.standing import tell_standing


def main() -> None:
    argparse.ArgumentParser(prog="fsgr standing", description=__doc__).parse_args()
    tell_standing(Path("metrics"), Path("params.yaml"))
