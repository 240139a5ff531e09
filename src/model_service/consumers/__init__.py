"""From the broker and the shared database into the service."""
