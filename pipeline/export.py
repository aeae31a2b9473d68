"""Write a trained network to a folder of its own: python -m pipeline.export --phase scst --out model/

The folder works on another machine without this project's data: python -m pipeline.caption --model model/ ...
"""

import argparse
from pathlib import Path

from fsgr_model.errors import run_command


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--phase", choices=["xe", "scst"], default="scst", help="which network (default scst)"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="a folder that is not there yet"
    )
    arguments = parser.parse_args()
    # It takes seconds to import.
    from fsgr_model.model_folder import export_model

    export_model(arguments.phase, arguments.out)
    size = sum(file.stat().st_size for file in arguments.out.rglob("*") if file.is_file())
    print(f"{arguments.out}: {size / 1e6:.1f} MB; its README.md says what is in it")


if __name__ == "__main__":
    run_command(main)
