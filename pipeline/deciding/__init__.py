"""Which stages have to run, why, and what that takes, from dvc.lock, its fragments and the runs that DVC remembers.

It may import `graph`, `storage` and `working_copy`.
"""
