"""Contact: templates, channels and delivery, each notice handed over at most once."""
