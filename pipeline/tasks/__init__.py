"""What one container does: run a stage and pass on its results, or record the whole run as a DVC experiment.

It may import `deciding` and all that `deciding` may import.
"""
