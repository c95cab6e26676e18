"""Problems on a working graph: packings of cliques, chains, placement, and the device's limits."""
