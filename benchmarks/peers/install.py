"""Install the engines that ours is measured beside, each by itself: one that can't be had doesn't keep the others away.

From PyPI the packages of the extra ``bench``, from npm Restate's server and its SDK for TypeScript, into ``peers`` of the
virtual environment that runs this. Restate's server needs no root; absurd needs Debian's ``postgresql``, which is used
where it is there, and not installed from here.

usage: python -m benchmarks.peers.install
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
NPM = ("@restatedev/restate-server@1.7.12", "@restatedev/restate-sdk@1.17.2")
LIMIT_S = 300.0


def npm_folder() -> Path:
    """Where npm's packages are put."""
    return Path(sys.prefix) / "peers"


def had(command: list[str]) -> bool:
    """Whether a package manager did what it was told."""
    try:
        return subprocess.run(command, timeout=LIMIT_S, stdout=subprocess.DEVNULL, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main() -> None:
    """Install what can be had and tell the rest."""
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["bench"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    missing = [name for name in extra if not had([*pip, name])]
    npm = shutil.which("npm")
    if npm is None:
        missing.append("Restate (npm is not there)")
    else:
        npm_folder().mkdir(exist_ok=True)
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent", "--prefix", str(npm_folder())]
        missing += [name for name in NPM if not had([npm, "install", *options, name])]
    for name in missing:
        print(f"can't be had here, its column stays empty: {name}", file=sys.stderr)


if __name__ == "__main__":
    main()
