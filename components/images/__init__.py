"""Pixels: files, datasets, the image store, patches, bicubic, metrics. No networks here."""
