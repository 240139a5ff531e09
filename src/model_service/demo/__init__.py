"""A simulated market and a paper order-manager that speak only the public contracts."""
