"""How a command ends: exit codes, and failures that end it with a message."""

DONE, BAD_CONFIGURATION, BAD_USAGE, COULD_NOT_BIND, FAULT, INTERRUPTED = 0, 1, 2, 3, 70, 130


class Failure(Exception):
    """Ends the command with a message and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
