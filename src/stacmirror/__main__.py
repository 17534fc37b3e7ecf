"""`python -m stacmirror`, and the console script `stacmirror`: load the program, and run it."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the program and end the process. A Ctrl-C that comes while it loads ends it at once, without a traceback."""
    caught = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored, as in the background
    if caught:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from stacmirror.cli.app import main as program

    if caught:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    program()


if __name__ == "__main__":
    main()
