"""Export a trained network to a folder: fsgr export --phase scst --out model/

The folder works on another machine without this project's data: fsgr caption --model model/ ...
With --push hf://owner/name it is on the Hugging Face hub: fsgr caption --model hf://owner/name ...
With --onnx the network is written as ONNX graphs, which the same commands run with onnxruntime.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="fsgr export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--phase", choices=["xe", "scst"], default="scst", help="which network (default scst)"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="a folder that does not exist yet")
    parser.add_argument(
        "--push",
        metavar="hf://OWNER/NAME",
        help="upload it to the Hugging Face hub; a repository that is new there is private",
    )
    parser.add_argument("--onnx", action="store_true", help="as ONNX graphs, for onnxruntime on a CPU")
    arguments = parser.parse_args()
    if arguments.out is None and arguments.push is None:
        parser.error("give --out FOLDER, --push hf://OWNER/NAME, or both")
    # This import takes seconds.
    from fsgr_model.inference.hub_model import parse_address, push
    from fsgr_model.inference.model_folder import export_model

    if arguments.push is not None:
        parse_address(arguments.push)
    with TemporaryDirectory() as temporary:
        out = arguments.out or Path(temporary) / "model"
        export_model(arguments.phase, out, onnx=arguments.onnx)
        size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
        print(f"{arguments.out or arguments.push}: {size / 1e6:.1f} MB; its README.md says what is in it")
        if arguments.push is not None:
            print(f"{push(out, arguments.push)} has it; whoever names the commit gets these bytes")
