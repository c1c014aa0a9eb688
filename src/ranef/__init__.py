"""ranef."""
