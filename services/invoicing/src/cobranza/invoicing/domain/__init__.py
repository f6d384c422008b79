"""What is true of documents, without any database, broker or clock."""
