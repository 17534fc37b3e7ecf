"""Hold the licenses of what an installation brings against what may be combined with Apache-2.0 and passed on.

`make audit` runs it; `python .ci/licenses.py` prints a line for each distribution, and fails where one is not known to
be free to use: then look at it, and add its words here or leave the dependency out. It reads the metadata of what is
installed and asks nobody.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution

ROOT = "stacmirror"
ALLOWED = re.compile(
    r"\b(?:Apache(?:-2\.0| Software License| License)?|BSD|0BSD|MIT|ISC|PSF|Python Software Foundation|Zlib|Unlicense"
    r"|MPL-2\.0|Mozilla Public License 2\.0|HPND|CC0-1\.0)\b",
    re.IGNORECASE,
)
REFUSED = re.compile(r"\b(?:A?GPL|LGPL|GNU|SSPL|BUSL|Commons Clause|Proprietary)\b", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def required(root: str = ROOT) -> list[Distribution]:
    """Return the distributions that installing `root` without extras brings, by name."""
    found: dict[str, Distribution] = {}
    waiting = [root]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # for another platform, or another Python
        for line in found[name].requires or ():
            match = _NAME.match(line)
            if match is not None and "extra ==" not in line:
                waiting.append(match[0])
    return [found[name] for name in sorted(found) if name != root]


def license_of(found: Distribution) -> str:
    """Return what a distribution says of its license: an expression, classifiers, or the first line of a text."""
    metadata = found.metadata
    expression = metadata.get("License-Expression") or ""
    classified = [
        line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier") or () if line.startswith("License ::")
    ]
    free_text = (metadata.get("License") or "").strip().partition("\n")[0]
    return expression or ", ".join(classified) or free_text or "not said"


def doubtful(licenses: Iterable[tuple[str, str]]) -> list[str]:
    """Return the names of those whose license is not known to be all right."""
    return [name for name, words in licenses if REFUSED.search(words) or not ALLOWED.search(words)]


def main() -> int:
    """Print each license; return 1 where one is doubtful."""
    licenses = [(found.name, license_of(found)) for found in required()]
    bad = doubtful(licenses)
    for name, words in licenses:
        sys.stdout.write(f"{'!' if name in bad else ' '} {name:<24} {words}\n")
    return 1 if bad or not licenses else 0


if __name__ == "__main__":
    sys.exit(main())
