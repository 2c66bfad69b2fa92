"""How the steps are joined: knows dvc.yaml, and of the steps themselves what `project.py` says.

Each room says at its door what it knows and what it may import; all of them may import `messages.py` and `project.py`.
"""
