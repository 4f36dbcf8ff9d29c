"""What all records say together: tables, verdicts on the papers' claims, the README's blocks."""
