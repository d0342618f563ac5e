"""Genes to designs, designs to candidates, candidates to a front."""
