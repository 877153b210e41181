"""Pictures that benchmarks draw for the documentation's pages."""
