"""Figures: each is data (all choices made) and draw (none left)."""
