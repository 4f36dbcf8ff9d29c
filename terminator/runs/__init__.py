"""Evidence: run it or read what is there, records, studies, comparisons, verdicts."""
