"""Real servers for the demonstration, the tests and the benchmarks; not in the wheel."""
