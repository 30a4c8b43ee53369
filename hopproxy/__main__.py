"""Where the `hopproxy` program begins: signals are heard before the commands are loaded."""

import sys

from hopproxy.begin import begin


def main() -> int:
    """Run the command that the command line names; the exit code."""
    begin()
    from hopproxy.cli import main as run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
