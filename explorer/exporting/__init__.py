"""Policies in the form that other programs run: a torch script, a C header."""
