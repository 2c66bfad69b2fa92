"""The files of DVC's cache, and the remote that keeps them: every transfer is proved by size and hash.

It may import nothing of the other rooms.
"""
