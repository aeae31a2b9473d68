"""Show a trained model and its project in the browser: fsgr page

Opens a page on this machine: try the model on your own pictures, look at the captions of the test split,
compare experiments, watch runs. Nothing is loaded from elsewhere. Without --model it shows the project in
this folder. It also answers HTTP: `curl --data-binary @photo.jpg http://127.0.0.1:8765/api/caption`.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fsgr_model.runtime.errors import UserError, needing_extra

if TYPE_CHECKING:
    from fsgr_model.page.app import Served


def main() -> None:
    arguments = parse()
    with needing_extra("page"):
        from fsgr_model.page.app import make_app
        from fsgr_model.page.server import Place, address, listening, serve

    place = Place(arguments.host, arguments.port)
    with listening(place) as listener:
        access = place.access()
        app = make_app(served(arguments), access)
        print(f"open {address(place, listener, access)} (Ctrl-C ends it)", flush=True)
        serve(app, listener)


def served(arguments: argparse.Namespace) -> "Served":
    """The exported model, or the network and the results of the project in this folder.

    Raises:
        UserError: there is neither, or a file is damaged.
    """
    from fsgr_model.inference.hub_model import local_folder
    from fsgr_model.inference.image_captioner import ImageCaptioner
    from fsgr_model.inference.model_folder import exported_model, pipeline_model
    from fsgr_model.inference.onnx_folder import NO_MAPS, OnnxFiles
    from fsgr_model.page.app import Served
    from fsgr_model.page.project import Project

    if arguments.model is not None:
        exported = exported_model(local_folder(arguments.model))
        if isinstance(exported, OnnxFiles):
            raise UserError(f"the page shows where the network looked: {NO_MAPS}")
        captioner = ImageCaptioner(exported)
        return Served(Path(arguments.model).resolve().name, captioner, None)
    if not Path("params.yaml").is_file():
        raise UserError(
            "there is no project in this folder (no params.yaml); go to one, or name a folder that fsgr "
            "export wrote with --model"
        )
    files = pipeline_model(arguments.phase)
    trained = (files.weights / "model.safetensors").is_file()
    return Served(
        title=f"{Path.cwd().name}, {arguments.phase}",
        captioner=ImageCaptioner(files) if trained else None,
        project=Project(Path()),
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fsgr page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--model", metavar="FOLDER", help="a folder that fsgr export wrote, or hf://owner/name"
    )
    which.add_argument(
        "--phase", choices=["xe", "scst"], default="scst", help="the project's network (default scst)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at (default 127.0.0.1, this machine alone; elsewhere a token is asked for)",
    )
    parser.add_argument("--port", type=int, default=8765, help="default 8765; 0: any that is free")
    return parser.parse_args()
