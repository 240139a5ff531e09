"""What crosses the wire: signals, executions and market events, and their decoders."""
