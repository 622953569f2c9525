"""Stand-ins for the JavaScript libraries."""

from nnunetv2_gsp.web.libraries import LIBRARIES

FILES = {name: f"// {name}".encode() for library in LIBRARIES for name in library.files}
