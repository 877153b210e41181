"""Made-up data that benchmarks measure on."""
