"""What is stored: typed records, the view that they fold into, and their bytes."""
