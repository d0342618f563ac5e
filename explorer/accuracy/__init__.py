"""What a policy is worth: measured by real fine-tuning, or ordered by a proxy score."""
