"""`python -m stacmirror`: the same as the console script `stacmirror`."""

from stacmirror.cli.app import main

if __name__ == "__main__":
    main()
