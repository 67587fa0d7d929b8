"""gc, purge, migrate and bulk calls: what they cost, and being killed in them."""
