"""A revision of the project, found by git and written to a folder that is gone afterwards, also at SIGTERM.

It may import `graph` and `storage`.
"""
