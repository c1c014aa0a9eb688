"""Latent terms: what sweeps over them learn, and how they are fitted."""
