"""Measured results: studies of protocols, printed scores, ensembles and safeguards, each written by one command."""
