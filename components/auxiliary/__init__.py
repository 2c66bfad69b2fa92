"""Frozen networks that a method needs besides the teacher: encoders, ensembles, privileged teachers."""
