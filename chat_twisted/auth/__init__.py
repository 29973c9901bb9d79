"""Who may be whom, and how that is proven."""
