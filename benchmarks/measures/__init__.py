"""What is measured, one module a measure. Each has `measure(bench)`, which returns rows, and says how it measures."""
