"""What tests of durable agents need: stores that fail on demand, and the processes that die at chosen moments."""
