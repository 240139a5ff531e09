"""What became of a signal: observations to fills, FIFO lots, policy-free labels. Pure."""
