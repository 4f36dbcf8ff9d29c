"""What all records say together: tables, verdicts on the papers' claims, generated pages."""
