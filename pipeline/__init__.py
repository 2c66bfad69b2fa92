"""How the steps are joined: knows dvc.yaml, and of the steps themselves what `project.py` says."""
