"""How a parameter of the library is given on the command line, for the hint behind an error."""
import argparse
from collections.abc import Iterable

# parameter of the library -> where a verb's parser keeps it, and what to do with its flag there
_HINTS = {
    "checkpoint_name": {"chk": "name another checkpoint with -chk"},
    "challenge": {"challenge": "name another challenge"},
    "classes": {"classes": "change --classes"},
    "configuration": {"c": "choose another configuration with -c"},
    "configurations": {"c": "choose configurations with -c"},
    "dataset": {"d": "choose another dataset with -d"},
    "dataset_id": {"d": "choose another id with -d"},
    "dataset_json": {"djfile": "name another dataset.json with -djfile"},
    "definition": {"definition": "choose another with --definition"},
    "device": {"device": "choose another with -device"},
    "dry_run": {"dry_run": "look with --dry-run"},
    "edition": {"edition": "choose an edition with --edition"},
    "executor": {"executor": "choose another with --executor"},
    "folds": {"f": "choose folds with -f"},
    "images": {"images": "name other images with --images"},
    "input_channels": {"channels": "change --channels"},
    "lesion_wise": {"lesion_wise": "leave out --lesion-wise"},
    "name": {"name": "choose another name with --name"},
    "names": {"names": "change --names"},
    "output": {"o": "choose another with -o"},
    "overwrite": {"overwrite": "replace it with --overwrite"},
    "patch_size": {"patch": "change --patch"},
    "plans_name": {"p": "name other plans with -p"},
    "predictions": {"pred": "name other predictions with -pred"},
    "processes": {"np": "take fewer processes with -np"},
    "references": {"gt": "name other references with -gt"},
    "retry": {"retry": "train it again with --retry"},
    "settings": {"set": "change --set"},
    "slurm": {"executor": "choose --executor slurm"},
    "template": {"template": "choose another template with --template"},
    "trainers": {"tr": "choose trainers with -tr"},
}


def hints_for(parameters: Iterable[str], parsed: argparse.Namespace) -> list[str]:
    """Return what one can type instead, for those of the library's parameters that the verb has flags for.

    Args:
        parameters: names of parameters, as an InputError has them.
        parsed: arguments of the verb.

    Examples:
        >>> hints_for(["output", "overwrite"], argparse.Namespace(verb="demo", o="folder"))
        ['choose another with -o']
    """
    return [hint for parameter in parameters for kept_as, hint in _HINTS[parameter].items() if kept_as in parsed]
