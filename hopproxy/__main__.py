"""The entry point of `hopproxy`: signal handlers are set before the commands are imported."""

import sys

from hopproxy.begin import begin


def main() -> int:
    """Run the command on the command line and return its exit code."""
    begin()
    from hopproxy.cli import main as run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
