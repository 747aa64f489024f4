"""Live data: training while an ensemble of solvers runs."""
