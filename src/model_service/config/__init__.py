"""Settings, logging and strategy definitions."""
