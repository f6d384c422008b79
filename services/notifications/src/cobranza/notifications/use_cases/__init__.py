"""What notifications does: take requests for notices, send each once, tell what became of it."""
