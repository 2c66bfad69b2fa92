"""What every step shares with its run: typed signatures, errors, files, progress."""
