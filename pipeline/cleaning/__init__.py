"""What nothing needs any more, listed and removed: files that steps keep, experiments that nobody named, old results.

It may import `graph`.
"""
