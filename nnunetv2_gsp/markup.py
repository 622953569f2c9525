"""Makes HTML from Jinja templates, which lie beside the modules that fill them; all content is escaped."""

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape


def render(template: str, **content: object) -> Markup:
    """Fill a template, and return the HTML.

    Args:
        template: path of the template inside the package, such as "table.html.j2".
        content: values for the template, by the names that it uses.
    """
    return Markup(_environment().get_template(template).render(content))


def breakable(text: str) -> Markup:
    """Escape a text, and let long names in it break where a word begins.

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
