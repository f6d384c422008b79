"""The plumbing under every service; it knows no business noun."""
