"""requirements-lowest.txt, the lower bound of every requirement: python -m tests.listings.lowest"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "requirements-lowest.txt"
LINE = re.compile(r"(?P<name>[\w.-]+)(?:>=(?P<lowest>[\d.]+),<[\d.]+|==(?P<only>[\d.]+))\s+# .+")
HEAD = "# Lower bounds of requirements.txt, for make test-lowest; from python -m tests.listings.lowest\n"


def page(requirements: str) -> str:
    """One pin a requirement.

    Raises:
        ValueError: a line is not `name>=lowest,<bound  # why` or `name==only  # why`.
    """
    pins = []
    for line in requirements.splitlines():
        if line.startswith("#"):
            continue
        found = LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"requirements.txt: no lower and upper bound with a reason: {line}")
        pins.append(f"{found['name']}=={found['lowest'] or found['only']}\n")
    return HEAD + "".join(pins)


if __name__ == "__main__":
    PAGE.write_text(page((ROOT / "requirements.txt").read_text(encoding="utf-8")), encoding="utf-8")
