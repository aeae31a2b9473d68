"""Export a trained network to a folder: fsgr export --phase scst --out model/

The folder works on another machine without this project's data: fsgr caption --model model/ ...
"""

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="fsgr export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--phase", choices=["xe", "scst"], default="scst", help="which network (default scst)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="a folder that does not exist yet"
    )
    arguments = parser.parse_args()
    # This import takes seconds.
    from fsgr_model.inference.model_folder import export_model

    export_model(arguments.phase, arguments.out)
    size = sum(file.stat().st_size for file in arguments.out.rglob("*") if file.is_file())
    print(f"{arguments.out}: {size / 1e6:.1f} MB; its README.md says what is in it")
