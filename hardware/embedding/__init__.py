"""How problems lie on a working graph: packings of cliques, chains, limits."""
