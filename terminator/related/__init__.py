"""The related systems, one module or package each, on the same bench as Terminator."""
