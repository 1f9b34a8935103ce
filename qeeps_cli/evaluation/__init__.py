"""Person search scored: metrics (numpy only), protocols, runs over a benchmark, published results, and run time."""
