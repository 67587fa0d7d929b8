"""The public classes: both stores under the conformance suites, models, settings, errors, backup, doctor."""
