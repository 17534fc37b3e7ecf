"""Python peers as programs of their own. Run in `.venv-bench`, which has no stacmirror; started by `peers`.

Each takes a base and a file of paths, and writes the files below the working folder, 64 at a time.
"""
