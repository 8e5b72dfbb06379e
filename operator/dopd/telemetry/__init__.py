"""What the load is and how the workers fare: Prometheus, engines, gateway. All I/O, no decision."""
