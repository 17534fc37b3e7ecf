"""Run one command and write what it cost as JSON: `python -I -S launch.py REPORT COMMAND...`.

A process of its own between `measure` and the command, because Linux counts the starter's own memory in the child's
peak: started from here, a child that needs less than this small program's 10 MiB is all that is misjudged. It
imports nothing but the standard library's smallest parts. `os.wait4` counts the command and all it waited for.
"""

import os
import sys
import time


def main() -> None:
    """Run, wait, report."""
    report, command = sys.argv[1], sys.argv[2:]
    started_s = time.monotonic()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, used = os.wait4(child, 0)
    seconds = time.monotonic() - started_s
    code = os.waitstatus_to_exitcode(status)
    with open(report, "w") as file:
        file.write(
            f'{{"exit_code": {code}, "seconds": {seconds}, "cpu_s": {used.ru_utime + used.ru_stime}, '
            f'"rss_kib": {used.ru_maxrss}}}'
        )


if __name__ == "__main__":
    main()
