"""How datasets and checkpoints come here, each proved by its checksum: servers, archives, installed packages."""
