"""A revision of the project, found by git and written to a folder that is deleted afterwards, even on SIGTERM.

It may import `graph` and `storage`.
"""
