"""How the steps are joined: knows dvc.yaml, never the steps' code."""
