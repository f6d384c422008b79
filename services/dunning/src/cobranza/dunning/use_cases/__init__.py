"""What dunning does: keep the facts others tell, decide for each account, and tell what it decided."""
