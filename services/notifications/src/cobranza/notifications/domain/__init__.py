"""What is true of notices, without any database, provider or clock."""
