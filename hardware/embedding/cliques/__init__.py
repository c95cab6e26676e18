"""Many disjoint cliques: shapes, where they fit, and which of those places are taken."""
