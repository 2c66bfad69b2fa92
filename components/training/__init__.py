"""The training loop and what it needs: recipes, checkpoints, distribution."""
