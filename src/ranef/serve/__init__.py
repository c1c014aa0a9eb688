"""Fitted models for other processes: stores of what was computed beforehand, and the HTTP service."""
