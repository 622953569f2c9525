"""`nnUNetv2_gsp templates`: lists the templates."""

import argparse

from nnunetv2_gsp.cli.arguments import Verbs


def run(_: argparse.Namespace) -> int:
    """Run the verb and return the exit code."""
    from nnunetv2_gsp.plans_templates import load_template, template_names

    width = max(map(len, template_names()))
    for name in template_names():
        print(f"{name:<{width}}  {load_template(name).description}")
    return 0


def add(verbs: Verbs) -> None:
    """Add the verb and its arguments."""
    templates = verbs.add_parser("templates", help="list the templates, a line each")
    templates.set_defaults(run=run)
