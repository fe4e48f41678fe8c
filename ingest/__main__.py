"""The program's entry: answers `--version` at once, and leaves everything else to `cli`.

Each of our processes imports this module, so it imports nothing at its top but what the interpreter holds already.
"""

import gc
import sys

# The libraries are some hundred thousand objects that stay: looking through them again and again while they are
# imported was a sixth of each process's start.
gc.set_threshold(100_000, 20, 20)


def main() -> None:
    """Run the command line and end the process with its exit code."""
    if sys.argv[1:] == ["--version"]:
        # Without the command line's own imports: they are most of what `--version` would cost.
        from ingest import __version__

        print(f"ingest {__version__}")
        return
    if any("://" in word for word in sys.argv):
        from ingest.cmdline import hide_typed_passwords

        hide_typed_passwords()
    from ingest.cli import app

    app(prog_name="ingest")


if __name__ == "__main__":
    main()
