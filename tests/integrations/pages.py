"""Python blocks of the documentation as modules: Litestar reads the module of a handler."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from jwks_guard.testing import LocalTenant

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"(?:<!-- ([\w ]+) -->\s*)?^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"# (\w+)\.py\n")


@contextmanager
def blocks(page: str, tenant: LocalTenant, name: str | None = None) -> Iterator[list[ModuleType]]:
    """The blocks of `page` in their order, with `tenant` in place of Auth0; or the one `name`.

    A block whose first line names a file can be imported by those that follow.
    """
    text = (ROOT / page).read_text().replace("https://acme.eu.auth0.com/", tenant.issuer)
    text = text.replace("https://api.acme.com", tenant.audience)
    codes = [code for named, code in _BLOCK.findall(text) if name in (None, named)]
    files = [_FILE.match(code) for code in codes]
    names = [file[1] if file else f"{page}#{number}" for number, file in enumerate(files)]
    modules = [ModuleType(name) for name in names]
    sys.modules.update({module.__name__: module for module in modules})
    try:
        for module, code in zip(modules, codes, strict=True):
            exec(compile(code, page, "exec", dont_inherit=True), vars(module))
        yield modules
    finally:
        for module in modules:
            del sys.modules[module.__name__]
