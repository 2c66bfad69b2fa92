"""Frozen networks that a method needs beside the teacher: encoders, committees, privileged teachers."""
