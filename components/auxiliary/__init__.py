"""Frozen networks that a method needs beside the teacher: encoders, ensembles, privileged teachers."""
