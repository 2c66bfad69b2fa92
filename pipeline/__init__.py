"""Joins the steps: it knows dvc.yaml, and about the steps themselves only what `project.py` says.

Each subpackage says in its `__init__.py` what it may import; all of them may import `messages.py`, `patience.py` and
`project.py`.
"""
