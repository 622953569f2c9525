"""HTML from Jinja templates that lie beside the modules that fill them; what is filled in is escaped."""

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape


def render(template: str, **content: object) -> Markup:
    """Fill a template.

    Args:
        template: its path inside the package, such as "table.html.j2".
        content: by the names that the template uses.
    """
    return Markup(_environment().get_template(template).render(content))


def breakable(text: str) -> Markup:
    """Let long names break where a word begins; escapes the text.

    Examples:
        >>> breakable("nnUNetTrainerGSP_5epochs")
        Markup('nnUNet<wbr>Trainer<wbr>GSP_<wbr>5epochs')
    """
    parts = re.split(r"(?<!\bnn)(?<=[a-z])(?=[A-Z])|(?<=_)", text)
    return Markup("<wbr>").join(map(escape, parts))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("nnunetv2_gsp", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment
