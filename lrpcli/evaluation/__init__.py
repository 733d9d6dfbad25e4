"""Scores configs on region perturbation and localisation."""
