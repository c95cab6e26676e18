"""Local samplers: simulated annealing, and diabatic quantum annealing with its schedules."""
