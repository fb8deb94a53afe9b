"""The Python behind scripts/: standard library only, Debian 12 and 13."""
