"""Where payments reads what others made: the files of banks."""
