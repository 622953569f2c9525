"""`nnUNetv2_gsp export`: writes a trained model to share it, or to run it without PyTorch."""

import argparse
from pathlib import Path

from nnunetv2_gsp.cli.arguments import Verbs, listed
from nnunetv2_gsp.errors import ConflictingInputError
from nnunetv2_gsp.nnunet import FINAL_CHECKPOINT
from nnunetv2_gsp.runtimes.formats import BUNDLE, FORMATS, WEB, format_of


def run(arguments: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    format = arguments.format or format_of(arguments.o)
    if format == BUNDLE:
        return _export_bundle(arguments)
    if format == WEB:
        return _export_page(arguments)
    from nnunetv2_gsp.runtimes.exporting import export_network

    files = export_network(
        arguments.model_folder,
        arguments.o,
        format,
        arguments.f,
        arguments.chk,
        arguments.separate_folds,
        arguments.overwrite,
    )
    print(f"Wrote {', '.join(map(str, files))}")
    return 0


def _export_bundle(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.sharing import export_model

    bundle = export_model(arguments.model_folder, arguments.o, arguments.f, arguments.chk, arguments.overwrite)
    print(f"Wrote {bundle}")
    return 0


def _export_page(arguments: argparse.Namespace) -> int:
    from nnunetv2_gsp.web.writing import write_page

    if arguments.separate_folds:
        raise ConflictingInputError("the mean of the folds, as a page has one network", "--separate-folds")
    page = write_page(
        arguments.model_folder, arguments.o, arguments.f, arguments.chk, arguments.libraries, arguments.overwrite
    )
    print(f"Wrote {page}. Open it in a browser; it needs no network, and the folder can be copied anywhere")
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    export = verbs.add_parser(
        "export",
        help="write a trained model as a small zip without pickle, or for a program without PyTorch",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=listed(
            "formats", {name: f"{known.ending or 'FOLDER'}: {known.description}" for name, known in FORMATS.items()}
        ),
    )
    export.add_argument(
        "model_folder", type=Path, metavar="MODEL_FOLDER", help="TRAINER__PLANS__CONFIGURATION in nnUNet_results"
    )
    export.add_argument("-o", type=Path, required=True, metavar="FILE", help="the new file or folder")
    export.add_argument(
        "--format", choices=FORMATS, help="see below (default: as FILE ends, or a bundle)", metavar="FORMAT"
    )
    export.add_argument(
        "-f",
        nargs="+",
        metavar="FOLD",
        help="0 1 ..., or all for the fold of that name (default: those that have the checkpoint)",
    )
    export.add_argument(
        "-chk",
        default=FINAL_CHECKPOINT,
        metavar="NAME",
        help="file of the checkpoint in each fold's folder (default: %(default)s)",
    )
    export.add_argument(
        "--separate-folds",
        action="store_true",
        help="one network for each fold, as FILE_fold_0.onnx, not their mean; a bundle keeps folds apart anyway",
    )
    export.add_argument(
        "--libraries",
        type=Path,
        metavar="FOLDER",
        help="for web: npm's archives of the page's JavaScript libraries; missing ones are downloaded into it, 40 MB "
        "(default: a folder in the user's cache)",
    )
    export.add_argument("--overwrite", action="store_true", help="replace files of those names")
    export.set_defaults(run=run)
