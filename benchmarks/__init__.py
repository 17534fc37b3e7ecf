"""What stacmirror costs beside other downloaders, and how its cost grows. `make bench`; see RESULTS.md.

Benchmarks never decide a test.
"""
