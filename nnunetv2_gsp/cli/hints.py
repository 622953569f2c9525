"""Turns names of library parameters into hints on command-line flags, for error messages."""

import argparse
from collections.abc import Iterable

# parameter of the library -> {attribute of a verb's parsed arguments: hint that names its flag}
_HINTS = {
    "archive": {"file": "name another archive"},
    "budget_gmacs": {"budget_macs": "raise it with --budget-macs"},
    "budget_ms": {"budget_ms": "raise it with --budget-ms"},
    "challenge": {"challenge": "name another challenge"},
    "checkpoint_name": {"chk": "name another checkpoint with -chk"},
    "chill": {"chill": "leave out with --chill what only one side has"},
    "classes": {"classes": "change --classes"},
    "configuration": {"c": "choose another configuration with -c"},
    "configurations": {"c": "choose configurations with -c"},
    "cross_validation": {"cv_folder": "name a cross-validation with --cv-folder"},
    "dataset": {"d": "choose another dataset with -d"},
    "dataset_id": {"d": "choose another id with -d"},
    "dataset_json": {"djfile": "name another dataset.json with -djfile"},
    "definition": {"definition": "choose another with --definition"},
    "device": {"device": "choose another with -device"},
    "dry_run": {"dry_run": "look with --dry-run"},
    "edition": {"edition": "choose an edition with --edition"},
    "et_threshold": {"et_threshold": "change --et-threshold"},
    "executor": {"executor": "choose another with --executor"},
    "folds": {"f": "choose folds with -f"},
    "format": {"format": "choose another with --format"},
    "held_out": {},  # an argument of Python alone, or one that the command line has checked
    "image_folder": {"i": "name another folder of images with -i"},
    "images": {"images": "name other images with --images"},
    "interface": {},
    "input_channels": {"channels": "change --channels"},
    "input_slugs": {"input_slugs": "change --input-slugs"},
    "json_file": {"json": "name another file with --json"},
    "kept": {"keep": "change --keep"},
    "lesion_wise": {"lesion_wise": "leave out --lesion-wise"},
    "libraries": {"libraries": "name a folder that has them with --libraries"},
    "markdown_file": {"markdown": "name another file with --markdown"},
    "model": {"m": "name another model with -m"},
    "models": {"models": "name other models"},
    "name": {"name": "choose another name with --name"},
    "names": {"names": "change --names"},
    "output": {"o": "choose another with -o"},
    "output_name": {"name": "choose another name with --name"},
    "output_slug": {"output_slug": "change --output-slug"},
    "overwrite": {"overwrite": "replace it with --overwrite"},
    "patch_size": {"patch": "change --patch"},
    "plans_name": {"p": "name other plans with -p"},
    "plans_names": {"p": "name other plans with -p"},
    "predictions": {"pred": "name other predictions with -pred", "i": "name another folder of predictions with -i"},
    "primary": {"primary": "choose another with --primary"},
    "previous_stage": {"prev_stage_predictions": "name the folder with -prev_stage_predictions"},
    "processes": {"np": "take fewer processes with -np"},
    "raw_labels": {
        "gt": "convert the challenge's references with nnUNetv2_gsp convert, and evaluate predictions as nnU-Net wrote "
        "them, before nnUNetv2_gsp submit"
    },
    "references": {"gt": "name other references with -gt"},
    "rounds": {"rounds": "change --rounds"},
    "settings": {"set": "change --set"},
    "slurm": {"executor": "choose --executor slurm"},
    "source": {"source": "name another SOURCE"},
    "strict": {"strict": "leave out --strict"},
    "table": {},
    "template": {"template": "choose another template with --template (nnUNetv2_gsp templates lists them)"},
    "trainers": {"tr": "choose trainers with -tr"},
}


def hints_for(parameters: Iterable[str], parsed: argparse.Namespace) -> list[str]:
    """Return a hint for each of the library's parameters that the verb has a flag for.

    Args:
        parameters: names of parameters, as an InputError has them.
        parsed: parsed arguments of the verb.

    Examples:
        >>> hints_for(["output", "overwrite"], argparse.Namespace(verb="demo", o="folder"))
        ['choose another with -o']
    """
    return [
        hint for parameter in parameters for kept_as, hint in _HINTS.get(parameter, {}).items() if kept_as in parsed
    ]
