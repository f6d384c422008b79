"""What is true of money owed and received, without any database, broker or clock."""
