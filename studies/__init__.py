"""Large simulations that show whether the gate lets the right models through (`make study`)."""
