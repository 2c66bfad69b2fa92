"""Fetch datasets and checkpoints from servers, archives and installed packages, each verified by its checksum."""
