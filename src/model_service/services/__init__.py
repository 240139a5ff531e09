"""Use cases and the ports that they need. No I/O of their own."""
