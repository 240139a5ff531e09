"""Who decides: the warm-up policy, the model policy and the exit policy behind one protocol."""
