"""The long runs of crash work, of which the test suite plays a sample; docs/reliability.md has their figures.

Usage: uv run python tests/crash/run.py COMMAND --help. Each ends with exit code 1 where the promise was broken, and
says what to type to see that once more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent))

import places
import points
import storm

COMMANDS = {"points": points, "failpoints": places, "storm": storm}


def main() -> int:
    """The command that was typed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        module.arguments(commands.add_parser(name, help=(module.__doc__ or "").partition("\n")[0]))
    options = parser.parse_args()
    return COMMANDS[options.command].main(options)


if __name__ == "__main__":
    sys.exit(main())
