"""stacmirror mirrors whole STAC collections to disk. This module holds the public names and nothing else."""

__version__ = "0.1.0"
